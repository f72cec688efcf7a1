"""PUBLISH from one client to another: properties, aliases, expiry, acks, limits."""
from __future__ import annotations

import pytest

from protocols.mqtt.convert import is_internal
from protocols.mqtt.settings import MqttSettings
from routing.event import Event, Properties
from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.settings import Limits
from tests.protocols.mqtt.harness import DISCONNECT, PUBACK, PUBLISH, PUBREC, publish_packet
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_property_arrives_as_it_was_sent(broker, qos):
    """[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]"""
    reader = broker.client("r")
    reader.subscribe(("a", qos))
    values = [
        (m.PAYLOAD_FORMAT, 1), (m.CONTENT_TYPE, "text/plain"), (m.RESPONSE_TOPIC, "answers/1"),
        (m.CORRELATION, b"\0\xff"),
        (m.USER_PROPERTY, ("b", "1")), (m.USER_PROPERTY, ("a", "2")), (m.USER_PROPERTY, ("b", "1")),
        (m.USER_PROPERTY, ("", ""))]
    broker.client("w").publish("a", "grüß".encode(), qos=qos, values=values)
    found = reader.one(PUBLISH)
    assert found.payload == "grüß".encode()
    assert sorted(found.values, key=str) == sorted(values, key=str)
    assert found.user_properties == [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]


@pytest.mark.parametrize("qos", [0, 1])
def test_properties_are_lost_towards_v3_and_the_ledger_says_so(broker, qos):
    reader = broker.client("r", 4)
    reader.subscribe(("a", qos))
    values = [(m.CONTENT_TYPE, "x"), (m.USER_PROPERTY, ("k", "v"))]
    broker.client("w").publish("a", b"x", qos=qos, values=values)
    assert reader.payloads() == [b"x"]
    lost = {entry["field"] for entry in broker.router.ledger.snapshot() if entry["to"] == "mqtt-3.1.1"}
    assert lost == {"headers", "content type"}


@pytest.mark.parametrize(("first", "second"), [(4, 5), (5, 4), (4, 4), (5, 5)])
def test_v3_and_v5_clients_meet(broker, first, second):
    reader = broker.client("r", first)
    reader.subscribe(("a", 0))
    other = broker.client("r2", second)
    other.subscribe(("a", 1))
    broker.client("w", second).publish("a", b"x", qos=1)
    assert reader.payloads() == other.payloads() == [b"x"]


def test_key_and_message_id_travel_as_user_properties(broker):
    reader = broker.client("r")
    reader.subscribe("a")
    event = Event("a", b"x", 1, key=b"k1", properties=Properties(message_id="id-1", priority=5))
    broker.publish(event)
    assert reader.one(PUBLISH).user_properties == [("meshgate-message-id", "id-1"), ("meshgate-key", "k1")]
    assert {"from": "event", "to": "mqtt-5", "field": "priority", "count": 1} in broker.router.ledger.snapshot()
    reader.ack(PUBACK, 1)
    broker.client("w").publish("a", b"y", qos=1, values=[
        (m.USER_PROPERTY, ("meshgate-key", "k2")), (m.USER_PROPERTY, ("meshgate-message-id", "id-2"))])
    (partition,) = broker.router.streams.by_name["events"].partitions
    stored = partition.event(partition.end_offset - 1)
    assert (stored.key, stored.properties.message_id, stored.headers) == (b"k2", "id-2", ())


def test_typed_headers_come_back_with_their_type(broker):
    headers = (("n", 5), ("f", 1.5), ("b", b"\xff\0"), ("t", b"text"), ("z", None), ("y", True), ("s", "5"))
    reader = broker.client("r")
    reader.subscribe("a")
    broker.publish(Event("a", b"x", 1, headers=headers))
    pairs = reader.one(PUBLISH).user_properties
    assert pairs[:4] == [("n", "5"), ("n;type", "int"), ("f", "1.5"), ("f;type", "float")]
    broker.client("w").publish("b", b"x", qos=1, values=[(m.USER_PROPERTY, pair) for pair in pairs])
    (partition,) = broker.router.streams.by_name["events"].partitions
    assert partition.event(partition.end_offset - 1).headers == headers


@pytest.mark.parametrize("pairs", [
    [("n", "05"), ("n;type", "int")], [("n;type", "int")], [("n", "x"), ("m;type", "int")],
    [("n", "1"), ("n;type", "huge")], [("n", "nan?"), ("n;type", "float")], [("n", "9" * 5000), ("n;type", "int")],
    [("n", "%"), ("n;type", "base64")]])
def test_a_type_that_does_not_fit_stays_a_user_property(broker, pairs):
    reader = broker.client("r")
    reader.subscribe("a")
    broker.client("w").publish("a", b"x", qos=1, values=[(m.USER_PROPERTY, pair) for pair in pairs])
    assert reader.one(PUBLISH).user_properties == pairs


# -- topic alias


def test_topic_alias_of_a_client(broker):
    """[MQTT-3.3.2-12] [MQTT-3.3.2-7]"""
    reader = broker.client("r")
    reader.subscribe("#")
    writer = broker.client("w")
    assert writer.connack.get(m.TOPIC_ALIAS_MAXIMUM) == 64
    writer.publish("one", b"1", values=[(m.TOPIC_ALIAS, 1)])
    writer.publish("last", b"2", values=[(m.TOPIC_ALIAS, 64)])
    writer.publish("", b"3", qos=1, values=[(m.TOPIC_ALIAS, 1)])
    writer.publish("new", b"4", values=[(m.TOPIC_ALIAS, 1)])
    writer.publish("", b"5", values=[(m.TOPIC_ALIAS, 1)])
    writer.publish("", b"6", values=[(m.TOPIC_ALIAS, 64)])
    assert [(found.topic, found.payload) for found in reader.take()] == [
        ("one", b"1"), ("last", b"2"), ("one", b"3"), ("new", b"4"), ("new", b"5"), ("last", b"6")]
    again = broker.client("w")
    again.publish("", b"x", values=[(m.TOPIC_ALIAS, 1)])
    assert again.take()[-1].code == 0x82


@pytest.mark.parametrize("qos", [0, 1])
def test_topic_alias_towards_a_client(broker, qos):
    """[MQTT-3.1.2-26] [MQTT-3.3.2-11]"""
    reader = broker.client("r", values=[(m.TOPIC_ALIAS_MAXIMUM, 2)])
    reader.subscribe(("#", qos))
    plain = broker.client("p")
    plain.subscribe(("#", qos))
    writer = broker.client("w")
    for topic in ("a", "b", "c", "a", "b", "c"):
        writer.publish(topic, topic.encode(), qos=qos)
    found = reader.take()
    assert [(one.topic, one.get(m.TOPIC_ALIAS)) for one in found] == [
        ("a", 1), ("b", 2), ("c", None), ("", 1), ("", 2), ("c", None)]
    assert [one.payload for one in found] == [b"a", b"b", b"c"] * 2
    assert all(one.get(m.TOPIC_ALIAS) is None for one in plain.take())          # [MQTT-3.1.2-27]


# -- message expiry


def test_what_is_left_of_the_expiry_is_forwarded(broker):
    """[MQTT-3.3.2-6]"""
    broker.client("r", **PERSISTENT).subscribe("a")
    broker.server.sessions["r"].connection.channel.handler.eof()
    broker.run()
    writer = broker.client("w")
    writer.publish("a", b"short", qos=1, values=[(m.MESSAGE_EXPIRY, 10)])
    writer.publish("a", b"long", qos=1, values=[(m.MESSAGE_EXPIRY, 100)])
    broker.tick(30.5)
    reader = broker.client()
    reader.connect("r", **PERSISTENT)
    (found,) = reader.rest + reader.take()
    assert (found.payload, found.get(m.MESSAGE_EXPIRY)) == (b"long", 70)
    assert broker.server.sessions["r"].consumer.lag().events == 1               # the other one is done


def test_a_live_event_carries_its_expiry(broker):
    reader = broker.client("r")
    reader.subscribe(("a", 0))
    broker.client("w").publish("a", b"x", values=[(m.MESSAGE_EXPIRY, 10)])
    assert reader.one(PUBLISH).get(m.MESSAGE_EXPIRY) == 10


def test_expired_before_anybody_can_get_it(broker):
    """[MQTT-3.3.2-5]"""
    reader = broker.client("r")
    reader.subscribe(("a", 0), ("b", 1))
    writer = broker.client("w")
    writer.publish("a", b"x", values=[(m.MESSAGE_EXPIRY, 0)])
    writer.publish("b", b"x", qos=1, values=[(m.MESSAGE_EXPIRY, 0)])
    assert reader.payloads() == []


# -- answers


def test_acks_come_in_the_order_of_the_publishes(broker):
    """[MQTT-4.6.0-2] [MQTT-4.6.0-3]"""
    writer = broker.client("w")
    data = b"".join(
        publish_packet(f"t{n % 3}", b"x", qos=1 + n % 2, packet_id=n, values=[(m.CONTENT_TYPE, "x")] * (n % 5 == 0))
        for n in range(1, 40))
    writer.feed(data)
    found = writer.take()
    assert [one.packet_id for one in found if one.kind == PUBACK] == list(range(2, 40, 2))
    assert [one.packet_id for one in found if one.kind == PUBREC] == list(range(1, 40, 2))


def test_acks_of_refused_and_of_durable_publishes_keep_their_order(make_broker):
    rules = (ALLOW_ALL, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("no/#",)))
    broker = make_broker(rules=rules)
    writer = broker.client("w")
    topics = ["a", "no/1", "b", "no/2", "$x", "c", "no/3"]
    writer.feed(b"".join(publish_packet(topic, qos=1, packet_id=n) for n, topic in enumerate(topics, 1)))
    assert [(one.packet_id, one.code) for one in writer.take()] == [
        (1, 0), (2, 0x87), (3, 0), (4, 0x87), (5, 0x87), (6, 0), (7, 0x87)]


def test_a_refusal_has_its_reason_unless_the_client_does_not_want_it(make_broker):
    """[MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.1.2-29] [MQTT-3.4.2-2]"""
    broker = make_broker(rules=(Rule(allow=(Action.SUBSCRIBE,), to=("*",)),))
    for values, wanted in (([], True), ([(m.REQUEST_PROBLEM, 0)], False), ([(m.MAXIMUM_PACKET_SIZE, 30)], False)):
        writer = broker.client("w", values=values)
        for qos, kind in ((1, PUBACK), (2, PUBREC)):
            writer.publish("a", b"x", qos=qos)
            found = writer.one(kind)
            assert found.code == 0x87
            assert (found.get(m.REASON_STRING) is not None) is wanted
            assert found.user_properties == []


def test_v3_is_closed_when_a_guaranteed_publish_is_refused(make_broker):
    broker = make_broker(rules=(ALLOW_ALL, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("no/#",))))
    writer = broker.client("w", 4)
    writer.publish("no/1", b"x")
    assert writer.ping()[-1].kind == m.PINGRESP
    good = publish_packet("yes", qos=1, packet_id=7, version=4)
    writer.feed(good + publish_packet("no/1", qos=1, packet_id=8, version=4))
    assert [one.packet_id for one in writer.take()] == [7]
    assert writer.closed
    assert broker.router.drops["mqtt", "refused"] == 2


def test_payload_that_is_not_the_text_it_says(broker):
    writer = broker.client("w")
    writer.publish("a", b"\xff", qos=1, values=[(m.PAYLOAD_FORMAT, 1)])
    assert writer.one(PUBACK).code == 0x99
    writer.publish("a", b"\xff", qos=2, values=[(m.PAYLOAD_FORMAT, 1)])
    assert writer.one(PUBREC).code == 0x99
    writer.publish("a", b"\xff", values=[(m.PAYLOAD_FORMAT, 1)])
    assert writer.one(DISCONNECT).code == 0x99


@pytest.mark.parametrize("topic", ["a/+", "#", ""])
def test_response_topic_with_wildcards(broker, topic):
    """[MQTT-3.3.2-14]"""
    writer = broker.client("w")
    writer.publish("a", b"x", values=[(m.RESPONSE_TOPIC, topic)])
    assert writer.one(DISCONNECT).code == 0x82


def test_payload_over_the_routers_bound(make_broker):
    broker = make_broker(limits=Limits(payload_bytes_max=100))
    writer = broker.client("w")
    writer.publish("a", b"x" * 101, qos=1)
    assert writer.one(PUBACK).code == 0x83
    writer.publish("a", b"x" * 100, qos=1)
    assert writer.one(PUBACK).code == 0


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 100_000])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_payloads_of_all_sizes(broker, size, qos):
    reader, old = broker.client("r"), broker.client("o", 4)
    for one in (reader, old):
        one.subscribe(("a/b", 2))
    broker.client("w").publish("a/b", b"x" * size, qos=qos)
    broker.client("w", 4).publish("a/b", b"y" * size, qos=qos)
    assert reader.payloads() == old.payloads() == [b"x" * size, b"y" * size]


def test_packets_cut_anywhere_are_put_together(broker):
    reader = broker.client("r")
    reader.subscribe("#")
    data = b"".join(publish_packet(f"t/{n % 2}", b"p%d" % n, qos=1, packet_id=n) for n in range(1, 30))
    for size in (1, 2, 3, 7, 50):
        writer = broker.client("w")
        for start in range(0, len(data), size):
            writer.feed(data[start:start + size])
        assert len(writer.take()) == 29
        assert reader.payloads(ack=True) == [b"p%d" % n for n in range(1, 30)]


def test_reading_pauses_while_the_disk_is_behind(make_broker):
    broker = make_broker(limits=Limits(pending_commit_bytes=10_000))
    writer = broker.client("w")
    writer.feed(publish_packet("a", b"x" * 6_000, qos=1, packet_id=1), run=False)
    assert writer.channel.paused
    broker.tick(0.05)
    assert not writer.channel.paused
    assert writer.one(PUBACK).code == 0


def test_request_and_response(broker):
    """[MQTT-3.1.2-28]"""
    asking = broker.client("asks", values=[(m.REQUEST_RESPONSE, 1)])
    answers = asking.connack.get(m.RESPONSE_INFORMATION)
    assert answers == "response/asks"
    assert broker.client("other").connack.get(m.RESPONSE_INFORMATION) is None
    asking.subscribe((answers, 1))
    serving = broker.client("serves")
    serving.subscribe("service")
    asking.publish("service", b"?", qos=1, values=[(m.RESPONSE_TOPIC, answers), (m.CORRELATION, b"7")])
    asking.take()
    found = serving.one(PUBLISH)
    serving.publish(found.get(m.RESPONSE_TOPIC), b"!", qos=1, values=[(m.CORRELATION, found.get(m.CORRELATION))])
    answer = asking.one(PUBLISH)
    assert (answer.payload, answer.get(m.CORRELATION)) == (b"!", b"7")


def test_the_frame_of_a_qos0_event_is_encoded_once(broker):
    """[MQTT-4.3.1-1]"""
    readers = [broker.client(f"r{n}", version) for n, version in enumerate((4, 4, 5, 5))]
    for reader in readers:
        reader.subscribe(("a", 0))
    event = Event("a", b"x")
    broker.publish(event)
    assert event.mqtt4_frame == b"\x30\x04\x00\x01ax"
    assert event.mqtt5_frame == b"\x30\x05\x00\x01a\x00x"
    assert [reader.payloads() for reader in readers] == [[b"x"]] * 4
    big = Event("a", b"x" * (MqttSettings().shared_frame_bytes_max + 1))
    broker.publish(big)
    assert big.mqtt4_frame is None
    assert [reader.payloads() for reader in readers] == [[big.payload]] * 4


@pytest.mark.parametrize("size", [65_535, 65_000])
def test_the_longest_topics(broker, size):
    """[MQTT-4.7.3-3] [MQTT-4.7.3-4]"""
    topic = "Ä" + "x" * (size - 2)
    reader = broker.client("r")
    assert reader.subscribe((topic, 1), (topic.lower(), 1)).codes == [1, 1]
    broker.client("w").publish(topic, b"x", qos=1)
    assert reader.one(PUBLISH).topic == topic


@pytest.mark.parametrize(("topic", "internal"), [
    ("$SYS/broker/connection/plant.1/state", False), ("$SYS/broker/connection//state", True),
    ("$SYS/broker/connection/a/b/state", True), ("$SYS/broker/connection/a/state/x", True),
    ("$SYS/broker/connection/a", True), ("$SYS/broker/uptime", True), ("$other", True), ("a/$SYS", False),
])
def test_of_the_topics_below_sys_a_client_may_publish_the_state_of_a_bridge_alone(topic, internal):
    assert is_internal(topic) is internal
