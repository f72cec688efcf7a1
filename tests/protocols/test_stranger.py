"""protocols/transport/stranger.py: a client at the wrong port is named in the log."""
from __future__ import annotations

import pytest

from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.runtime.frames import Splitter
from protocols.transport.stranger import looks_like

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303")
CONNECT = bytes.fromhex("101000044d5154540402003c000461626364")
API_VERSIONS = bytes.fromhex("0000001700120003")


@pytest.mark.parametrize(("data", "name"), [
    (CLIENT_HELLO, "TLS"), (CONNECT, "MQTT"), (b"GET / HTTP/1.1\r\n", "HTTP"), (b"AMQP\x00\x00\x09\x01", "AMQP"),
    (API_VERSIONS, "Kafka"),
])
def test_the_first_four_bytes_name_a_protocol(data, name):
    assert f": it looks like {name}" in looks_like(data[:4])


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x10", b"\xff\xff\xff\xff", b"hello"])
def test_nothing_is_said_of_what_is_not_known(data):
    assert looks_like(data) == ""


@pytest.mark.parametrize(("data", "name"), [(CLIENT_HELLO, "TLS"), (CONNECT, "MQTT"), (b"GET / HTTP/1.1\r\n", "HTTP")])
def test_kafka_says_who_came_instead_of_a_size_that_nobody_meant(data, name):
    with pytest.raises(MalformedRequest, match=f"it looks like {name}"):
        Splitter().feed(data, 65_536)
