"""A frame may come twice, what it carries must not; and a number that a neighbour made up costs nothing."""
from __future__ import annotations

import random
import time
import tracemalloc

import pytest

from mesh import once
from mesh.once import Once

pytestmark = pytest.mark.measured


@pytest.mark.parametrize("seed", range(100))
def test_every_number_is_new_once_in_whatever_order_it_comes(seed, monkeypatch):
    monkeypatch.setattr(once, "WINDOW", 16)
    monkeypatch.setattr(once, "_ALL", (1 << 16) - 1)
    rng = random.Random(seed)
    window, seen, highest = Once(), set(), 0
    for _ in range(300):
        number = highest + rng.choice((1, 1, 2, 3, 30)) if rng.random() < 0.6 else max(1, highest - rng.randrange(25))
        expected = number > highest or (highest - number <= 16 and number not in seen)
        assert window.is_new("a", 1, number) == expected
        seen.add(number)
        highest = max(highest, number)


def test_numbers_that_jump_as_far_as_they_can_cost_neither_time_nor_memory():
    """32 bytes of a message numbered 4e10 took 5.6 GB and a minute: its number was the width of a shift."""
    tracemalloc.start()
    started = time.thread_time()
    window = Once()
    try:
        for number in (1, 40_000_000, 2**62, 2, 2**62 - 1, 2**62 - 10**9, 1):
            window.is_new("a", 1, number)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000 and time.thread_time() - started < 1
    assert not window.is_new("a", 1, 2**62) and window.is_new("a", 1, 2**62 - 2)


def test_senders_and_their_starts_are_apart_and_bounded(monkeypatch):
    monkeypatch.setattr(once, "NODES_MAX", 2)
    window = Once()
    assert [window.is_new(node, run, 1) for node, run in (("a", 1), ("a", 2), ("b", 1), ("a", 1))] == [
        True, True, True, False]
    assert window.is_new("c", 1, 1)                     # the node that was quiet longest is forgotten
    assert not window.is_new("a", 2, 1) and window.is_new("b", 1, 1)


def test_a_node_that_invents_starts_costs_its_own_memory_only():
    window = Once()
    assert window.is_new("good", 1, 1)
    for run in range(100_000):
        window.is_new("bad", run, 1)
    assert not window.is_new("good", 1, 1)
    assert sum(map(len, window._nodes.values())) <= 1 + once.RUNS_MAX
