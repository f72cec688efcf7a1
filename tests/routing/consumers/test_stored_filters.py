"""The filters of a consumer are stored one by one: a change costs what is changed, a restart brings all back."""
from __future__ import annotations

import msgspec

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.registry.stored import CONSUMER, FILTER
from tests.support.routing import ANA, Desk, Reader


def written_bytes(desk):
    """What the state table has put into its log so far."""
    found = desk.router.state._partition.scan(0, lambda _: True, max_events=10**6, max_scanned=10**6)
    return sum(len(event.topic) + len(event.payload) for event in found.events)


def kept(desk):
    return sorted(key for key, _ in desk.router.state.items(FILTER))


def opened(desk, *filters, **options):
    consumer = desk.router.open_consumer(ConsumerSpec("c", filters, **options), ANA)
    consumer.checkpoint()
    desk.run()
    return consumer


def test_one_more_filter_beside_ten_thousand_is_one_small_record(tmp_path):
    desk = Desk(tmp_path)
    consumer = opened(desk)
    for number in range(10_000):
        consumer.add_filter(f"f/{number}/+", ANA)
    consumer.checkpoint()
    desk.run()
    before = written_bytes(desk)
    consumer.add_filter("one/more", ANA)
    consumer.checkpoint()
    desk.run()
    assert written_bytes(desk) - before < 1_000
    consumer.remove_filter("f/77/+")
    desk.run()
    desk.store.close()                                      # kill -9
    again = Desk(tmp_path)
    assert set(again.router.consumers["c"].filters) == {"one/more", *(f"f/{n}/+" for n in range(10_000) if n != 77)}
    assert len(kept(again)) == 10_000
    again.router.delete_consumer("c")
    again.run()
    assert kept(again) == []
    again.close()


def test_a_filter_does_not_reach_back_after_a_restart(tmp_path):
    """It was added while the consumer was behind; a seek later lifts that."""
    desk = Desk(tmp_path)
    consumer = opened(desk, "a")
    desk.publish("a", "b", "a")
    consumer.add_filter("b", ANA)
    desk.publish("b")
    consumer.checkpoint()
    desk.run()
    desk.store.close()
    desk = Desk(tmp_path)
    consumer = desk.router.consumers["c"]
    reader = Reader()
    consumer.attach(reader)
    desk.run()
    assert reader.topics == ["a", "a", "b"]
    consumer.seek(dict.fromkeys(consumer.cursors, 0))
    consumer.detach(reader)
    consumer.checkpoint()
    desk.run()
    desk.store.close()
    desk = Desk(tmp_path)
    reader = Reader()
    desk.router.consumers["c"].attach(reader)
    desk.run()
    assert reader.topics == ["a", "b", "a", "b"]
    desk.close()


def test_a_consumer_that_becomes_durable_stores_the_filters_it_has(tmp_path):
    desk = Desk(tmp_path)
    consumer = opened(desk, "a", "b", "a", durable=False)
    assert kept(desk) == []
    consumer.remove_filter("b")
    opened(desk)
    desk.store.close()
    desk = Desk(tmp_path)
    assert list(desk.router.consumers["c"].filters) == ["a"]
    desk.router.delete_consumer("c")
    assert desk.router.trie.count == 0
    desk.close()


def test_the_form_of_before_is_read(tmp_path):
    desk = Desk(tmp_path)
    consumer = opened(desk, "a")
    state = msgspec.msgpack.decode(desk.router.state.get(CONSUMER + "c"))
    desk.router.state.put(CONSUMER + "c", msgspec.msgpack.encode({**state, "filters": ["a", "old/#"], "fresh": {}}))
    desk.run()
    desk.store.close()
    for _ in range(2):
        desk = Desk(tmp_path)
        consumer = desk.router.consumers["c"]
        assert sorted(consumer.filters) == ["a", "old/#"]
        consumer.checkpoint()
        desk.run()
        assert len(kept(desk)) == 2
        desk.store.close()
