"""kill -9 at random moments, under load from MQTT QoS 1, QoS 2 and REST, many times in one data directory.

Per commit: 5 rounds per cell. The long run: `python -m tests.faults --rounds 200`.
"""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.rig import Rig

ROUNDS = int(os.environ.get("MESHGATE_FAULT_ROUNDS", "5"))
SEED = int(os.environ.get("MESHGATE_FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
WRITTEN = '[[streams]]\nname = "events"\ncapture = ["#"]\ndurability = "write"\n'
SMALL_SEGMENTS = '[[streams]]\nname = "events"\ncapture = ["#"]\npartitions = 3\nsegment_bytes = "256KiB"\n'


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("extra", "version"), [("", 4), (WRITTEN, 5), (SMALL_SEGMENTS, 5)],
                         ids=["synced-v3", "written-v5", "synced-v5-small-segments"])
def test_kill_9_loses_nothing_that_was_acked(tmp_path: Path, extra: str, version: int) -> None:
    """Every acked event is in the log, in order per key, at every durable consumer; QoS 2 exactly once."""
    rig = Rig(tmp_path, seed=SEED, extra=extra, version=version)
    with rig.running():
        for _ in range(ROUNDS):
            rig.kill_round()
        rig.wait_for_load()
        figures = rig.check()
        assert figures.clean, f"{rig.summary()}\n{figures}"
        assert rig.node.stop() == 0
        assert rig.verify_log() == ""
    assert figures.acked > 50 * ROUNDS
    assert max(figures.recovery_s) < 10, figures.recovery_s     # the promise is 2 s + 1 s per GiB, on a quiet machine


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM: what was acked is there, the clients carry on after the restart."""
    rig = Rig(tmp_path, seed=SEED)
    with rig.running():
        assert rig.node.stop() == 0, rig.node.process.log_tail()
        rig.restart()
        rig.wait_for_load()
        figures = rig.check()
        assert figures.clean, f"{rig.summary()}\n{figures}"
