"""Bodies of batches: what goes in comes out, and nothing else is believed."""
from __future__ import annotations

import random
import struct

import google_crc32c
import msgspec
import pytest

from mesh.replication.bodies import BadBody, BodyDecoder, BodyEncoder
from mesh.replication.caches import CacheMemory
from mesh.replication.filters import Selection
from mesh.replication.messages import Want
from routing.event import Event, OriginPartition, Properties
from routing.log.records.batch import HEADER_BYTES, build_batch, varint

ORIGIN = OriginPartition("graz", "e1", "events", 2)
ALL = Selection([Want("#", 0)])


def event(offset, topic="a/b", payload=b"x", **fields):
    return Event(topic, payload, 1, "client", timestamp_ms=fields.pop("timestamp_ms", 1_700_000_000_000), offset=offset,
                 **fields)


def decode(body, start=0, stop=1 << 40, selection=ALL, prefix=""):
    return BodyDecoder(ORIGIN, 3, selection, prefix).decode(body, start, stop)


def same(got, sent):
    fields = ("topic", "payload", "qos", "publisher", "key", "headers", "properties", "retain", "timestamp_ms")
    assert [[getattr(one, field) for field in fields] for one in got] == [
        [getattr(one, field) for field in fields] for one in sent]
    assert [one.origin_offset for one in got] == [one.offset for one in sent]
    assert all(one.origin is ORIGIN and one.flow == 3 and one.offset == -1 for one in got)


@pytest.mark.parametrize("seed", range(30))
def test_any_events_with_any_gaps_come_out_as_they_went_in(seed):
    rng = random.Random(seed)
    offset, sent = rng.randrange(1 << 40), []
    for _ in range(rng.randint(1, 300)):
        offset += rng.choice((1, 1, 1, 2, 60, 64, 8_000, 8_192, 100_000))
        special = rng.random() < 0.3
        sent.append(event(
            offset, rng.choice(("a/b", "a/ü", "c", "long/" * 30)),
            rng.randbytes(rng.choice((0, 1, 40, 63, 64, 200, 9_000))),
            timestamp_ms=1_700_000_000_000 + rng.choice((0, 0, 1, 63, 64, -5, 100_000)),
            key=rng.choice((None, b"", b"k")) if special else None,
            headers=(("h", 1), ("b", b"\xff")) if special else (),
            properties=Properties(content_type="text/plain") if special and rng.random() < 0.5 else None,
            retain=special and rng.random() < 0.5))
    body = BodyEncoder().encode(sent)
    same(decode(body, sent[0].offset, offset + 1), sent)


def test_an_encoder_is_reused_across_topics_publishers_and_sizes():
    encoder = BodyEncoder()
    for number in range(50):
        sent = [event(number * 10 + index, f"t/{number % 7}", b"y" * (number * index % 300)) for index in range(5)]
        same(decode(encoder.encode(sent)), sent)


def test_what_an_encoder_remembers_is_bounded_in_bytes():
    """Of ten thousand publishers, and of one topic in a thousand sizes: counted in entries that was gigabytes."""
    memory = CacheMemory(300_000)
    encoder = BodyEncoder(memory)
    for number in range(2_000):
        sent = [event(number * 10 + index, f"t/{number}", b"y" * (number % 4_000)) for index in range(2)]
        sent += [event(number * 10 + 5, "t", b"y" * number)]
        sent[0].publisher = f"device-{number}"
        same(decode(encoder.encode(sent), sent[0].offset, sent[-1].offset + 1), sent)
        kept = [entry for entries in encoder._entries.values() for entry in entries.values()]
        shapes = sum(len(table) for entry in kept for table in entry.shapes)
        assert len(kept) * 900 + shapes * 250 <= memory.bytes <= 300_000
    assert len(encoder._entries) < 400


def test_no_key_and_no_payload_are_told_from_empty_ones():
    both = Properties(null_key=True, null_payload=True, content_type="text/plain")
    kinds = [(b"x", None, Properties(null_key=True)), (b"", b"k", Properties(null_payload=True)), (b"", b"", None),
             (b"", None, both)]
    sent = [event(offset, payload=payload, key=key, properties=properties)
            for offset, (payload, key, properties) in enumerate(kinds)]
    same(decode(BodyEncoder().encode(sent), 0, 4), sent)


def test_a_packet_id_stays_at_home():
    """It means something between that client and its own node only: QoS 2 would take it for a repeat elsewhere."""
    sent = event(5, properties=Properties(mqtt_packet_id=7, priority=3))
    got, = decode(BodyEncoder().encode([sent]))
    assert got.properties == Properties(priority=3)
    got, = decode(BodyEncoder().encode([event(5, properties=Properties(mqtt_packet_id=7))]))
    assert got.properties is None


def test_a_prefix_is_put_before_the_topic_and_nothing_else_changes():
    got, = decode(BodyEncoder().encode([event(5)]), prefix="graz/")
    assert (got.topic, got.key) == ("graz/a/b", None)


@pytest.mark.parametrize(("start", "stop"), [(11, 100), (0, 12), (0, 10)])
def test_offsets_outside_of_the_batch_are_refused(start, stop):
    body = BodyEncoder().encode([event(10), event(12)])
    with pytest.raises(BadBody, match="offset"):
        decode(body, start, stop)


def test_offsets_that_do_not_rise_are_refused():
    encoder = BodyEncoder()
    with pytest.raises(BadBody, match="offset"):
        decode(encoder.encode([event(10)]) + encoder.encode([event(10)]))


def test_topics_that_nobody_asked_for_are_refused():
    body = BodyEncoder().encode([event(10, "secret/x")])
    with pytest.raises(BadBody, match="asked"):
        decode(body, selection=Selection([Want("a/#", 0)]))
    with pytest.raises(BadBody, match="asked"):
        decode(body, selection=Selection([Want("#", 11)]))
    with pytest.raises(BadBody, match="asked"):
        decode(body, selection=Selection([Want("#", 0)], [Want("secret/#", 0, 11)]))
    assert decode(body, selection=Selection([Want("#", 0)], [Want("secret/#", 0, 10)]))


def test_every_flipped_bit_is_found():
    body = BodyEncoder().encode([event(10), event(12, payload=b"y" * 30)])
    for index in range(len(body) * 8):
        if 12 <= index // 8 < 16:               # the leader epoch means nothing here
            continue
        broken = bytearray(body)
        broken[index // 8] ^= 1 << index % 8
        try:
            got = decode(bytes(broken), 10, 13)
        except BadBody:
            continue
        assert [one.origin_offset for one in got] == [10, 12], f"bit {index}"


def test_every_cut_is_found():
    body = BodyEncoder().encode([event(10), event(12)])
    for size in range(1, len(body)):
        with pytest.raises(BadBody):
            decode(body[:size])


def sealed(records, count, delta=None):
    """A batch with a right checksum around hostile records."""
    return build_batch(0, count - 1 if delta is None else delta, 0, 0, count, records, first_in_group=True)


def record(*, size=None, key=b"a", value=b"v", headers=b"\x02\x1cmeshgate-topic\x02a", offset=0):
    body = b"\0\0" + varint(offset) + varint(len(key)) + key + varint(len(value)) + value + headers
    return varint(len(body) if size is None else size) + body


def test_the_hostile_records_below_differ_from_a_good_one_in_one_thing_only():
    assert [one.topic for one in decode(sealed(record(), 1))] == ["a"]


@pytest.mark.parametrize("records", [
    record(size=10_000), record(size=-5), record(size=3), record(value=b"") + b"\0",
    b"\x10\0\0\0\x01\xfe\xff\xff\xff\x0f" + b"x" * 10,
    record(headers=b"\x00"),                                            # names no topic
    record(headers=b"\xfe\xff\xff\xff\x0f"),                            # a billion headers
    record(headers=b"\x02\x1cmeshgate-topic\xfe\xff\x03a"),
    record(headers=b"\x02\x1cmeshgate-topic\x06a/#"),
    record(headers=b"\x02\x1cmeshgate-topic\x04a\x00"),
    record(headers=b"\x04\x1cmeshgate-topic\x02a\x1emeshgate-origin\x02x"),     # forges an origin
    b"", b"\xff" * 20, b"\x80" * 40,
])
def test_hostile_records_with_a_right_checksum(records):
    with pytest.raises(BadBody):
        decode(sealed(records, 1))


def test_a_count_that_cannot_be_is_not_believed():
    with pytest.raises(BadBody, match="count"):
        decode(sealed(record(), 1_000_000_000, 2_000_000_000))
    with pytest.raises(BadBody):
        decode(sealed(record(), 2))
    with pytest.raises(BadBody):
        decode(sealed(record() + record(offset=1), 1))


def test_compressed_and_control_batches_are_refused():
    good = bytearray(sealed(record(), 1))
    for attributes in (1, 2, 3, 4, 32):
        struct.pack_into(">h", good, 21, attributes)
        struct.pack_into(">I", good, 17, google_crc32c.value(bytes(good[21:])))
        with pytest.raises(BadBody, match="codec"):
            decode(bytes(good))
    assert len(good) > HEADER_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_raise_the_one_error_only(seed):
    rng = random.Random(seed)
    body = BodyEncoder().encode([event(index * 3, headers=(("h", "v"),) if index % 2 else ()) for index in range(20)])
    for _ in range(300):
        broken = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(HEADER_BYTES, len(body))] = rng.randrange(256)
        struct.pack_into(">I", broken, 17, google_crc32c.value(bytes(broken[21:])))
        try:
            got = decode(bytes(broken))
        except BadBody:
            continue
        assert sum(len(one.payload) + len(one.topic) for one in got) <= 4 * len(body)
        assert all(msgspec.structs.replace(one).origin is ORIGIN for one in got)
