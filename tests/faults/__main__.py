"""python -m tests.faults --rounds 200 [--seed N] [--check-every 10] [--folder DIR]

The long run: kill -9 at random moments under load, in one data directory, and everything checked again and again.
Prints the seed first; the same seed gives the same moments (not the same interleaving: the machine has its own).
Exit code 1 at the first fault; the folder with journals, data and log then stays for whoever looks for the cause.
"""
from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.rig import Rig
from tests.faults.test_kill import SMALL_SEGMENTS, WRITTEN
from tests.support.checker import Figures

STREAMS = {"default": "", "written": WRITTEN, "segments": SMALL_SEGMENTS}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--check-every", type=int, default=10, help="rounds between two checks of everything")
    parser.add_argument("--streams", choices=tuple(STREAMS), default="default",
                        help="default; written: durability write; segments: 3 partitions, 256 KiB segments")
    parser.add_argument("--version", type=int, choices=(4, 5), default=5, help="MQTT 3.1.1 or 5")
    parser.add_argument("--rate", type=float, default=400.0, help="events per second of each MQTT producer")
    parser.add_argument("--group", type=int, default=0, help="members of a shared subscription beside the others")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    return parser.parse_args()


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that the node and the clients are stopped
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"seed {options.seed}, {options.rounds} rounds, {options.streams}, MQTT version {options.version}, {folder}",
          flush=True)
    rig = Rig(folder, seed=options.seed, extra=STREAMS[options.streams], version=options.version, rate=options.rate,
              group=options.group)
    start = time.monotonic()
    with rig.running():
        for number in range(1, options.rounds + 1):
            rig.kill_round()
            if number % options.check_every == 0 or number == options.rounds:
                rig.wait_for_load()
                last = number == options.rounds
                figures = rig.check(resume=not last, whole=last)
                took_s = time.monotonic() - start
                print(f"round {number}: {took_s:.0f} s, acked {figures.acked}, {_short(figures)}", flush=True)
                if not figures.clean:
                    return _failed(rig, figures, folder)
        stopped = rig.node.stop()
        complaint = rig.verify_log()
    print(f"\n{rig.summary()}\n{figures}\nexit code of the node {stopped}, log verify: {complaint or 'clean'}")
    if stopped or complaint:
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def _short(figures: Figures) -> str:
    return "clean" if figures.clean else ", ".join(f"{kind} {count}" for kind, count in figures.faults.items())


def _failed(rig: Rig, figures: Figures, folder: Path) -> int:
    print(f"\nFAULT {rig.summary()}\n{figures}\neverything is kept in {folder}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
