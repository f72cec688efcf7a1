"""The door in for batches of Kafka producers: rights, topics that records name, and who gets the events."""
from __future__ import annotations

import shutil
from collections import Counter

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.direct.subscription import Subscription
from routing.errors import Fault, Reason
from routing.event import Event
from routing.log.records.fields import OURS
from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.settings import Limits, StreamSettings
from tests.routing.log.test_raw import kafka_batch
from tests.support.log import scan_all
from tests.support.routing import ANA, Desk, Reader

SETTINGS = [StreamSettings("events", ("#",)), StreamSettings("orders", ("orders/#",), partitions=2),
            StreamSettings("keyed", ("keyed/#",), topic="keyed/{key}")]


def open_desk(path, *rules, limits=None):
    return Desk(path, SETTINGS, rules=rules or (ALLOW_ALL,), limits=limits)


def produce(desk, records, stream="orders", index=0, **options):
    ticket = desk.router.publish_raw(stream, index, kafka_batch(records, **options), desk.publisher)
    desk.run()
    assert ticket.done
    return ticket.parts[0]


def stored(desk, stream="orders", index=0):
    return scan_all(desk.router.streams.by_name[stream].partitions[index])


def named(topic, *more):
    return (b"k", b"v", [("meshgate-topic", topic), *more])


def test_a_producer_needs_the_right_to_the_streams_own_topic(tmp_path):
    desk = open_desk(tmp_path, Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("orders",)))
    assert produce(desk, [(None, b"x", [])]).refusal is None
    refused = produce(desk, [(None, b"x", [])], "keyed")
    assert (refused.refusal.reason, refused.base_offset) == (Reason.NOT_AUTHORIZED, -1)
    assert produce(desk, [(b"1", b"x", [])], "keyed").refusal.reason is Reason.NOT_AUTHORIZED
    assert stored(desk, "keyed") == []
    desk.close()


@pytest.mark.parametrize("stream, index", [("nothing", 0), ("orders", 2), ("orders", -1)])
def test_a_partition_that_is_not_there_is_told(tmp_path, stream, index):
    desk = open_desk(tmp_path)
    assert produce(desk, [(None, b"x", [])], stream, index).refusal.reason is Reason.NOT_FOUND
    desk.close()


def test_a_record_may_name_a_topic_of_the_stream_that_may_be_published_to_and_no_other(tmp_path):
    desk = open_desk(tmp_path, Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("orders", "orders/eu", "x")))
    assert produce(desk, [
        named(b"orders/eu"), named(b"orders/us"), named(b"x"), named(b"a/#"), named(b"$SYS/x"),
        named(b"orders/eu", ("meshgate-qos", b"2"), ("meshgate-dead-letter", b"{}")),
        (None, b"plain", [("h", b"1")])]).refusal is None
    events = stored(desk)
    assert [event.topic for event in events] == [
        "orders/eu", "orders", "orders", "orders", "orders", "orders/eu", "orders"]
    assert [event.qos for event in events] == [1] * 7
    assert [dict(event.headers) for event in events[1:3]] == [{"meshgate-topic": "orders/us"}, {"meshgate-topic": "x"}]
    assert events[5].properties is None and dict(events[5].headers) == {
        "meshgate-qos": "2", "meshgate-dead-letter": "{}"}
    counts = desk.router.streams.by_name["orders"].partitions[0].tally(0, until=7, max_scanned=100).counts
    assert counts == {"orders/eu": 2, "orders": 5}
    desk.close()


def test_keys_make_topics_where_the_stream_says_so(tmp_path):
    desk = open_desk(tmp_path)
    produce(desk, [(b"a/b", b"1", []), (None, b"2", []), named(b"keyed/named")], "keyed")
    assert [event.topic for event in stored(desk, "keyed")] == ["keyed/a%2Fb", "keyed/", "keyed/named"]
    desk.close()


@pytest.mark.parametrize("count", [10, 1_001, 5_000])
@pytest.mark.parametrize("codec", [0, 4])
def test_consumers_and_live_subscribers_get_every_event_once_in_order(tmp_path, count, codec):
    desk = open_desk(tmp_path)
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("orders",)), ANA)
    reader, live = Reader(credit=100_000), Reader()
    consumer.attach(reader)
    desk.run()
    desk.router.subscribe(Subscription("orders", live))
    produce(desk, [(None, b"%d" % number, []) for number in range(count)], codec=codec)
    produce(desk, [(None, b"last", [])])
    while len(reader.payloads) < count + 1 and reader.deliveries:
        before = len(reader.payloads)
        consumer.ack(reader.deliveries[-1_000:])
        desk.run()
        if len(reader.payloads) == before:
            break
    expected = [b"%d" % number for number in range(count)] + [b"last"]
    assert reader.payloads == expected and [event.payload for event in live.direct] == expected
    desk.close()


def test_limits_of_the_node_hold_for_records(tmp_path):
    desk = open_desk(tmp_path, limits=Limits(payload_bytes_max=1_000, expanded_bytes_max=5_000))
    assert produce(desk, [(None, b"x" * 1_001, [])]).refusal.fault is Fault.TOO_LARGE
    assert produce(desk, [(None, b"x" * 900, [])] * 7, codec=1).refusal.fault is Fault.TOO_LARGE
    assert produce(desk, [(None, b"x" * 900, [])] * 5, codec=1).refusal is None
    desk.close()


def test_fetching_needs_the_right_to_all_of_the_stream(tmp_path):
    desk = open_desk(
        tmp_path, Rule(allow=(Action.SUBSCRIBE,), to=("user:ana",), topics=("#",)),
        Rule(deny=(Action.SUBSCRIBE,), to=("user:ana",), topics=("keyed/secret",)))
    assert desk.router.may_fetch(ANA, "orders") is None
    assert desk.router.may_fetch(ANA, "keyed").reason is Reason.NOT_AUTHORIZED
    assert desk.router.may_fetch(ANA, "nothing").reason is Reason.NOT_FOUND
    desk.close()


@pytest.mark.parametrize("codec", [0, 3])
def test_a_producers_batches_are_passed_over_unread_when_only_the_nodes_own_headers_are_wanted(tmp_path, codec):
    """At start the tail is looked through for ids: what no node has written has none."""
    settings = [StreamSettings("orders", ("orders/#",), topic="orders/all")]
    desk = Desk(tmp_path / "first", settings)
    batch = kafka_batch([(b"k", b"plain", [("h", b"x")])] * 50, codec=codec)
    for step in (lambda: desk.router.publish_raw("orders", 0, batch, desk.publisher),
                 lambda: desk.publish(Event("orders/eu", b"ours", 1)),
                 lambda: desk.router.publish_raw("orders", 0, batch, desk.publisher)):
        step()
        desk.run()
    shutil.copytree(tmp_path / "first", tmp_path / "crashed")
    desk.close()
    desk = Desk(tmp_path / "crashed", settings)
    partition = desk.router.streams.by_name["orders"].partitions[0]
    found = partition.scan(0, lambda topic: True, max_events=1_000, max_scanned=1_000, mark=OURS)
    assert [event.payload for event in found.events] == [b"ours"] and found.next_offset == 101
    every = partition.scan(0, lambda topic: True, max_events=1_000, max_scanned=1_000)
    assert Counter(event.topic for event in every.events) == {"orders/all": 100, "orders/eu": 1}
    assert partition.count(0, lambda topic: topic == "orders/all") == 100, "by the summary that recovery has made"
    desk.close()
