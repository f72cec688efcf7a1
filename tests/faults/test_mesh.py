"""The mesh of real nodes under real faults, the small set. The long one: python -m tests.faults.mesh --rounds 100.

Each test prints its seed when it fails; MESHGATE_FAULT_SEED repeats it.
"""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.mesh_backlog import run_backlog
from tests.faults.mesh_rig import MeshRig

SEED = int(os.environ.get("MESHGATE_FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
BACKLOG = int(os.environ.get("MESHGATE_BACKLOG", "50000"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("topology", "faults"), [
    ("line", ("kill", "break inside")), ("ring", ("other path", "noise", "cut one way")),
], ids=["line", "ring"])
def test_nothing_is_lost_doubled_or_moved(tmp_path: Path, topology: str, faults: tuple[str, ...]) -> None:
    """Every acked event at every node that wants it, once, in origin order, nowhere else; sessions get all of it."""
    rig = MeshRig(tmp_path, topology, 3, seed=SEED)
    with rig.running():
        for fault in faults:
            rig.fault(fault)
        figures = rig.check()
        assert figures.clean, f"{rig.summary()}\n{figures}"
    assert figures.acked > 100


@pytest.mark.timeout(600)
def test_a_long_outage_is_a_matter_of_the_log(tmp_path: Path) -> None:
    """50,000 events wait while the link is away; then every one comes, once, in order."""
    result = run_backlog(tmp_path, BACKLOG)
    assert result.events >= BACKLOG
