"""The MQTT codec and the server under mutated and random bytes: only the documented errors, in bounded time."""
from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt.codec import decode
from protocols.mqtt.codec.properties import (
    FOR_CONNECT,
    FOR_PUBLISH,
    FOR_WILL,
    decode_properties,
    decode_varint,
    encode_properties,
    encode_varint,
)
from protocols.mqtt.settings import MqttSettings
from tests.protocols.mqtt.harness import Broker
from tests.support import rawmqtt as m
from tests.support.rawmqtt import Will, connect_packet, packet, publish_packet, subscribe_packet, unsubscribe_packet

pytestmark = pytest.mark.measured

SETTINGS = MqttSettings()
USERS = [(m.USER_PROPERTY, ("name", "value"))] * 3
PUBLISH_VALUES = [(m.PAYLOAD_FORMAT, 0), (m.MESSAGE_EXPIRY, 60), (m.CONTENT_TYPE, "text"), (m.RESPONSE_TOPIC, "r"),
                  (m.CORRELATION, b"c"), (m.TOPIC_ALIAS, 3), *USERS]


def seeds(version):
    """One valid packet of each kind that a client sends, with everything in it."""
    five = version == 5
    ack_tail = b"\x00" + m.properties([(m.REASON_STRING, "why"), *USERS]) if five else b""
    found = [
        connect_packet("client", version=version, keep_alive_s=60, username="u", password=b"p",
                       values=[(m.SESSION_EXPIRY, 9), (m.RECEIVE_MAXIMUM, 5), (m.MAXIMUM_PACKET_SIZE, 10_000),
                               (m.TOPIC_ALIAS_MAXIMUM, 3), (m.REQUEST_RESPONSE, 1), (m.REQUEST_PROBLEM, 1), *USERS],
                       will=Will("will", b"gone", 1, True, [(m.WILL_DELAY, 3), (m.CONTENT_TYPE, "x"), *USERS])),
        publish_packet("a/b", b"payload", version=version),
        publish_packet("a/b", b"payload", qos=1, packet_id=2, version=version),
        publish_packet("a/b", b"payload", qos=2, packet_id=3, retain=True, values=PUBLISH_VALUES, version=version),
        subscribe_packet(4, [("a/+", 1), ("b/#", 2), ("$share/g/c", 0)], values=[(m.SUBSCRIPTION_ID, 200), *USERS],
                         version=version),
        unsubscribe_packet(5, ["a/+", "b"], version=version),
        b"\xc0\x00",
        packet(0xE0, b"\x00" + m.properties([(m.SESSION_EXPIRY, 5), *USERS]) if five else b""),
    ]
    found += [packet(first, b"\x00\x01" + ack_tail) for first in (0x40, 0x50, 0x62, 0x70)]
    if five:
        found.append(packet(0xF0, b"\x18" + m.properties([(m.AUTH_METHOD, "x"), (m.AUTH_DATA, b"y")])))
    return found


def mutate(data, rng):
    """A few of: flip, insert, delete, cut, repeat, overwrite with a telling byte."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(len(data)) if data else 0
        action = rng.randrange(6)
        if action == 0 and data:
            data[where] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[where:where] = rng.randbytes(rng.randint(1, 4))
        elif action == 2:
            del data[where:where + rng.randint(1, 4)]
        elif action == 3:
            del data[where:]
        elif action == 4:
            data[where:where] = data[where:where + rng.randint(1, 12)]
        elif data:
            data[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x26, 0xC0, 0xED))
    return bytes(data)


def split(data):
    """(first byte, position, end) of a packet whose length may lie; None when there is no fixed header."""
    try:
        length, position = decode_varint(data, 1, len(data))
    except ProtocolViolation:
        return None
    return data[0], position, min(position + length, len(data))


def decode_all(data, version):
    """Decode as a packet of an open connection and as CONNECT; only the documented errors come out."""
    parts = split(data) if data else None
    if parts is None:
        return
    first, position, end = parts
    for work in (
        lambda: decode.decode_packet(first, data, position, end, version, SETTINGS),
        lambda: decode.protocol_version(data, position, end),
        lambda: decode.decode_connect(data, position, end, SETTINGS),
    ):
        try:
            work()
        except ProtocolViolation as violation:
            assert 0x80 <= violation.wire_code <= 0xA2
            assert violation.text


@pytest.mark.parametrize("version", [4, 5])
def test_the_seeds_are_valid(version):
    for data in seeds(version):
        first, position, end = split(data)
        if first >> 4 == 1:
            assert decode.decode_connect(data, position, end, SETTINGS).client_id == "client"
        else:
            assert decode.decode_packet(first, data, position, end, version, SETTINGS)


@pytest.mark.parametrize("version", [4, 5])
def test_every_prefix_of_a_valid_packet_is_an_error_or_a_shorter_packet(version):
    for data in seeds(version):
        _, position, end = split(data)
        for cut in range(position, end + 1):
            decode_all(data[:cut], version)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_mutated_packets(version, seed):
    rng = random.Random(f"mqtt-{version}-{seed}")
    valid = seeds(version)
    deadline = time.thread_time() + 20
    for _ in range(4_000):
        decode_all(mutate(rng.choice(valid), rng), version)
    assert time.thread_time() < deadline


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([4, 5]), st.integers(0, 255))
def test_random_bodies(body, version, first):
    decode_all(packet(first, body), version)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([FOR_CONNECT, FOR_PUBLISH, FOR_WILL]))
def test_random_property_lists(body, allowed):
    data = encode_varint(len(body)) + body
    try:
        found, position = decode_properties(data, 0, len(data), allowed)
    except ProtocolViolation:
        return
    assert position == len(data)
    again, _ = decode_properties(raw := encode_properties(found), 0, len(raw), allowed)
    assert again == found


@given(st.integers(0, 268_435_455))
def test_variable_byte_integers_go_round(value):
    data = encode_varint(value)
    assert decode_varint(data, 0, len(data)) == (value, len(data))
    assert len(data) == (1 if value < 128 else 2 if value < 16_384 else 3 if value < 2_097_152 else 4)


@given(st.binary(min_size=1, max_size=6))
def test_a_variable_byte_integer_has_one_form(data):
    """[MQTT-1.5.5-1]"""
    try:
        value, position = decode_varint(data, 0, len(data))
    except MalformedPacket:
        return
    assert encode_varint(value) == data[:position]


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("fuzz") / "data")
    yield broker
    broker.store.close()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_server_lives_on_whatever_it_is_sent(shared_broker, caplog, version, seed):
    """Valid and mutated packets in any order and any cut; a bystander does not notice; nothing is 'internal'."""
    broker = shared_broker
    rng = random.Random(f"mqtt-server-{version}-{seed}")
    bystander = broker.client("bystander", version)
    bystander.subscribe(("alive", 1))
    ends = [data for data in seeds(version)[1:] if data[0] >> 4 in (m.DISCONNECT, m.AUTH)]
    valid = [data for data in seeds(version)[1:] if data not in ends]
    valid += [publish_packet(f"a/{n}", b"x", qos=n % 3, packet_id=n + 1, version=version) for n in range(6)]
    valid += [packet(first, bytes((0, n))) for first in (0x40, 0x50, 0x62, 0x70) for n in range(1, 5)]
    number = 0
    for _ in range(100):
        client = broker.client(version=version)
        client.feed(connect_packet(f"f{rng.randrange(5)}", version=version, clean=rng.random() < 0.5,
                                   values=[(m.SESSION_EXPIRY, rng.choice((0, 50)))]))
        for _ in range(rng.randint(1, 30)):
            if client.closed:
                break
            data = rng.choice(valid if rng.random() < 0.97 else ends)
            data = mutate(data, rng) if rng.random() < 0.1 else data
            for cut in (data[:len(data) // 2], data[len(data) // 2:]):
                client.feed(cut, run=rng.random() < 0.5)
        client.channel.sent.clear()
        if rng.random() < 0.7 and not client.closed:
            client.lose()
        if rng.random() < 0.1:
            broker.tick(rng.choice((0.1, 5.0, 60.0)))
        if rng.random() < 0.2:
            number += 1
            bystander.publish("alive", b"%d" % number, qos=1)
            assert bystander.payloads(ack=True) == [b"%d" % number]
    bystander.lose()
    assert "internal error" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
