"""python -m tests.faults.mesh --rounds 100 [--seed N] [--faults 4] [--backlog 5000000] [--folder DIR]

Real meshes under real faults: each round is one mesh (line, star, ring, full mesh of 2 to 5 nodes), load at every node,
a few faults and the check of everything. Prints the seed of every round; one seed chooses topology, wishes and faults
(not their interleaving: the machine has its own). Exit code 1 at the first fault; its folder then stays.
--backlog: a long outage with so many events waiting instead (see mesh_backlog.py).
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.mesh_backlog import run_backlog
from tests.faults.mesh_rig import MeshRig
from tests.mesh.sim.scenario import TOPOLOGIES
from tests.support.checker import Figures
from tests.support.mesh_checker import lines, summary


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mesh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"), help="of the first round")
    parser.add_argument("--faults", type=int, default=4, help="per round")
    parser.add_argument("--backlog", type=int, default=0, help="events that wait during a long outage")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    return parser.parse_args()


def make_rig(folder: Path, seed: int) -> MeshRig:
    chooser = random.Random(f"mesh-{seed}")
    return MeshRig(folder, chooser.choice(TOPOLOGIES), chooser.choice((2, 3, 3, 4, 5)), seed=seed, rate=80.0,
                   jumps=chooser.random() < 0.3)


def one_round(folder: Path, seed: int, faults: int) -> tuple[MeshRig, Figures]:
    rig = make_rig(folder, seed)
    with rig.running():
        for _ in range(faults):
            rig.fault()
        figures = rig.check()
    return rig, figures


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that nodes and clients are stopped
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mesh-faults-"))
    print(f"seed {options.seed}, {folder}", flush=True)
    if options.backlog:
        print(run_backlog(folder / "backlog", options.backlog))
    else:
        found = rounds(options, folder)
        if found:
            return found
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def rounds(options: argparse.Namespace, folder: Path) -> int:
    taken: list[Figures] = []
    kinds: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    start_s = time.monotonic()
    for number in range(options.rounds):
        seed = options.seed + number
        rig, figures = one_round(folder / str(seed), seed, options.faults)
        taken.append(figures)
        kinds.update(rig.faults)
        shapes[rig.topology] += 1
        print(f"round {number + 1}: acked {figures.acked}, {'clean' if figures.clean else 'FAULT'}, {rig.summary()}",
              flush=True)
        if not figures.clean:
            print(f"\n{figures}\neverything is kept in {folder / str(seed)}")
            return 1
        if options.folder is None:
            shutil.rmtree(folder / str(seed))
    print(f"\n{len(taken)} rounds in {time.monotonic() - start_s:.0f} s; {dict(shapes)}; {dict(kinds)}")
    print("\n".join(lines(summary(taken))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
