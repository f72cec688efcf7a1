"""hostile.md rows 1 to 32: bytes written out, the right answer, and everybody else does not notice.

Row 33 (WebSocket) stands in tests/protocols/websocket.
"""
from __future__ import annotations

import struct
import time
import tracemalloc

import pytest

from protocols.mqtt.settings import MqttSettings
from routing.rights.policy import ALLOW_ALL, Action, Rule
from tests.protocols.mqtt.harness import (
    CONNACK,
    DISCONNECT,
    NO_LOCAL,
    PUBACK,
    PUBLISH,
    PUBREC,
    SUBACK,
    Users,
    Will,
    connect_packet,
    packet,
    properties,
    publish_packet,
    subscribe_packet,
    text,
)
from tests.support import rawmqtt as m

CONNECT_V4 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"
CONNECT_V5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c"


def refused(broker, data, version=5):
    """Send bytes on a fresh connection. Returns what was answered; the connection is closed."""
    client = broker.client(version=version)
    client.feed(data)
    assert client.closed
    return client.take()


def connack_code(broker, data, version=5):
    (found,) = refused(broker, data, version)
    assert found.kind == CONNACK
    assert found.session_present is False
    return found.code


def disconnect_code(broker, data, version=5, **options):
    """Connect, send bytes. Returns the code of the DISCONNECT (None for a silent close)."""
    client = broker.client("victim", version, **options)
    bystander = broker.client("bystander", version)
    client.feed(data)
    assert client.closed
    found = client.take()
    assert bystander.ping()[-1].kind == m.PINGRESP
    bystander.disconnect()
    if version == 4:
        assert found == []
        return None
    assert found[-1].kind == DISCONNECT
    assert [entry for entry in found if entry.kind == DISCONNECT] == found[-1:]
    return found[-1].code


# -- rows 1 to 7: before CONNECT


@pytest.mark.parametrize("data", [
    b"\xc0\x00", b"\x30\x05\x00\x01a\x00\x00", b"\x82\x06\x00\x01\x00\x01a\x00", b"\xe0\x00", b"\x00\x00",
    b"GET / HTTP/1.1\r\n\r\n", b"\x30\xff\xff\xff\x7f"])
def test_01_first_packet_is_not_connect(broker, data):
    """[MQTT-3.1.0-1] closed without a word."""
    assert refused(broker, data) == []


def test_01_a_declared_size_is_not_allocated(broker):
    client = broker.client()
    tracemalloc.start()
    client.feed(b"\x10\xe8\xfb\x03")            # 65,000 bytes: allowed before authentication, but not there
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 16_384
    assert not client.closed


def test_02_second_connect(broker):
    """[MQTT-4.13.2-1] [MQTT-3.1.0-2]"""
    assert disconnect_code(broker, CONNECT_V5) == 0x82
    disconnect_code(broker, CONNECT_V4, version=4)


def test_03_remaining_length_of_five_bytes(broker):
    assert refused(broker, b"\x10\xff\xff\xff\xff\x7f") == []
    assert disconnect_code(broker, b"\x30\xff\xff\xff\xff\x01") == 0x81
    assert disconnect_code(broker, b"\xc0\x80\x00") == 0x81          # not minimal


def test_04_the_largest_packet_before_connect(broker):
    client = broker.client()
    client.feed(b"\x10\xff\xff\xff\x7f" + b"\0" * 100)
    assert client.closed


def test_05_connect_byte_by_byte_runs_into_the_timeout(broker):
    client = broker.client()
    for index, _ in enumerate(CONNECT_V5[:3]):
        client.feed(CONNECT_V5[index:index + 1])
        broker.tick(4.0)
    assert client.closed
    assert client.take() == []
    assert broker.server.connections == set()


def test_06_wrong_protocol_name(broker):
    """[MQTT-3.1.2-1]"""
    assert refused(broker, connect_packet("c", protocol=b"hj")) == []


def test_07_wrong_protocol_level(broker):
    """[MQTT-3.1.2-2]"""
    assert connack_code(broker, connect_packet("c", version=6), version=4) == 0x01
    assert connack_code(broker, connect_packet("c", version=3), version=4) == 0x01


# -- rows 8 to 12: CONNECT


def test_08_reserved_connect_flag(broker):
    """[MQTT-3.2.2-7] [MQTT-3.14.0-1] [MQTT-3.1.2-3]"""
    assert connack_code(broker, connect_packet("c", flags=0x03)) == 0x81
    assert refused(broker, connect_packet("c", flags=0x03, version=4), version=4) == []


def test_09_will_qos_3_and_will_flags_without_a_will(broker):
    """[MQTT-3.1.2-12] [MQTT-3.1.2-11] [MQTT-3.1.2-13]"""
    assert connack_code(broker, connect_packet("c", flags=0x1E, will=Will("w"))) == 0x81
    assert connack_code(broker, connect_packet("c", flags=0x0A)) == 0x81
    assert connack_code(broker, connect_packet("c", flags=0x22)) == 0x81


def test_10_empty_client_id_with_a_session_to_keep(broker):
    assert connack_code(broker, connect_packet("", version=4, clean=False), version=4) == 0x02
    first = broker.client("", 4)
    second = broker.client("", 4)
    assert not first.closed and not second.closed
    assert len(broker.server.sessions) == 2


def test_11_client_id_with_characters_that_are_none(broker):
    for bad in (b"a\0b", "a\uffffb".encode(), b"a\x07b"):
        assert connack_code(broker, connect_packet(bad)) == 0x85
        assert connack_code(broker, connect_packet(bad, version=4), version=4) == 0x02
    assert connack_code(broker, connect_packet(b"\xff\xfe")) == 0x81
    assert connack_code(broker, connect_packet(b"\xed\xa0\x80")) == 0x81         # a surrogate


@pytest.mark.parametrize("client_id", ["+", "#", "a/b", "+/#"])
def test_11_client_id_with_wildcards_never_widens_a_rule(make_broker, client_id):
    rules = (Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("*",), topics=("dev/%c/x",)),)
    broker = make_broker(rules=rules)
    client = broker.client(client_id)
    assert client.subscribe(("dev/+/x", 0), ("#", 1)).codes == [0x87, 0x87]
    client.feed(subscribe_packet(9, [(f"dev/{client_id}/x", 1)]))
    answer = client.take()[-1]
    assert answer.codes == [0x87] if answer.kind == m.SUBACK else answer.code == 0x81
    assert broker.client("7").subscribe(("dev/7/x", 1)).codes == [1]


@pytest.mark.parametrize("topic", [b"a\0b", b"\xed\xa0\x80", b"\xff", b"\xc0\x80"])
def test_12_topic_that_is_no_text(broker, topic):
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2]"""
    assert disconnect_code(broker, publish_packet(topic)) == 0x81
    good = publish_packet("a", qos=1, packet_id=1)
    assert disconnect_code(broker, good + publish_packet(topic, qos=1, packet_id=2)) == 0x81
    disconnect_code(broker, publish_packet(topic, version=4), version=4)
    assert disconnect_code(broker, subscribe_packet(1, [(topic, 0)])) == 0x81


# -- rows 13 to 19: PUBLISH


@pytest.mark.parametrize("topic", ["a/+", "#", "a/#", "a+"])
def test_13_publish_to_a_wildcard(broker, topic):
    """[MQTT-4.7.0-1] [MQTT-3.3.2-2]"""
    assert disconnect_code(broker, publish_packet(topic)) == 0x90
    assert disconnect_code(broker, publish_packet(topic, qos=1, packet_id=1)) == 0x90
    disconnect_code(broker, publish_packet(topic, version=4), version=4)


def test_14_empty_topic_without_alias(broker):
    assert disconnect_code(broker, publish_packet("")) == 0x82
    disconnect_code(broker, publish_packet("", version=4), version=4)


def test_15_qos_3(broker):
    """[MQTT-3.3.1-4]"""
    assert disconnect_code(broker, b"\x36\x06\x00\x01a\x00\x01\x00") == 0x81
    disconnect_code(broker, b"\x36\x05\x00\x01a\x00\x01", version=4)


@pytest.mark.parametrize("qos", [1, 2])
def test_16_packet_id_0(broker, qos):
    """[MQTT-2.2.1-3]"""
    assert disconnect_code(broker, publish_packet("a", qos=qos, packet_id=0)) == 0x82
    assert disconnect_code(broker, b"".join(publish_packet("a", qos=qos, packet_id=n) for n in (1, 2, 3, 0))) == 0x82
    disconnect_code(broker, publish_packet("a", qos=qos, packet_id=0, version=4), version=4)
    assert disconnect_code(broker, subscribe_packet(0, [("a", 0)])) == 0x82
    assert disconnect_code(broker, b"\x40\x02\x00\x00") == 0x82


@pytest.mark.parametrize("alias", [0, 65, 65_535])
def test_17_topic_alias_out_of_range(broker, alias):
    """[MQTT-3.2.2-17] [MQTT-3.3.2-9]"""
    assert disconnect_code(broker, publish_packet("a", values=[(m.TOPIC_ALIAS, alias)])) == 0x94


def test_17_topic_alias_that_was_never_told(broker):
    assert disconnect_code(broker, publish_packet("", values=[(m.TOPIC_ALIAS, 1)])) == 0x82


def test_18_property_twice_or_foreign_or_unknown(broker):
    twice = [(m.CONTENT_TYPE, "x"), (m.CONTENT_TYPE, "x")]
    assert disconnect_code(broker, publish_packet("a", values=twice)) == 0x82
    assert disconnect_code(broker, publish_packet("a", values=[(m.RECEIVE_MAXIMUM, 5)])) == 0x81      # §2.2.2.2
    assert disconnect_code(broker, publish_packet("a", values=[(m.SUBSCRIPTION_ID, 5)])) == 0x82      # [MQTT-3.3.4-6]
    assert disconnect_code(broker, b"\x30\x06\x00\x01a\x02\x7f\x00") == 0x81
    assert disconnect_code(broker, publish_packet("a", values=[(m.PAYLOAD_FORMAT, 2)])) == 0x82
    assert connack_code(broker, connect_packet("c", values=[(m.RECEIVE_MAXIMUM, 5), (m.RECEIVE_MAXIMUM, 5)])) == 0x82
    assert connack_code(broker, connect_packet("c", values=[(m.TOPIC_ALIAS, 5)])) == 0x81


@pytest.mark.measured
def test_19_ten_thousand_user_properties_cost_linear_time(make_broker):
    broker = make_broker()
    pairs = [(m.USER_PROPERTY, ("n", "v"))] * 10_000
    client = broker.client("victim")
    data = publish_packet("a", qos=1, packet_id=1, values=pairs)
    spent = []
    for _ in range(3):
        started = time.process_time()
        client.feed(data, run=False)
        spent.append(time.process_time() - started)
        broker.run()
        assert client.one(PUBACK).code == 0x97       # the router's bound of headers; the codec has none to spare
    assert min(spent) < 0.05


# -- rows 20 to 23: SUBSCRIBE


def test_20_subscribe_without_filters_or_with_wrong_flags(broker):
    """[MQTT-3.8.3-2] [MQTT-3.8.1-1] [MQTT-3.10.3-2] [MQTT-3.10.1-1]"""
    assert disconnect_code(broker, b"\x82\x03\x00\x01\x00") == 0x82
    assert disconnect_code(broker, b"\x80\x07\x00\x01\x00\x00\x01a\x00") == 0x81
    assert disconnect_code(broker, b"\xa2\x03\x00\x01\x00") == 0x82
    assert disconnect_code(broker, b"\xa0\x06\x00\x01\x00\x00\x01a") == 0x81
    disconnect_code(broker, b"\x82\x02\x00\x01", version=4)
    disconnect_code(broker, b"\x80\x06\x00\x01\x00\x01a\x00", version=4)


@pytest.mark.parametrize("pattern", [
    "#/a", "a+", "a/#/b", "+a/b", "$share//x", "$share/g+/x", "$share/g", "$share/g/", "$share", ""])
def test_21_filter_that_is_none(broker, pattern):
    """[MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]"""
    for bad in (subscribe_packet(1, [("good", 1), (pattern, 1)]), m.unsubscribe_packet(1, [pattern])):
        assert disconnect_code(broker, bad) == 0x81
        client = broker.client("c4", 4)
        client.feed(m.subscribe_packet(1, [(pattern, 1)], version=4))
        assert client.closed and not client.take()


def test_21_no_local_on_a_share(broker):
    """[MQTT-3.8.3-4]"""
    assert disconnect_code(broker, subscribe_packet(1, [("$share/g/a", NO_LOCAL | 1)])) == 0x82


@pytest.mark.parametrize("options", [0x03, 0x30, 0x40, 0x80])
def test_21_subscription_options_that_are_reserved(broker, options):
    """[MQTT-3.8.3-5]"""
    assert disconnect_code(broker, subscribe_packet(1, [("a", options)])) in (0x81, 0x82)


def test_22_too_many_levels_and_too_many_subscriptions(make_broker):
    broker = make_broker(mqtt=MqttSettings(subscriptions_max=100))
    client = broker.client("c")
    assert client.subscribe(("+/" * 128 + "+", 1)).codes == [0x8F]
    assert client.subscribe(*[(f"f/{number}", 1) for number in range(103)]).codes == [1] * 100 + [0x97] * 3
    assert client.subscribe(("f/5", 0)).codes == [0]            # it is there already


@pytest.mark.measured
def test_22_match_cost_is_bounded(broker):
    client = broker.client("c")
    for start in range(0, 5_000, 500):
        client.subscribe(*[(f"+/{number}/+/#", 1) for number in range(start, start + 500)])
    writer = broker.client("w")
    started = time.process_time()
    for number in range(200):
        writer.publish(f"a/{number}/c/{number}", b"x", qos=1)
    assert (time.process_time() - started) / 200 < 0.005
    assert len(client.payloads()) == 200


def test_23_filter_that_is_not_allowed(make_broker):
    rules = (Rule(allow=(Action.SUBSCRIBE, Action.PUBLISH), to=("*",), topics=("ok/#",)),)
    broker = make_broker(rules=rules)
    assert broker.client("c").subscribe(("secret", 1), ("ok/a", 2)).codes == [0x87, 2]
    assert broker.client("d", 4).subscribe(("secret", 1), ("ok/a", 2)).codes == [0x80, 2]
    assert broker.router.policy.denials[0]["topic"] == "secret"


@pytest.mark.parametrize("qos", [0, 1])
def test_23_wildcard_wider_than_a_deny_delivers_nothing_denied(make_broker, qos):
    rules = (ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("user:eve",), topics=("secret/#",)))
    broker = make_broker(rules=rules)
    writer = broker.client("w", username="boss")
    writer.publish("secret/kept", b"no", qos=1, retain=True)
    eve = broker.client("eve", username="eve")
    assert eve.subscribe(("#", qos)).codes == [qos]
    assert eve.payloads() == []
    writer.publish("secret/live", b"no", qos=1)
    writer.publish("open", b"yes", qos=1)
    assert eve.payloads() == [b"yes"]


# -- rows 24 to 29: limits, time, take-over


@pytest.mark.parametrize("qos", [1, 2])
def test_24_more_than_receive_maximum_in_flight(make_broker, qos):
    """[MQTT-3.3.4-7]"""
    broker = make_broker(mqtt=MqttSettings(receive_maximum=10))
    client = broker.client("c")
    assert client.connack.get(m.RECEIVE_MAXIMUM) == 10
    client.feed(b"".join(publish_packet("a", qos=qos, packet_id=n) for n in range(1, 12)), run=False)
    assert client.closed
    assert client.take()[-1].code == 0x93


def test_24_the_window_opens_again_with_each_answer(make_broker):
    broker = make_broker(mqtt=MqttSettings(receive_maximum=10))
    client = broker.client("c")
    for _ in range(3):
        client.feed(b"".join(publish_packet("a", qos=1, packet_id=n) for n in range(1, 11)))
    assert len(client.take()) == 30
    for n in range(1, 11):
        client.publish("a", qos=2, packet_id=n)
        client.ack(m.PUBREL, n)
    client.feed(b"".join(publish_packet("a", qos=2, packet_id=n) for n in range(1, 11)))
    assert not client.closed


def test_25_all_qos2_ids_may_be_open_and_cost_bits(broker):
    """MQTT 3.1.1 has no Receive Maximum. 65,535 ids are 12 KiB in memory and 9 KiB in what is stored of the session."""
    client = broker.client("c", 4, clean=False)
    for start in range(1, 65_536, 5_000):
        client.feed(b"".join(
            publish_packet("a", qos=2, packet_id=n, version=4) for n in range(start, min(start + 5_000, 65_536))))
    assert not client.closed
    assert len([one for one in client.take() if one.kind == m.PUBREC]) == 65_535
    session = broker.server.sessions["c"]
    assert len(session.open_ids) == 65_535 and not session.open_ids.waiting
    assert len(session.stored_qos2(())) < 9 * 1024
    client.ack(m.PUBREL, 65_535)
    assert client.one(m.PUBCOMP).packet_id == 65_535
    assert len(session.open_ids) == 65_534


@pytest.mark.parametrize("persistent", [False, True])
def test_25_open_ids_of_version_5_are_bounded_by_receive_maximum(make_broker, persistent):
    broker = make_broker(mqtt=MqttSettings(receive_maximum=500))
    client = broker.client("c", clean=not persistent, values=[(m.SESSION_EXPIRY, 100)] if persistent else [])
    client.feed(b"".join(publish_packet("a", qos=2, packet_id=n) for n in range(1, 600)))
    assert client.closed
    assert client.take()[-1].code == 0x93
    assert all(len(session.open_ids) <= 500 for session in broker.server.sessions.values())


def test_26_packet_over_our_maximum(make_broker):
    """[MQTT-3.2.2-15]"""
    broker = make_broker(mqtt=MqttSettings(packet_bytes_max=2_000))
    assert disconnect_code(broker, publish_packet("a", b"x" * 2_000)) == 0x95
    client = broker.client("c")
    assert client.connack.get(m.MAXIMUM_PACKET_SIZE) == 2_000
    client.feed(publish_packet("a", b"x" * 2_000)[:10])         # its head is enough
    assert client.take()[-1].code == 0x95
    exact = broker.client("d")
    exact.feed(publish_packet("a", b"x" * (2_000 - 7)))
    assert not exact.closed


def test_27_maxima_of_0(broker):
    assert connack_code(broker, connect_packet("c", values=[(m.RECEIVE_MAXIMUM, 0)])) == 0x82
    assert connack_code(broker, connect_packet("c", values=[(m.MAXIMUM_PACKET_SIZE, 0)])) == 0x82


def test_28_silence_for_one_and_a_half_keep_alives(broker):
    """[MQTT-3.2.2-22] [MQTT-3.1.2-22]"""
    watcher = broker.client("w")
    watcher.subscribe("will")
    client = broker.client("c", keep_alive_s=10, will=Will("will", b"gone", 1))
    old = broker.client("d", 4, keep_alive_s=10)
    for _ in range(6):
        broker.tick(5.0)
        client.ping()
    assert not client.closed and old.closed
    broker.tick(14.9)
    assert not client.closed
    broker.tick(0.2)
    assert client.one(DISCONNECT).code == 0x8D
    assert client.closed
    assert watcher.payloads() == [b"gone"]


def test_29_same_client_id(broker):
    """[MQTT-3.1.4-3]"""
    first = broker.client("c", username="ana")
    second = broker.client()
    second.connect("c", username="bob")
    assert second.connack.code == 0x87
    assert second.closed and not first.closed
    old = broker.client(version=4)
    assert old.connect("c", username="bob").code == 5
    third = broker.client("c", username="ana")
    assert first.one(DISCONNECT).code == 0x8E
    assert first.closed and not third.closed


def test_29_a_session_that_is_away_is_not_for_others_either(broker):
    broker.client("c", clean=False, username="ana", values=[(m.SESSION_EXPIRY, 100)]).lose()
    assert broker.client().connect("c", username="bob", clean=True).code == 0x87


# -- rows 30 to 32


def test_30_auth(broker):
    """[MQTT-4.12.0-4] [MQTT-4.12.0-1] [MQTT-4.12.0-7]"""
    assert connack_code(broker, connect_packet("c", values=[(m.AUTH_METHOD, "SCRAM-SHA-1")])) == 0x8C
    assert connack_code(broker, connect_packet("c", values=[(m.AUTH_DATA, b"x")])) == 0x82
    for data in (b"\xf0\x00", packet(0xF0, b"\x19" + properties([(m.AUTH_METHOD, "x")])), packet(0xF0, b"\x18\x00")):
        assert disconnect_code(broker, data) == 0x82
    assert disconnect_code(broker, packet(0xF0, b"\x55\x00")) == 0x82
    disconnect_code(broker, b"\xf0\x00", version=4)


@pytest.mark.parametrize("topic", ["$SYS/broker/version", "$SYS", "$internal/x", "$share/g/t"])
def test_31_publish_to_the_nodes_own_topics(broker, topic):
    client = broker.client("c")
    client.publish(topic, b"x", qos=1)
    assert client.one(PUBACK).code == 0x87
    client.publish(topic, b"x", qos=2)
    assert client.one(PUBREC).code == 0x87
    client.publish("fine", b"x", qos=1)
    assert client.one(PUBACK).code == 0
    assert disconnect_code(broker, publish_packet(topic)) == 0x87
    disconnect_code(broker, publish_packet(topic, qos=1, packet_id=1, version=4), version=4)
    assert connack_code(broker, connect_packet("c2", will=Will(topic))) == 0x87
    assert broker.router.policy.denials


@pytest.mark.parametrize("data", [
    b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x00", b"\xd0\x00", b"\xb0\x04\x00\x01\x00\x00"])
def test_32_packets_that_only_a_server_sends(broker, data):
    assert disconnect_code(broker, data) == 0x82
    disconnect_code(broker, data, version=4)


def test_32_packet_type_0(broker):
    assert disconnect_code(broker, b"\x00\x00") == 0x81


# -- beyond the list


def test_bad_logins_are_refused_alike(make_broker):
    users = Users()
    users.passwords = {"ana": b"secret"}
    broker = make_broker(users=users)
    assert connack_code(broker, connect_packet("c", username="ana", password=b"wrong")) == 0x86
    assert connack_code(broker, connect_packet("c", username="nobody", password=b"wrong", version=4), version=4) == 4
    assert broker.client("c", username="ana", password=b"secret")


def test_what_came_before_a_fault_is_taken(broker):
    reader = broker.client("r")
    reader.subscribe("a")
    disconnect_code(broker, publish_packet("a", b"1", qos=1, packet_id=1) + publish_packet("a", b"2") + b"\xd0\x00")
    assert reader.payloads() == [b"1", b"2"]


def test_data_after_a_refusal_is_not_looked_at(broker):
    """[MQTT-3.1.4-6]"""
    reader = broker.client("r")
    reader.subscribe("a")
    refused(broker, connect_packet("c", flags=0x03) + publish_packet("a", b"no"))
    assert reader.payloads() == []


def test_a_flood_while_the_login_is_decided_is_bounded(make_broker):
    users = Users()
    users.waiting = []
    broker = make_broker(users=users)
    client = broker.client()
    client.feed(connect_packet("c"))
    for _ in range(80):
        client.feed(publish_packet("a", b"x" * 1_000))
    assert client.closed
    assert client.one(CONNACK).code == 0x95
    users.waiting.pop()()


@pytest.mark.measured
def test_a_million_tiny_reads_of_one_packet_cost_linear_time(broker):
    client = broker.client("c")
    client.feed(publish_packet("a", b"x" * 200_000, qos=1, packet_id=1)[:8])
    started = time.process_time()
    for _ in range(100_000):
        client.handler.receive_data(b"x", broker.now_s)
    assert time.process_time() - started < 2.0


def test_struct_of_subscribe_without_its_options_byte(broker):
    assert disconnect_code(broker, packet(0x82, struct.pack("!H", 1) + b"\0" + text("a"))) == 0x81


def test_counters_tell_what_was_refused(broker):
    refused(broker, connect_packet("c", flags=0x03))
    disconnect_code(broker, b"\xd0\x00")
    found = broker.server.counters.snapshot()
    assert found["refused.0x81"] == 1
    assert found["violations.0x82"] == 1
    assert found["packets_in.connect"] >= 2
    assert SUBACK and PUBLISH
