"""What a read brought before a fault of the peer counts: it is stored, and a repeat of it is answered."""
from __future__ import annotations

import pytest

from protocols.mqtt.settings import MqttSettings
from routing.errors import StorageError
from tests.protocols.mqtt.harness import PUBACK, PUBCOMP, PUBREC, PUBREL
from tests.protocols.mqtt.test_qos2 import stored
from tests.support import rawmqtt as m
from tests.support.rawmqtt import packet, publish_packet, subscribe_packet

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def session(broker, version, client_id="w"):
    """A connection of a session that is kept."""
    return broker.client(client_id, version, **(KEPT if version == 5 else {"clean": False}))


def test_a_flood_of_qos2_in_version_3_is_taken_whole(broker):
    """MQTT 3.1.1 has no Receive Maximum: nobody could know that 1,025 in one write are too many."""
    writer = session(broker, 4)
    writer.feed(b"".join(
        publish_packet("a", b"%d" % n, qos=2, packet_id=n, version=4) for n in range(1, 3_001)))
    assert [one.packet_id for one in writer.take() if one.kind == PUBREC] == list(range(1, 3_001))
    writer.lose()
    writer = session(broker, 4)
    writer.publish("a", b"1", qos=2, packet_id=1, dup=True)
    assert writer.one(PUBREC).packet_id == 1
    for number in (1, 3_000):
        writer.ack(PUBREL, number)
        assert writer.one(PUBCOMP).packet_id == number
    assert len(stored(broker)) == 3_000


@pytest.mark.parametrize("qos", [1, 2])
def test_publishes_within_receive_maximum_count_and_the_next_one_closes(make_broker, qos):
    """[MQTT-4.3.3-10] [MQTT-3.3.4-7]"""
    broker = make_broker(mqtt=MqttSettings(receive_maximum=10))
    writer = session(broker, 5)
    writer.feed(b"".join(publish_packet("a", b"%d" % n, qos=qos, packet_id=n) for n in range(1, 13)))
    assert writer.closed
    assert writer.take()[-1].code == 0x93
    assert stored(broker) == [b"%d" % n for n in range(1, 11)]
    writer = session(broker, 5)
    if qos == 2:
        for number in range(1, 11):
            writer.publish("a", b"%d" % number, qos=2, packet_id=number, dup=True)
            assert writer.one(PUBREC).packet_id == number
    writer.publish("a", b"11", qos=qos, packet_id=11)
    assert writer.one(PUBACK if qos == 1 else PUBREC).packet_id == 11
    assert stored(broker) == [b"%d" % n for n in range(1, 12)]


def test_a_mixed_read_is_cut_at_the_first_that_is_too_many(make_broker):
    broker = make_broker(mqtt=MqttSettings(receive_maximum=3))
    writer = session(broker, 5)
    kinds = [0, 1, 2, 0, 2, 0, 1, 0]                        # the last QoS 1 is one too many
    writer.feed(b"".join(
        publish_packet("a", b"%d" % n, qos=qos, packet_id=n, values=[(m.USER_PROPERTY, ("k", "v"))] if n % 2 else ())
        for n, qos in enumerate(kinds, 1)))
    assert writer.take()[-1].code == 0x93
    assert stored(broker) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert set(broker.server.sessions["w"].open_ids) == {3, 5}


FAULTS = {
    "malformed": (packet(0x36, b"\x00\x01a\x00\x09\x00"), 0x81),
    "oversize": (b"\x30\xff\xff\x7f", 0x95),
    "id 0 in a run": (publish_packet("a", b"x", qos=1, packet_id=0), 0x82),
    "packet type 0": (b"\x00\x00", 0x81),
    "SUBSCRIBE without filters": (packet(0x82, b"\x00\x01\x00"), 0x82),
    "malformed filter": (subscribe_packet(9, [("a/#/b", 1)]), 0x81),
    "UNSUBSCRIBE cut short": (packet(0xA2, b"\x00\x01\x00\x00\x09a"), 0x81),
    "AUTH": (b"\xf0\x00", 0x82),
}


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_came_before_the_fault_is_stored(broker, fault, qos):
    data, code = FAULTS[fault]
    writer = session(broker, 5)
    writer.feed(b"".join(publish_packet("a", b"%d" % n, qos=qos, packet_id=n) for n in range(1, 4)) + data)
    assert writer.closed
    assert writer.take()[-1].code == code
    assert stored(broker) == [b"1", b"2", b"3"]
    if qos == 2:
        writer = session(broker, 5)
        writer.publish("a", b"2", qos=2, packet_id=2, dup=True)
        assert writer.one(PUBREC).packet_id == 2
        assert len(stored(broker)) == 3


def test_acks_before_an_id_0_count(broker):
    writer, reader = broker.client("w"), session(broker, 5, "r")
    reader.subscribe("a")
    for number in range(2):
        writer.publish("a", b"%d" % number, qos=1)
    ids = [one.packet_id for one in reader.take()]
    assert len(ids) == 2
    reader.feed(b"".join(packet(0x40, number.to_bytes(2, "big")) for number in (*ids, 0)))
    assert reader.take()[-1].code == 0x82
    assert broker.server.sessions["r"].consumer.lag().events == 0


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_pubcomp_for_a_publish_that_was_not_released_closes(broker, version, qos):
    """Its PUBREC, or PUBACK, has not come."""
    reader = session(broker, version, "r")
    reader.subscribe(("a", qos))
    broker.client("w").publish("a", b"1", qos=2)
    sent = reader.one(m.PUBLISH)
    reader.ack(PUBCOMP, sent.packet_id)
    assert reader.closed
    assert version == 4 or reader.one(m.DISCONNECT).code == 0x82
    reader = session(broker, version, "r")
    again = [one for one in (*reader.rest, *reader.take()) if one.kind == m.PUBLISH]
    assert [(one.packet_id, one.dup) for one in again] == [(sent.packet_id, True)]


def test_an_id_is_not_left_over_when_publishing_fails_by_a_fault_of_ours(broker, monkeypatch):
    """The connection dies, and the repeat on the next one is a new publish."""
    writer = session(broker, 5)

    def fault(*args, **options):
        raise StorageError("a fault of ours")

    monkeypatch.setattr(broker.router, "publish", fault)
    writer.publish("a", b"1", qos=2, packet_id=1)
    assert writer.closed
    monkeypatch.undo()
    writer = session(broker, 5)
    writer.publish("a", b"1", qos=2, packet_id=1, dup=True)
    assert writer.one(PUBREC).packet_id == 1
    assert stored(broker) == [b"1"]


def test_a_repeat_within_one_read_is_published_once(broker):
    """Its answer comes with the first one's."""
    writer = session(broker, 5)
    writer.feed(publish_packet("a", b"1", qos=2, packet_id=1) + publish_packet("a", b"1", qos=2, packet_id=1, dup=True))
    assert writer.one(PUBREC).packet_id == 1
    assert stored(broker) == [b"1"]
