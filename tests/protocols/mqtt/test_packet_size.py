"""No packet goes out that is larger than the client takes [MQTT-3.1.2-24]: every kind of packet, every small limit."""
from __future__ import annotations

import pytest

from tests.protocols.mqtt.harness import CONNACK, DISCONNECT, PUBACK, PUBLISH, PUBREL, SUBACK
from tests.support import rawmqtt as m
from tests.support.rawmqtt import connect_packet, packet, publish_packet, subscribe_packet, unsubscribe_packet


def connect(broker, limit, client_id="c", **options):
    client = broker.client(version=5)
    client.feed(connect_packet(client_id, values=[(m.MAXIMUM_PACKET_SIZE, limit)], **options))
    found = client.take()
    assert all(one.size <= limit for one in found), found
    return client, found


@pytest.mark.parametrize("limit", range(1, 60))
@pytest.mark.parametrize("client_id", ["c", ""])
def test_a_connack_leaves_out_what_it_may_or_the_connection_is_closed(broker, limit, client_id):
    """[MQTT-3.2.2-19]"""
    client, found = connect(broker, limit, client_id)
    if client.closed:
        assert found == [] if limit < 5 else [one.code for one in found] == [0x95]
        assert limit < 13 + (len("auto-1") + 3 if not client_id else 0)
        assert not broker.server.sessions
    else:
        assert found[0].code == 0
        assert (found[0].get(m.TOPIC_ALIAS_MAXIMUM) is None) == (limit < 16 + (9 if not client_id else 0))
        assert found[0].get(m.RECEIVE_MAXIMUM) == 1024


WHAT = {
    "SUBACK": subscribe_packet(1, [(f"f/{n}", 1) for n in range(38)]),
    "UNSUBACK": unsubscribe_packet(1, [f"f/{n}" for n in range(38)]),
    "PUBACK with a reason": publish_packet("$SYS/no", qos=1, packet_id=1),
    "PUBREC with a reason": publish_packet("$SYS/no", qos=2, packet_id=1),
    "PUBCOMP": packet(0x62, b"\0\1"),
    "DISCONNECT with a reason": packet(0x82, b"\0\1\0"),
    "PINGRESP": b"\xc0\0",
    "many PUBACKs": b"".join(publish_packet("a", qos=1, packet_id=n) for n in range(1, 50)),
}


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("limit", [13, 20, 30, 100])
def test_every_answer_fits_or_closes(broker, what, limit):
    client, _ = connect(broker, limit)
    client.feed(WHAT[what])
    found = client.take()
    assert found and all(one.size <= limit for one in found), found
    large = what in ("SUBACK", "UNSUBACK") and limit < 43
    assert client.closed == (large or what.startswith("DISCONNECT"))
    if large:
        assert [(one.kind, one.code) for one in found] == [(DISCONNECT, 0x95)]
    elif what == "SUBACK":
        assert found[0].kind == SUBACK


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_events_that_do_not_fit_are_left_out_and_the_rest_goes_on(broker, qos):
    """[MQTT-3.1.2-25] Live, guaranteed, retained, shared and sent again alike."""
    writer = broker.client("w")
    writer.publish("a", b"x" * 50, qos=1, retain=True)
    options = {"clean": False}
    client = broker.client(version=5)
    values = [(m.MAXIMUM_PACKET_SIZE, 30), (m.SESSION_EXPIRY, 100)]
    client.feed(connect_packet("c", values=values, **options))
    client.feed(subscribe_packet(1, [("a", qos), ("$share/g/a", qos)]))
    for size in (1, 30, 2):
        writer.publish("a", b"y" * size, qos=2)
    found = client.take()
    assert all(one.size <= 30 for one in found) and found[0].kind == CONNACK
    assert sorted(one.payload for one in found if one.kind == PUBLISH) == [b"y", b"y", b"yy", b"yy"]
    client.lose()
    client = broker.client(version=5)
    values[0] = (m.MAXIMUM_PACKET_SIZE, 13)
    client.feed(connect_packet("c", values=values, **options))
    client.feed(b"\xc0\0")
    assert all(one.size <= 13 for one in client.take()) and not client.closed


def test_the_words_of_qos_2_are_bounded_too(broker):
    client, _ = connect(broker, 13)
    client.feed(subscribe_packet(1, [("a", 2)]))
    broker.client("w").publish("a", b"1", qos=2)
    sent = [one for one in client.take() if one.kind == PUBLISH]
    client.ack(m.PUBREC, sent[0].packet_id)
    assert client.one(PUBREL).size == 4


def test_without_a_limit_nothing_is_left_out(broker):
    client = broker.client("c")
    assert client.connack.get(m.TOPIC_ALIAS_MAXIMUM) == 64
    client.publish("a", b"1", qos=1, packet_id=1)
    assert client.one(PUBACK).size == 4
