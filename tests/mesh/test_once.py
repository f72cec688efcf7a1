"""A frame may come twice, what it carries must not."""
from __future__ import annotations

import random

import pytest

from mesh import once
from mesh.once import Once


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


def test_senders_and_their_starts_are_apart_and_bounded(monkeypatch):
    monkeypatch.setattr(once, "SENDERS_MAX", 3)
    window = Once()
    assert [window.is_new(node, run, 1) for node, run in (("a", 1), ("a", 2), ("b", 1), ("a", 1))] == [
        True, True, True, False]
    assert window.is_new("c", 1, 1)                     # the one that was quiet longest is forgotten
    assert not window.is_new("a", 1, 1) and window.is_new("a", 2, 1)
