"""The short way in gives what the long way gives, however the bytes are cut."""
from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ProtocolViolation
from protocols.mqtt.codec.reader import ACK_RUN, PacketReader
from tests.support.rawmqtt import packet, publish_packet, subscribe_packet


class Target:
    """Writes down what comes, in one list."""

    def __init__(self):
        self.closed = False
        self.found = []
        self.runs = []
        self.topics = {}

    def plain_topic(self, raw):
        topic = raw.decode()
        if not topic or topic.startswith("$"):
            return None
        self.topics[raw] = topic
        return topic

    def over(self):
        return False

    def oversize(self, data, position, end):
        raise ProtocolViolation(0x95, "too large")

    def publishes(self, events, raw_ids):
        ids = iter(bytes(raw_ids[at:at + 2]) for at in range(0, len(raw_ids), 2))
        self.runs.append(len(events))
        for event in events:
            assert event.publisher == "me"
            number = int.from_bytes(next(ids), "big") if event.qos else 0
            self.found.append(("publish", event.topic, event.payload, event.qos, number))
        assert next(ids, None) is None

    def acks(self, kind, packet_ids):
        self.found.extend(("ack", kind, number) for number in packet_ids)

    def packet(self, first, data, position, end):
        self.found.append(("packet", first, data[position:end]))


def reader(version, packet_bytes_max=1 << 20):
    target = Target()
    made = PacketReader(target, packet_bytes_max, target.topics)
    made.accepted(version, "me", packet_bytes_max)
    return made, target


def expected(kind, version):
    """(bytes, what the target should be told) of one generated packet."""
    name = kind[0]
    if name == "publish":
        _, topic, size, qos, number = kind
        number = number if qos else 0
        data = publish_packet(topic, b"p" * size, qos=qos, packet_id=number, version=version)
        if qos == 2 or topic.startswith("$") or size > 16_000:
            return data, ("packet", data[0], None)
        return data, ("publish", topic, b"p" * size, qos, number)
    if name == "ack":
        _, first, number = kind
        return bytes((first, 2)) + struct.pack("!H", number), ("ack", first >> 4, number)
    if name == "properties":
        data = publish_packet("t", b"x", qos=kind[1], packet_id=1, values=[(0x03, "x")], version=5)
        return data, ("packet", data[0], None)
    data = b"\xc0\x00" if name == "ping" else subscribe_packet(1, [("a", 0)], version=version)
    return data, ("packet", data[0], None)


KINDS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["a", "b/c", "$x", "grüße"]),
              st.sampled_from([0, 1, 5, 120, 126, 130, 17_000]), st.sampled_from([0, 1, 1, 2]), st.integers(1, 65_535)),
    st.tuples(st.just("ack"), st.sampled_from([0x40, 0x50, 0x62, 0x70]), st.integers(1, 65_535)),
    st.tuples(st.just("ping")),
    st.tuples(st.just("subscribe")),
    st.tuples(st.just("properties"), st.sampled_from([0, 1])))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(KINDS, st.integers(1, 4)), max_size=20), st.sampled_from([4, 5]), st.randoms())
def test_any_stream_cut_anywhere(kinds, version, random):
    data, wanted = b"", []
    for kind, repeats in kinds:
        if kind[0] == "properties" and version == 4:
            continue
        raw, entry = expected(kind, version)
        data += raw * repeats
        wanted += [entry] * repeats
    made, target = reader(version)
    position = 0
    while position < len(data):
        size = random.choice([1, 2, 3, 10, 100, 5_000, 1 << 20])
        made.read(data[position:position + size])
        position += size
    assert [(*entry[:2], None) if entry[0] == "packet" else entry for entry in target.found] == wanted
    assert made.waiting_bytes() == 0


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_read_of_plain_publishes_is_one_batch(version, qos):
    made, target = reader(version)
    made.read(b"".join(
        publish_packet(f"t/{n % 3}", b"x" * (n % 7), qos=qos, packet_id=n, version=version) for n in range(1, 500)))
    assert target.runs == [499]


@pytest.mark.parametrize("count", [1, 2, 3, ACK_RUN - 1, ACK_RUN, ACK_RUN + 1, 3 * ACK_RUN, 3 * ACK_RUN + 1])
def test_runs_of_acks(count):
    made, target = reader(4)
    made.read(b"".join(struct.pack("!HH", 0x4002, n) for n in range(1, count + 1)) + b"\xc0\x00")
    assert [entry[2] for entry in target.found[:-1]] == list(range(1, count + 1))
    assert target.found[-1] == ("packet", 0xC0, b"")


@pytest.mark.measured
def test_alternating_packets_do_not_cost_more_the_longer_the_chunk_is():
    import time

    def cost(count):
        made, _ = reader(4)
        data = (struct.pack("!HH", 0x4002, 5) + publish_packet("a", b"x", version=4)) * count
        started = time.process_time()
        made.read(data)
        return time.process_time() - started

    cost(100)
    assert min(cost(8_000) for _ in range(3)) < 8 * 8 * min(cost(1_000) for _ in range(3))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("data", [
    b"\x30\x00", b"\x30\x01\x00", b"\x30\x02\x00\x05", b"\x30\x03\x00\x05a", b"\x32\x03\x00\x01a",
    b"\x32\x04\x00\x01a\x00"])
def test_short_publishes_take_the_long_way(version, data):
    made, target = reader(version)
    made.read(data + b"\xc0\x00" * 4)
    assert target.found[0][:2] == ("packet", data[0])


@pytest.mark.parametrize(("data", "name"), [(b"\x16\x03\x01\x00\xc8\x01", "TLS"), (b"GET / HTTP/1.1\r\n", "HTTP")])
def test_a_client_of_another_protocol_is_named(data, name):
    with pytest.raises(ProtocolViolation, match=f"not CONNECT: it looks like {name}"):
        PacketReader(Target(), 1_000, {}).read(data)


def test_size_limit_on_both_ways():
    for size in (50, 20_000):
        made, _ = reader(4, size)
        made.read(packet(0x30, b"\x00\x01a" + b"x" * (size - 3 - (2 if size < 128 else 4))))
        with pytest.raises(ProtocolViolation) as caught:
            made.read(packet(0x30, b"\x00\x01a" + b"x" * (size - 2)))
        assert caught.value.wire_code == 0x95


def test_packet_id_0_in_a_run():
    made, target = reader(4)
    with pytest.raises(ProtocolViolation):
        made.read(b"".join(publish_packet("a", qos=1, packet_id=n, version=4) for n in (1, 2, 3, 0)))
    assert [entry[-1] for entry in target.found] == [1, 2, 3]
