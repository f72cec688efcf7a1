"""What many queues cost those that have nothing to do with them. Ratios of CPU time."""
import gc
import os
import time

import pytest

from mesh.system.limits import GC_THRESHOLDS
from routing.event import Event
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.queues.queues import UNACKED_MAX
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk, Reader


def published_s(desk):
    """CPU seconds for 2,000 events on 100 topics that no queue matches."""
    events = [[Event(f"x/{number % 100}", b"p", 1)] for number in range(2_000)]
    before = time.process_time()
    for one in events:
        desk.router.publish(one, desk.publisher)
    spent = time.process_time() - before
    desk.run()
    return spent


def declared_s(desk, first, count):
    before = time.process_time()
    for number in range(first, first + count):
        queue = desk.router.queues.declare(f"q{number}", QueueOptions(), ANA)
        assert queue.bind(Binding(f"y/{number}/#"), ANA) is None
        if number % 100 == 0:
            desk.run()
    desk.run()
    return time.process_time() - before


@pytest.mark.measured
def test_ten_thousand_queues(tmp_path):
    """Declaring is linear, publishing past them costs the same, one more stream at most 50 ms."""
    desk = Desk(tmp_path / "data")
    alone = min(published_s(desk) for _ in range(3))
    first = declared_s(desk, 0, 2_000)
    declared_s(desk, 2_000, 6_000)
    last = declared_s(desk, 8_000, 2_000)
    assert last < 2 * first
    assert min(published_s(desk) for _ in range(3)) < 2 * alone
    route = desk.router.routes.of("x/1")
    desk.router.queues.get("q1").bind(Binding("z/+/#"), ANA)
    assert desk.router.routes.of("x/1") is route
    desk.router.queues.get("q1").bind(Binding("x/+"), ANA)
    assert desk.router.routes.of("x/1") is not route
    before = time.process_time()
    desk.router.apply_streams([StreamSettings("events", ("#",)), StreamSettings("new", ("n/#",))])
    assert time.process_time() - before < 0.050
    desk.close()


class Turns:
    """The longest turn, in CPU seconds."""

    def __init__(self):
        self.worst_s = 0.0

    def __call__(self, work):
        before = time.process_time()
        work()
        self.worst_s = max(self.worst_s, time.process_time() - before)


@pytest.mark.measured
@pytest.mark.timeout(1_200)
def test_a_hundred_thousand_queues_are_declared_kept_and_expire_without_a_long_turn(tmp_path):
    """10,000 in the suite. Half of them expire, which is no sweep."""
    count = 100_000 if os.environ.get("MESHGATE_SOAK") == "1" else 10_000
    desk = Desk(tmp_path / "data")
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    turns = Turns()
    try:
        for number in range(count):
            turns(lambda number=number: desk.router.queues.declare(
                f"q{number}", QueueOptions(), ANA, expires_s=60.0 if number % 2 else None))
            if number % 100 == 0:
                while desk.queue:
                    turns(desk.queue.popleft())
        while len(desk.router.queues.by_name) > count // 2:
            desk.now_s, desk.now_ms = desk.now_s + 0.5, desk.now_ms + 500
            turns(lambda: desk.router.tick(desk.now_s))
            while desk.queue:
                turns(desk.queue.popleft())
        assert turns.worst_s < 0.020
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert all(int(name[1:]) % 2 == 0 for name in desk.router.queues.by_name)
    desk.publish(Event("$queue/q2", b"1", 1))
    assert desk.router.queues.get("q2").depth().ready == 1
    desk.close()


@pytest.mark.measured
@pytest.mark.timeout(1_200)
def test_a_member_without_a_limit_gets_all_of_a_long_queue_once_and_holds_no_more_than_the_bound(tmp_path):
    """Unlimited prefetch on 1,000,000 events in the long form; 80,000 in the suite, more than may be out at once."""
    count = 1_000_000 if os.environ.get("MESHGATE_SOAK") == "1" else 80_000
    desk = Desk(tmp_path / "data")
    queue = desk.router.queues.declare("q", QueueOptions(), ANA)
    for first in range(0, count, 1_000):
        desk.publish(*[Event(queue.topic, b"%d" % number, 1) for number in range(first, first + 1_000)])
    reader = Reader(10**9)
    assert queue.attach(reader) is None
    turns, most, expected = Turns(), 0, 0
    while expected < count:
        while desk.queue:
            turns(desk.queue.popleft())
        most = max(most, queue.consumer.in_flight)
        for delivery in reader.deliveries:
            assert delivery.event.payload == b"%d" % expected and delivery.attempts == 1
            expected += 1
        taken, reader.deliveries = reader.deliveries, []
        for first in range(0, len(taken), 1_000):
            turns(lambda part=taken[first:first + 1_000]: queue.ack(part))
        desk.now_s, desk.now_ms = desk.now_s + 0.05, desk.now_ms + 50
        turns(lambda: desk.router.tick(desk.now_s))
    assert most == UNACKED_MAX
    assert turns.worst_s < 0.020
    desk.run()
    assert queue.depth().ready == queue.depth().unacked == 0
    desk.close()
