"""What many queues cost those that have nothing to do with them. Ratios of CPU time."""
import time

import pytest

from routing.event import Event
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk


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
