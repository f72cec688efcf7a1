"""Caches of flows: counted in bytes together, forgotten with their owners."""
from __future__ import annotations

from mesh.replication.caches import CacheMemory
from mesh.replication.filters import Selection
from mesh.replication.messages import Want
from routing.topic import KEPT_CHARS_MAX


def test_all_tables_together_have_a_bound_and_start_afresh_beyond_it():
    memory = CacheMemory(10_000)
    selections = [Selection((Want(f"s{number}/#", 0),), memory=memory) for number in range(10)]
    longest = 0
    for topic in range(1_000):
        for number, selection in enumerate(selections):
            assert selection.spans(f"s{number}/{topic}") and not selection.spans(f"other/{topic}")
        assert memory.bytes <= 10_000
        longest = max(longest, sum(len(selection._answers) for selection in selections))
    assert 20 < longest <= 10_000 // 240


def test_who_is_gone_takes_nothing():
    memory = CacheMemory(1 << 20)
    one, other = (Selection((Want("#", 0),), memory=memory) for _ in range(2))
    for topic in range(100):
        one.spans(f"t/{topic}")
    before = memory.bytes
    other.spans("t")
    other.let_go()
    assert memory.bytes == before > 0
    one.let_go()
    one.let_go()
    assert memory.bytes == 0
    one.spans("t")
    assert memory.bytes > 0, "it may go on"


def test_answers_for_long_topics_are_not_kept():
    memory = CacheMemory()
    selection = Selection((Want("#", 0),), memory=memory)
    assert selection.spans("x" * (KEPT_CHARS_MAX + 1)) == selection.spans("y" * 60_000) and memory.bytes == 0
