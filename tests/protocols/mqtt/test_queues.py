"""$queue/<name>: MQTT clients send straight to a queue, and share its work with readers of any protocol."""
from __future__ import annotations

import pytest

from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.rights.policy import ANONYMOUS, Action, Identity, Rule
from tests.protocols.mqtt.harness import PUBACK, PUBLISH
from tests.support import rawmqtt as m
from tests.support.routing import Reader

OWNER = Identity(ANONYMOUS, (), protocol="test", client_id="owner")
PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def declared(broker, name="work", *filters, identity=OWNER, **options):
    queue = broker.router.queues.declare(name, QueueOptions(**options), identity)
    for pattern in filters:
        assert queue.bind(Binding(pattern), identity) is None
    broker.run()
    return queue


def test_each_event_goes_to_one_member(broker):
    declared(broker, "work", "orders/#")
    one, two = broker.client("one"), broker.client("two")
    for client in (one, two):
        assert client.subscribe(("$queue/work", 1)).codes == [1]
    writer = broker.client("w")
    for number in range(10):
        writer.publish(f"orders/{number}", b"%d" % number, qos=1)
    found = [client.payloads() for client in (one, two)]
    assert sorted(found[0] + found[1]) == [b"%d" % number for number in range(10)] and all(found)


def test_a_publish_to_its_topic_reaches_this_queue_only(broker):
    work, other = declared(broker, "work", "a"), declared(broker, "other", "#")
    writer = broker.client("w")
    writer.publish("$queue/work", b"straight", qos=1)
    assert writer.one(PUBACK).code == 0
    assert work.depth().ready == 1 and other.depth().ready == 0


def test_an_event_is_out_until_it_is_acked_and_comes_again_after_a_loss(broker):
    queue = declared(broker, "work", "a")
    one, two = broker.client("one"), broker.client("two")
    one.subscribe(("$queue/work", 1))
    broker.client("w").publish("a", b"1", qos=1)
    assert one.one(PUBLISH).payload == b"1" and queue.depth().unacked == 1
    two.subscribe(("$queue/work", 1))
    one.lose()
    found = two.one(PUBLISH)
    assert (found.payload, found.dup) == (b"1", True)
    two.ack(PUBACK, found.packet_id)
    assert (queue.depth().ready, queue.depth().unacked) == (0, 0)


def test_the_queue_outlives_its_members_and_a_crash(broker):
    declared(broker, "work", "a")
    client = broker.client("x", **PERSISTENT)
    client.subscribe(("$queue/work", 1))
    client.lose()
    broker.client("w").publish("a", b"1", qos=1)
    for _ in range(3):
        broker.tick(1)
    reborn = broker.crash(1)
    back = reborn.client()
    back.connect("x", **PERSISTENT)
    back.stash = back.rest
    assert back.one(PUBLISH).payload == b"1"
    back.unsubscribe("$queue/work")
    back.lose()
    for _ in range(3):
        reborn.tick(1)
    assert reborn.router.queues.get("work") is not None
    reborn.store.close()


def test_qos_2_is_granted_as_1(broker):
    declared(broker)
    assert broker.client("x").subscribe(("$queue/work", 2)).codes == [1]


@pytest.mark.parametrize("pattern", ["$queue/none", "$queue/", "$queue/wor%6B"])
def test_a_queue_that_is_not_there(broker, pattern):
    declared(broker)
    assert broker.client("x").subscribe((pattern, 1)).codes[0] >= 0x80
    assert list(broker.router.consumers) == ["work"]


def test_an_odd_name_is_percent_encoded(broker):
    queue = declared(broker, "a b/ü+")
    client = broker.client("x")
    assert queue.topic == "$queue/a b%2F%C3%BC%2B"
    assert client.subscribe((queue.topic, 1)).codes == [1]
    broker.client("w").publish(queue.topic, b"1", qos=1)
    assert client.payloads() == [b"1"]


def test_an_exclusive_reader_keeps_others_out(broker):
    queue = declared(broker)
    reader = Reader(identity=OWNER)
    assert queue.attach(reader, exclusive=True) is None
    client = broker.client("x")
    assert client.subscribe(("$queue/work", 1)).codes[0] >= 0x80
    queue.detach(reader)
    assert client.subscribe(("$queue/work", 1)).codes == [1]


def test_an_auto_delete_queue_goes_with_its_last_mqtt_member(broker):
    declared(broker, "work", auto_delete=True)
    client = broker.client("x")
    client.subscribe(("$queue/work", 1))
    client.unsubscribe("$queue/work")
    broker.tick(1)
    assert broker.router.queues.get("work") is None


def test_rights_on_its_topic_and_on_what_it_reads(make_broker):
    everything = (Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE)
    broker = make_broker(rules=(
        Rule(allow=everything, to=("user:ana",), topics=("#", "$queue/#")),
        Rule(allow=(Action.CONNECT,), to=("user:bob",), topics=("#",)),
        Rule(allow=(Action.SUBSCRIBE,), to=("user:bob",), topics=("$queue/work",))))
    declared(broker, "work", "secret/#", identity=Identity("ana", (), protocol="test", client_id="o"))
    bob = broker.client("b", username="bob")
    assert bob.subscribe(("$queue/work", 1)).codes == [0x87], "it is bound to what he may not read"
    bob.publish("$queue/work", b"1", qos=1)
    assert bob.one(PUBACK).code == 0x87
    ana = broker.client("a", username="ana")
    assert ana.subscribe(("$queue/work", 1)).codes == [1]
