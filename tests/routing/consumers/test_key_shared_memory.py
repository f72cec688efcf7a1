"""Key-shared: what waits for a member of its key is bounded by bytes, not only by number, and nothing is lost by it."""
from __future__ import annotations

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.delivery.readahead import KEYED_BYTES
from routing.event import Event
from tests.support.routing import ANA, Desk, Reader

EVENT_BYTES = 256 * 1024


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_events_whose_member_has_no_credit_wait_in_the_log_beyond_a_bound_of_bytes(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), Mode.KEY_SHARED), ANA)
    reader = Reader(credit=0)
    consumer.attach(reader)
    desk.run()
    count = 3 * KEYED_BYTES // EVENT_BYTES
    for number in range(count):
        desk.publish(Event("t", bytes([number % 256]) * EVENT_BYTES, 1, key=b"%d" % (number % 5)))
    cursor = next(iter(consumer.cursors.values()))
    assert sum(len(event.payload) for event in cursor.waiting) <= KEYED_BYTES
    assert consumer.lag().events == count
    got = []
    while len(got) < count:
        reader.credit = 10
        consumer.ready()
        desk.run()
        taken, reader.deliveries[:] = list(reader.deliveries), []
        assert taken
        got += [delivery.event.offset for delivery in taken]
        consumer.ack(taken)
        desk.run()
    assert got == list(range(count))


def test_one_event_that_is_larger_than_the_bound_still_comes(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), Mode.KEY_SHARED), ANA)
    consumer.attach(reader := Reader(credit=10))
    desk.run()
    desk.publish(Event("t", b"x" * EVENT_BYTES, 1, key=b"k"))
    assert len(reader.deliveries) == 1
