"""idle.py: what is remembered only to be quick goes in pieces, and everything is as it was."""
from __future__ import annotations

import pytest

from routing import idle
from routing.consumers.definition.spec import ConsumerSpec
from routing.event import Event
from tests.support.routing import ANA, Desk, Reader

MANY = 5_000


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def test_it_goes_in_pieces_and_who_asks_again_finds_out_again(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("all", durable=True), ANA)
    consumer.add_filter("a/#", ANA)
    desk.run()
    for start in range(0, MANY, 100):
        desk.publish(*(Event(f"a/{number}", b"x", 1) for number in range(start, start + 100)))
    router = desk.router
    partition = router.own_partitions()[0]
    assert len(list(router.routes.known_topics())) == MANY and partition.is_recent(MANY - 1)
    pieces = sum(1 for _ in idle.forget(router))
    assert pieces > 10
    assert not list(router.routes.known_topics()) and not router.policy._decisions and not partition._cache.bytes
    assert not partition._group._encoder._entries and not partition.is_recent(MANY - 1)
    desk.publish(Event("a/new", b"new", 1))
    reader = Reader(credit=10_000)
    consumer.attach(reader)
    desk.run()
    found = []
    while reader.deliveries:
        found += [delivery.event.topic for delivery in reader.ack_all(consumer)]
        desk.run()
    assert found == [*(f"a/{number}" for number in range(MANY)), "a/new"]


def test_what_is_published_while_it_goes_is_remembered(desk):
    for number in range(MANY // 100):
        desk.publish(*(Event(f"a/{number}/{other}", b"x", 1) for other in range(100)))
    work = idle.forget(desk.router)
    for number, _ in enumerate(work):
        desk.publish(Event(f"b/{number}", b"%d" % number, 1))
    found = desk.router.own_partitions()[0].scan(MANY, lambda topic: True, max_events=1_000, max_scanned=1_000).events
    assert [event.payload for event in found] == [b"%d" % one for one in range(number + 1)]
