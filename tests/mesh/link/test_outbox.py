"""Priorities and budgets of what waits for a link."""
from __future__ import annotations

from mesh.link.protocol.outbox import Outbox


def outbox(*budgets: int) -> Outbox:
    return Outbox(budgets or (100, 100, 100, 100))  # type: ignore[arg-type]


def test_control_and_gossip_overtake() -> None:
    box = outbox()
    for priority in (3, 2, 1, 0, 3):
        assert box.put(b"%d" % priority, priority)
    assert box.take(100) == [b"0", b"1", b"2", b"3", b"3"]
    assert (box.frames, box.size_bytes, box.taken_bytes) == (0, 0, 4)


def test_a_full_queue_drops_and_counts_and_the_others_do_not_notice() -> None:
    box = outbox(100, 100, 100, 10)
    assert box.put(b"x" * 10, 3)
    assert not box.put(b"x", 3)
    assert box.put(b"x", 2)
    assert box.dropped == [0, 0, 0, 1]


def test_an_empty_queue_takes_a_frame_of_any_size() -> None:
    assert outbox().put(b"x" * 1000, 3)


def test_a_message_keeps_to_its_size_unless_one_frame_is_larger() -> None:
    box = outbox(1_000, 1_000, 1_000, 1_000)
    for size in (40, 40, 40):
        box.put(b"x" * size, 2)
    assert [len(frame) for frame in box.take(90)] == [40, 40]
    assert [len(frame) for frame in box.take(10)] == [40]


def test_direct_frames_and_data_share_three_to_one() -> None:
    box = outbox(0, 0, 10_000, 10_000)
    for _ in range(400):
        box.put(b"d" * 10, 2)
        box.put(b"r" * 10, 3)
    first = b"".join(box.take(4_000))
    assert 0.70 <= first.count(b"d") / len(first) <= 0.80


def test_when_rates_are_used_up_only_control_and_gossip_leave() -> None:
    box = outbox()
    for priority in range(4):
        box.put(b"%d" % priority, priority)
    assert box.urgent_bytes == 2
    assert box.take(100, urgent_only=True) == [b"0", b"1"]


def test_clear_forgets_all() -> None:
    box = outbox()
    box.put(b"a", 0)
    box.put(b"b", 3)
    box.clear()
    assert (box.frames, box.size_bytes, box.take(10)) == (0, 0, [])
