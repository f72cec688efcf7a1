"""Pace: how much may wait for a disk, by what it took lately."""
from __future__ import annotations

import pytest

from routing.log.committing.pace import LEAST_BYTES, Pace

MIB = 1024 * 1024


def run(pace, rate, size, seconds=2.0):
    """Commits of size back to back on a disk that takes rate bytes a second, and 1 ms for each."""
    now_s = 0.0
    while now_s < seconds:
        pace.begun(now_s)
        now_s += 0.001 + size / rate
        pace.done(size, 1, now_s, more=False)


@pytest.mark.parametrize("rate, least, most", [(20 * MIB, 0.5, 1.0), (100 * MIB, 1, 2), (1000 * MIB, 2, 4)])
def test_what_may_wait_is_what_the_disk_takes_in_some_milliseconds(rate, least, most):
    pace = Pace(32 * MIB)
    run(pace, rate, 256 * 1024)
    assert least * MIB <= pace.bytes_max <= most * MIB


def test_a_slow_sync_still_finds_the_next_group_full():
    """40 ms per commit: what may wait covers the one that is written and the one that fills."""
    pace = Pace(32 * MIB)
    now_s = 0.0
    for _ in range(50):
        pace.begun(now_s)
        now_s += 0.04
        pace.done(2 * MIB, 1, now_s, more=False)
    assert pace.bytes_max >= 4 * MIB - 100


def test_small_commits_say_nothing():
    pace = Pace(32 * MIB)
    before = pace.bytes_max
    run(pace, 1000 * MIB, 100)
    assert pace.bytes_max == before


def test_bounds():
    pace = Pace(MIB)
    run(pace, 10_000 * MIB, MIB)
    assert pace.bytes_max == MIB
    pace = Pace(32 * MIB)
    run(pace, MIB, 600 * 1024, 20.0)
    assert pace.bytes_max >= LEAST_BYTES
