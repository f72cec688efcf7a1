"""MQTT 3.1.1 from outside: what differs from version 5, clause by clause (numbers are those of MQTT 3.1.1)."""
from __future__ import annotations

import time

import pytest

from tests.support import rawmqtt as m
from tests.support.rawmqtt import Will, connect_packet, packet, publish_packet, subscribe_packet

deviates = pytest.mark.mosquitto_deviates


def v4(broker, client_id: str, **options) -> m.RawMqtt:
    return broker.connect(client_id, version=4, **options)


def closed(broker, client_id: str, data: bytes) -> None:
    """After CONNACK send bytes; the server closes in silence, as 3.1.1 has no DISCONNECT of the server."""
    with v4(broker, client_id) as client:
        client.send(data)
        assert client.expect_close() is None


def test_connack_is_four_bytes(broker, unique):
    """[MQTT-3.2.2-1] 20 02 00 00 for a clean session."""
    with broker.socket(version=4) as client:
        client.send(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04" + unique()[-4:].encode())
        assert client.expect(m.CONNACK).body == b"\x00\x00"


@pytest.mark.meshgate_only("MQTT 3.1 may be spoken, too")
def test_protocol_level_3_is_refused_with_code_1(broker, unique):
    """[MQTT-3.1.2-2] MQTT 3.1 (name MQIsdp, level 3) is not spoken: CONNACK 0x01 and close."""
    with broker.socket(version=4) as client:
        client.send(connect_packet(unique(), version=3, protocol=b"MQIsdp"))
        assert client.expect(m.CONNACK).code == 1
        assert client.expect_close() is None


def test_an_empty_client_id_needs_a_clean_session(broker):
    """[MQTT-3.1.3-8] [MQTT-3.1.3-9] clean 1 is served; clean 0 is CONNACK 0x02 and close."""
    with v4(broker, ""):
        pass
    with broker.connect("", version=4, clean=False, accept=False) as client:
        assert client.connack.code == 2
        client.expect_close()


def test_session_present(broker, unique, topic):
    """[MQTT-3.2.2-1…3] [MQTT-3.1.2-4…6] 0 at first, 1 when there is state, 0 after a clean session."""
    for clean, present in ((False, False), (False, True), (True, False), (False, False)):
        with v4(broker, unique(), clean=clean) as client:
            assert client.connack.session_present is present
            client.subscribe((topic, 1))
            client.disconnect()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_qos(broker, unique, topic, published, granted):
    """[MQTT-3.8.4-6] §4.3: delivery at the lower of both."""
    with v4(broker, unique("sub")) as subscriber, v4(broker, unique("pub")) as publisher:
        assert subscriber.subscribe((topic, granted)).codes == [granted]
        if published:
            publisher.publish_acked(topic, b"x", qos=published)
        else:
            publisher.publish(topic, b"x")
        assert subscriber.message().qos == min(published, granted)


def test_offline_messages_come_in_order(broker, unique, topic):
    """[MQTT-3.1.2-5] [MQTT-4.6.0-6] A persistent session gets its QoS 1 and 2 messages on reconnect."""
    with v4(broker, unique("sub"), clean=False) as subscriber:
        subscriber.subscribe((topic, 2))
        subscriber.disconnect()
    with v4(broker, unique("pub")) as publisher:
        for number in range(100):
            publisher.publish_acked(topic, b"%d" % number, qos=1 + number % 2)
    with v4(broker, unique("sub"), clean=False) as subscriber:
        assert [one.payload for one in subscriber.messages(100)] == [b"%d" % number for number in range(100)]
    with v4(broker, unique("sub")):
        pass


def test_unacked_messages_come_again_with_dup(broker, unique, topic):
    """[MQTT-4.4.0-1] [MQTT-3.3.1-1] Same ids, same order."""
    with v4(broker, unique("sub"), clean=False) as subscriber, v4(broker, unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        for number in range(3):
            publisher.publish_acked(topic, b"%d" % number)
        first = subscriber.messages(3, ack=False)
        subscriber.drop()
        with v4(broker, unique("sub"), clean=False) as back:
            again = back.messages(3)
            assert [(one.packet_id, one.payload) for one in again] == [(one.packet_id, one.payload) for one in first]
            assert all(one.dup for one in again)


def test_take_over_closes_the_old_connection(broker, unique):
    """[MQTT-3.1.4-2] In silence."""
    with v4(broker, unique()) as old, v4(broker, unique()) as new:
        assert old.expect_close() is None
        new.ping()


def test_the_will(broker, unique, topic):
    """[MQTT-3.1.2-8] [MQTT-3.14.4-3] Sent when the connection breaks, not after DISCONNECT."""
    with v4(broker, unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        with v4(broker, unique("polite"), will=Will(topic, b"no", qos=1)) as client:
            client.disconnect()
        with v4(broker, unique("broken"), will=Will(topic, b"yes", qos=1)):
            pass
        assert watcher.message().payload == b"yes"


def test_keep_alive(broker, unique, topic):
    """[MQTT-3.1.2-24] Closed after one and a half keep-alives, with the will."""
    with v4(broker, unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        began = time.monotonic()
        with v4(broker, unique(), keep_alive_s=1, will=Will(topic, b"silent", qos=1)) as client:
            assert client.expect_close() is None
        # Mosquitto counts in whole seconds and may close after little more than one
        assert time.monotonic() - began >= (1.4 if broker.kind == "meshgate" else 1.0)
        assert watcher.message().payload == b"silent"


def test_retained(broker, unique, topic):
    """[MQTT-3.3.1-5…11] Stored, replaced, sent with RETAIN 1 at every SUBSCRIBE, live with 0, cleared by empty."""
    with v4(broker, unique("sub")) as subscriber, v4(broker, unique("pub")) as publisher:
        publisher.publish_acked(topic, b"1", retain=True)
        publisher.publish_acked(topic, b"2", retain=True)
        for _ in range(2):
            subscriber.subscribe((topic, 1))
            found = subscriber.message()
            assert (found.payload, found.retain) == (b"2", True)
        publisher.publish_acked(topic, b"3", retain=True)
        assert subscriber.message().retain is False
        publisher.publish_acked(topic, b"", retain=True)
        assert subscriber.message().payload == b""
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"sentinel")
        assert subscriber.messages_until(b"sentinel") == []


def test_a_share_group_works_for_3_1_1_too(broker, unique, topic):
    """Not in 3.1.1, but every broker of today does it: `$share` for all versions."""
    with v4(broker, unique("a")) as one, v4(broker, unique("b")) as two, v4(broker, unique("pub")) as publisher:
        for member in (one, two):
            assert member.subscribe((f"$share/{unique('g')}/{topic}", 1)).codes == [1]
        for number in range(10):
            publisher.publish_acked(topic, b"%d" % number)
        got = []
        while len(got) < 10:
            for member in (one, two):
                try:
                    got.append(member.message(deadline_s=0.2).payload)
                except m.NotReceived:
                    pass
        assert sorted(got) == sorted(b"%d" % number for number in range(10))


def test_both_versions_talk_to_each_other(broker, unique, topic):
    """A message of 3.1.1 reaches version 5 and back; properties are left out for 3.1.1."""
    with v4(broker, unique("old")) as old, broker.connect(unique("new")) as new:
        old.subscribe((topic, 2))
        new.subscribe((topic, 2 | m.NO_LOCAL))
        new.publish_acked(topic, b"from 5", qos=2, values=[(m.USER_PROPERTY, ("a", "b")), (m.CONTENT_TYPE, "x")])
        assert old.message().payload == b"from 5"
        old.publish_acked(topic, b"from 4", qos=2)
        assert new.message().payload == b"from 4"


def test_a_session_may_change_its_version(broker, unique, topic):
    """The session belongs to the client id, not to the protocol version."""
    with v4(broker, unique("sub"), clean=False) as client:
        client.subscribe((topic, 1))
        client.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"x", values=[(m.USER_PROPERTY, ("a", "b"))])
    with broker.connect(unique("sub"), clean=False, values=[(m.SESSION_EXPIRY, 0)]) as client:
        assert client.connack.session_present
        found = client.message()
        assert (found.payload, found.user_properties) == (b"x", [("a", "b")])


def test_suback_0x80_or_close_for_a_wrong_filter(broker, unique):
    """[MQTT-3.9.3-2] §4.7: failure is 0x80; the server may close instead."""
    with v4(broker, unique()) as client:
        client.send(subscribe_packet(1, [("a/#/b", 0)], version=4))
        try:
            assert client.expect(m.SUBACK).codes == [0x80]
        except m.ConnectionClosed:
            pass


WRONG = {
    "second CONNECT": connect_packet("again", version=4),                               # [MQTT-3.1.0-2]
    "QoS 3": publish_packet("a", b"x", qos=3, packet_id=1, version=4),                  # [MQTT-3.3.1-4]
    "wildcard topic": publish_packet("a/+", b"x", version=4),                           # [MQTT-3.3.2-2]
    "NUL in the topic": publish_packet(b"a\x00b", b"x", version=4),                     # [MQTT-1.5.3-2]
    "bad UTF-8": publish_packet(b"\xc3\x28", b"x", version=4),                          # [MQTT-1.5.3-1]
    "packet id 0": publish_packet("a", b"x", qos=1, packet_id=0, version=4),            # [MQTT-2.3.1-1]
    "no filter": packet(0x82, b"\x00\x01"),                                             # [MQTT-3.8.3-3]
    "SUBSCRIBE flags": packet(0x80, b"\x00\x01\x00\x01a\x00"),                          # [MQTT-3.8.1-1]
    "subscription QoS 3": packet(0x82, b"\x00\x01\x00\x01a\x03"),                       # [MQTT-3-8.3-4]
    "reserved bits": packet(0x82, b"\x00\x01\x00\x01a\x04"),                            # [MQTT-3-8.3-4]
    "UNSUBSCRIBE without filter": packet(0xA2, b"\x00\x01"),                            # [MQTT-3.10.3-2]
    "type 15": b"\xf0\x00",                                                             # §2.2.1
    "type 0": b"\x00\x00",
    "length of five bytes": b"\x30\xff\xff\xff\xff\x01",                                # §2.2.3
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_wrong_packets_are_closed_in_silence(broker, unique, data):
    """[MQTT-4.8.0-1] A protocol violation closes the connection."""
    closed(broker, unique(), data)


@deviates("answers a client's CONNACK or SUBACK with silence")
@pytest.mark.parametrize("first", [0x90, 0xB0, 0xD0], ids=["SUBACK", "UNSUBACK", "PINGRESP"])
def test_packets_of_a_server_are_refused_from_a_client(broker, unique, first):
    """§2.2.1, table of directions."""
    closed(broker, unique(), packet(first, b"" if first == 0xD0 else b"\x00\x01\x00"))
