"""MQTT, over TCP: every packet type as fast as it goes, small and large, before and after CONNECT."""
from __future__ import annotations

import struct

import pytest

from tests.fairness.chunks import SEVERAL, many
from tests.fairness.floods import Flood
from tests.fairness.harness import grows, hold
from tests.support.rawmqtt import connect_packet, publish_packet, subscribe_packet, unsubscribe_packet

pytestmark = pytest.mark.measured



def logged_in(node, chunk, client_id="evil", version=4, **options):
    """CONNACK of 3.1.1 has 4 bytes; that of 5 says more, of which one byte is waited for."""
    return Flood(node.mqtt, chunk, opening=connect_packet(client_id, version=version),
                 opening_reply_bytes=4 if version == 4 else 1, **options)


def ack(first, number):
    return bytes((first, 2)) + struct.pack("!H", number % 65_535 + 1)


def topic(number):
    return f"evil/{number % 97}/{number}"


CHUNKS = {
    "pings": lambda: b"\xc0\x00" * (SEVERAL // 2),
    "smallest publishes": lambda: publish_packet("a", b"", version=4) * (SEVERAL // 6),
    "QoS 0 to ever new topics": lambda: many(lambda n: publish_packet(topic(n), b"x", version=4)),
    "QoS 1 to ever new topics": lambda: many(
        lambda n: publish_packet(topic(n), b"x", qos=1, packet_id=n % 65_535 + 1, version=4)),
    "QoS 2 and PUBREL": lambda: many(
        lambda n: publish_packet("e", b"x", qos=2, packet_id=n % 1000 + 1, version=4) + ack(0x62, n % 1000)),
    "PUBREL of nothing": lambda: many(lambda n: ack(0x62, n)),
    "PUBACK of nothing": lambda: many(lambda n: ack(0x40, n)),
    "PUBREC of nothing": lambda: many(lambda n: ack(0x50, n)),
    "one filter subscribed over and over": lambda: subscribe_packet(1, [("evil/#", 0)], version=4) * (SEVERAL // 15),
    "ever new filters, and away again": lambda: many(
        lambda n: subscribe_packet(n % 9000 + 1, [(topic(n), 1)], version=4)
        + unsubscribe_packet(n % 9000 + 1, [topic(n)], version=4), SEVERAL // 2),
    "a thousand filters in a packet": lambda: subscribe_packet(
        1, [(f"evil/{n}/+/#", 1) for n in range(1_000)], version=4) * 20,
    "retained": lambda: many(lambda n: publish_packet(f"r/{n % 500}", b"x", retain=True, version=4), SEVERAL // 4),
    "large publishes": lambda: publish_packet("a", b"x" * 1_000_000, version=4) * 4,
    "nothing, then a million pings": lambda: (publish_packet("a", b"x" * 900_000, version=4) + b"\xc0\x00" * 200_000),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_one_client_that_is_logged_in(node, name):
    hold(node, logged_in(node, CHUNKS[name]()))


def test_user_properties(node):
    values = [(0x26, ("k", "v"))] * 1_000
    hold(node, logged_in(node, publish_packet("a", b"", values=values, version=5) * 100, version=5))


def test_answers_that_are_not_read(node):
    hold(node, logged_in(node, b"\xc0\x00" * (SEVERAL // 2), reads=False))


def test_a_hundred_connections(node):
    hold(node, Flood(node.mqtt, connect_packet("", version=4) + b"\xc0\x00" * 100_000, connections=100))


def test_byte_by_byte(node):
    hold(node, logged_in(node, b"\xc0\x00" * 10_000, drip_bytes=1))


def test_connects(node):
    """CONNECT, DISCONNECT, and again; as many as one can."""
    hold(node, Flood(node.mqtt, connect_packet("", version=4) + b"\xe0\x00", connections=30))


def test_no_mqtt_at_all(node):
    hold(node, Flood(node.mqtt, b"GET / HTTP/1.1\r\n\r\n" * 10_000, connections=30))


def test_a_connect_that_does_not_end(node):
    head = b"\x10\xff\xff\x03\0\4MQTT\4\2\0\0"
    hold(node, Flood(node.mqtt, head + b"\0\1" * 30_000, connections=30, drip_bytes=2))


def test_connects_leave_nothing_behind(node):
    flood = Flood(node.mqtt, connect_packet("", version=4, keep_alive_s=65_535) + b"\xe0\x00", connections=30)
    flood(1.0)                  # what is made on first use is there
    grows(node, flood, left=8 << 20)


def test_answers_that_are_not_read_are_bounded(node):
    grows(node, logged_in(node, b"\xc0\x00" * (SEVERAL // 2), client_id="", reads=False, connections=20))


def test_subscribers_that_publish_and_read_nothing_are_bounded(node):
    """A hundred at the same moment, of which no stream has caused anything before: 320 MiB, and a turn of 363 ms."""
    opening = connect_packet("", version=4) + subscribe_packet(1, [("evil/#", 0)], version=4)
    chunk = publish_packet("evil/1", b"x" * 1_000, version=4) * 300
    grows(node, Flood(node.mqtt, chunk, opening=opening, opening_reply_bytes=9, connections=100, reads=False),
          seconds=3.0, left=48 << 20)
