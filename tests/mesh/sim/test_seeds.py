"""The simulated mesh, the small set: seeds that every commit must pass. More: python -m tests.mesh.sim --seeds 1000.

A failure names its seed; `python -m tests.mesh.sim --from SEED --seeds 1 --verbose` runs it again, to the last frame.
"""
from __future__ import annotations

import logging

import pytest

from tests.mesh.sim.scenario import Scenario

SEEDS = 64
PER_TEST = 8
FOUND = (791,)              # a question before the way back was known


@pytest.fixture(autouse=True)
def quiet_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes complain about full disks and lost peers, rightly and at length."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_nothing_is_lost_doubled_reordered_or_where_nobody_asked(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        result = Scenario(seed).run()
        assert result.ok, f"seed {seed}: {result.shape}\n{result.figures}\n" + "\n".join(result.journal)
        assert result.figures.acked > 20


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_long_run_has_found_stays_mended(seed: int) -> None:
    result = Scenario(seed).run()
    assert result.ok, f"{result.shape}\n{result.figures}\n" + "\n".join(result.journal)


def test_one_seed_is_one_run() -> None:
    """The same journal, the same frames, the same figures."""
    first, second = Scenario(2).run(), Scenario(2).run()
    assert (first.journal, first.counts, first.figures.logged) == (second.journal, second.counts, second.figures.logged)
