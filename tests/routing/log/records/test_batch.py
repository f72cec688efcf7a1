"""RecordBatch v2: our encoder against aiokafka's reader, our readers against aiokafka's builder, and round trips."""
from __future__ import annotations

import gzip
import os

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.event import DeadLetter, Event, Native, OriginPartition, Properties
from routing.log.records.batch import (
    HEADER_BYTES,
    BatchError,
    batch_at,
    build_batch,
    check_batch,
    encode_varint,
    place,
    read_varint,
)
from routing.log.records.codecs import EXPANDED_BYTES_MAX, expand
from routing.log.records.decode import Decoder, _split_headers, _usual, check_records, plain_batch, records
from routing.log.records.encode import Encoder, encode_headers
from routing.log.records.fields import NATIVE, event_headers, read_fields
from routing.log.records.verdicts import Verdicts
from routing.topic import check_topic

NOW = 1_700_000_000_000
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
INT64 = st.integers(-(2**63), 2**63 - 1)
SCALARS = TEXT | st.binary(max_size=20) | INT64 | st.floats(allow_nan=False) | st.booleans() | st.none()
NAMES = TEXT | st.sampled_from(("content-type", "message-id", "meshgate-dedupe-id",
                                      "correlation-id;type", "meshgate-qos", "meshgate-x",
                                "meshgate-dead-letter", "meshgate-header-x", "a", "a;type", "a;type;type",
                                "meshgate-header-a;type", ""))
PROPERTIES = st.builds(
    Properties,
    expires_at_ms=st.none() | st.integers(0, 2**53), content_type=st.none() | TEXT, reply_to=st.none() | TEXT,
    correlation=st.none() | st.binary(max_size=30) | TEXT | INT64,
    message_id=st.none() | st.binary(max_size=9) | TEXT | INT64,
    dedupe_id=st.none() | st.binary(max_size=9) | TEXT | INT64,
    priority=st.none() | st.integers(0, 9), payload_is_text=st.booleans(),
    mqtt_packet_id=st.none() | st.integers(1, 65_535), dead_letter=st.none() | st.builds(DeadLetter, TEXT, TEXT, TEXT),
)
ORIGINS = st.sampled_from((None, OriginPartition("graz-1", "3f0c", "events", 0),
                           OriginPartition("lyon", "00ff", "a/stream!7", 12)))


@st.composite
def replicas(draw, event):
    """The event as this node's own or as that of another node."""
    event = draw(event)
    event.origin = draw(ORIGINS)
    if event.origin is not None:
        event.origin_offset = draw(st.integers(0, 2**63 - 1))
        event.flow = draw(st.sampled_from((0, 0, 3)))
    return event


EVENTS = replicas(st.builds(
    Event,
    topic=TEXT.filter(bool), payload=st.binary(max_size=200) | st.just(b"x" * 20_000), qos=st.integers(0, 2),
    publisher=TEXT, key=st.none() | st.binary(max_size=80),
    headers=st.lists(st.tuples(NAMES, SCALARS | st.sampled_from(("int", "bytes", "text"))), max_size=6).map(tuple),
    properties=st.none() | PROPERTIES, retain=st.booleans(), timestamp_ms=st.integers(1, 2**45),
))


def encode(events, base_offset=0, **options):
    for offset, event in enumerate(events, base_offset):
        event.offset = offset
    batch, count = Encoder().encode(events, first_in_group=True, **options)
    assert count == len(events)
    return batch


def decode(batch, topic_of_key=lambda key: "template", wanted=lambda topic: True, from_offset=0):
    header = check_batch(batch)
    events = []
    plain = plain_batch(batch, header)
    Decoder(None, topic_of_key).events(plain, 0, header, from_offset, Verdicts(wanted), {}, events, 1 << 60)
    return events


def content(event):
    key = None if event.key is None or event.key == event.topic.encode() else event.key
    properties = None if event.properties == Properties() else event.properties
    return (event.topic, event.payload, event.qos, event.publisher, key, event.headers, properties, event.retain,
            event.timestamp_ms, event.offset, event.origin, event.origin_offset, event.flow)


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8), st.integers(0, 2**50))
def test_every_field_of_an_event_comes_back(events, base_offset):
    batch = encode(events, base_offset, bytes_max=1 << 40)
    read = decode(batch)
    assert [content(event) for event in read] == [content(event) for event in events]
    assert [[type(value) for _, value in event.headers] for event in read] == [
        [type(value) for _, value in event.headers] for event in events]


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_aiokafka_reads_what_we_encode(events):
    batch = encode(events, 1_000, bytes_max=1 << 40)
    theirs = DefaultRecordBatch(bytearray(batch))
    assert theirs.validate_crc()
    assert (theirs.base_offset, theirs.next_offset, theirs.magic) == (1_000, 1_000 + len(events), 2)
    assert theirs.max_timestamp == max(event.timestamp_ms for event in events)
    for record, event, ours in zip(list(theirs), events, list(records(batch, check_batch(batch))), strict=True):
        assert (record.offset, record.timestamp, record.value) == (event.offset, event.timestamp_ms, event.payload)
        assert record.key == (event.topic.encode() if event.key is None else event.key)
        assert record.headers == [(name.decode(), value) for name, value in ours.headers]
        assert record.headers[0] == ("meshgate-topic", event.topic.encode())


def test_a_plain_event_is_these_bytes():
    """Written out by hand from Kafka's documentation of the format; the checksum is the one that aiokafka finds."""
    batch = encode([Event("a/b", b"hi", 2, "c", timestamp_ms=NOW)], 5)
    record = (b"\x00\x00\x00" b"\x06a/b" b"\x04hi" b"\x06"
              b"\x1cmeshgate-topic\x06a/b" b"\x18meshgate-qos\x022" b"\x1emeshgate-client\x02c")
    assert batch[HEADER_BYTES:] == encode_varint(len(record)) + record
    assert batch[:8] == (5).to_bytes(8, "big")
    assert DefaultRecordBatch(bytearray(batch)).validate_crc()


def test_events_with_nothing_but_what_many_share_take_the_short_way_and_are_the_same_bytes():
    """One after the other, in every order, with events that have more or nothing between them."""
    kinds = [None, Properties(), Properties(content_type="text/x"), Properties(content_type="a/b"),
             Properties(content_type=""), Properties(content_type="text/x", priority=1),
             Properties(content_type="x" * 129), Properties(payload_is_text=True), Properties(mqtt_packet_id=1),
             Properties(native=Native("a", b"1")), Properties(native=Native("a", b"2")),
             Properties(native=Native("b", b"1")),
             Properties(native=Native("a", b"1" * 257)), Properties(native=Native("a", b"1"), priority=3),
             Properties(native=Native("a", b"1"), content_type="text/x"),
             Properties(native=Native("a", b"1"), message_id="m")]
    chosen = [kinds[(index * index + index // 9) % len(kinds)] for index in range(200)]
    events = [Event(f"t/{index % 2}", b"p", 1, f"c{index % 3 // 2}", properties=properties, timestamp_ms=NOW)
              for index, properties in enumerate(chosen)]
    encoder = Encoder()
    for offset, event in enumerate(events):
        event.offset = offset
    for _ in range(2):                                      # with the entries made, and with those that are there
        batch, _ = encoder.encode(events, first_in_group=True)
        assert batch[HEADER_BYTES:] == b"".join(
            Encoder()._record(event, offset, 0, False) for offset, event in enumerate(events))
    assert [content(event) for event in decode(batch)] == [content(event) for event in events]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 70_000])
def test_what_a_protocol_wrote_beside_is_text_in_the_record(size):
    """FastStream's KafkaBroker took no message that had come by AMQP: it decodes every header, and one was no text."""
    native = Native("amqp091", bytes(255 - index % 256 for index in range(size)))
    event, = decode(encode([Event("a", b"x", properties=Properties(native=native))], 0))
    assert event.properties.native == native
    stored = dict(event_headers(event))
    assert stored[NATIVE].isascii() and stored[NATIVE].startswith(b"amqp091:")


@pytest.mark.parametrize(("value", "native"), [
    (b"amqp091\0\xff\0:x", Native("amqp091", b"\xff\0:x")), (b"amqp\0", Native("amqp", b"")),     # of before
    (b"amqp:", Native("amqp", b"")), (b"amqp:/w==", Native("amqp", b"\xff")),
    (b"amqp:/w", None), (b"amqp:/w==x", None), (b"amqp:?", None), (b"amqp", None), (b"", None), (b":/w==", None),
    (b"a-b:/w==", None), (b"\xff:/w==", None), (b"\0x", None),
], ids=repr)
def test_what_a_protocol_wrote_beside_is_read_in_both_forms(value, native):
    properties = read_fields([(NATIVE, value)]).properties
    assert (properties.native if properties is not None else None) == native


@pytest.mark.parametrize("count", [1, 63, 64, 65, 8191, 8192, 8193, 16_383, 16_384, 17_000])
def test_batches_of_every_width_of_offset_delta(count):
    events = [Event(f"t/{index % 7}", b"%d" % index, index % 3, timestamp_ms=NOW + index % 2) for index in range(count)]
    batch = encode(events, 7, bytes_max=1 << 40)
    assert [content(event) for event in decode(batch)] == [content(event) for event in events]
    assert [record.offset for record in DefaultRecordBatch(bytearray(batch))] == list(range(7, 7 + count))


def test_timestamps_of_every_width_of_delta_and_backwards():
    deltas = [0, 1, 63, 64, 5, 200, 10_000, -1, -70, 3, 2**41, 63, 0]
    events = [Event("t", b"x", 1, "p", timestamp_ms=NOW + delta) for delta in deltas]
    batch = encode(events, bytes_max=1 << 40)
    assert [event.timestamp_ms - NOW for event in decode(batch)] == deltas
    assert [record.timestamp - NOW for record in DefaultRecordBatch(bytearray(batch))] == deltas
    assert DefaultRecordBatch(bytearray(batch)).max_timestamp == NOW + 2**41


@pytest.mark.parametrize("size", [0, 1, 31, 63, 64, 100, 4096, 4097, 8191, 8192, 16_383, 16_384, 70_000, 1_100_000])
def test_payloads_of_every_width_of_length(size):
    events = [Event("t", b"x" * size, timestamp_ms=NOW), Event("t", b"y" * size, timestamp_ms=NOW - 5)]
    assert [content(event) for event in decode(encode(events, bytes_max=1 << 40))] == [content(e) for e in events]


def test_a_batch_ends_when_it_is_large_enough():
    events = [Event("t", b"x" * 1000, timestamp_ms=NOW, offset=index) for index in range(100)]
    batch, count = Encoder().encode(events, first_in_group=True, bytes_max=10_000)
    assert count == 10 and len(decode(batch)) == 10


def test_an_empty_payload_is_a_tombstone_only_when_asked_for():
    event = Event("t", b"", timestamp_ms=NOW, offset=0)
    plain = next(iter(DefaultRecordBatch(bytearray(encode([event])))))
    tombstone = next(iter(DefaultRecordBatch(bytearray(encode([event], tombstones=True)))))
    assert plain.value == b"" and tombstone.value is None
    assert decode(encode([event], tombstones=True))[0].payload == b""


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_varints_are_zigzag(number):
    assert read_varint(encode_varint(number) + b"rest", 0) == (number, len(encode_varint(number)))


def test_a_huge_integer_header_comes_back():
    """Python refuses decimal text of more than 4300 digits, so those are written in hex."""
    event = Event("t", b"", timestamp_ms=NOW, headers=(("n", 3**20_000), ("m", -(3**20_000))))
    assert decode(encode([event]))[0].headers == event.headers


def test_a_lone_surrogate_cannot_stop_a_commit():
    event = Event("t\ud800", b"", timestamp_ms=NOW, headers=(("\udfff", "\ud800"),))
    assert decode(encode([event]))[0].headers == (("?", "?"),)


# --------------------------------------------------------------------------------------- batches of Kafka producers

def compressed_batch(messages, codec):
    """As a Kafka client sends it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for index, (key, value, headers) in enumerate(messages):
        builder.append(index, NOW + index, key, value, headers)
    return bytes(builder.build())


def kafka_batch(messages, *, codec=0, attributes=None):
    """messages: (key, value, headers), built by aiokafka; compressed here."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for index, (key, value, headers) in enumerate(messages):
        builder.append(index, NOW + index, key, value, headers)
    plain = bytes(builder.build())
    if codec == 0:
        return plain
    header = batch_at(plain, 0)
    packed = {1: gzip.compress}[codec](plain[HEADER_BYTES:])
    return build_batch(0, len(messages) - 1, header.base_timestamp, header.max_timestamp, len(messages), packed,
                       first_in_group=True, attributes=codec if attributes is None else attributes)


def test_a_record_without_our_headers_reads_as_an_event():
    batch = kafka_batch([(b"k", b"v", [("h", b"text"), ("b", b"\xff"), ("n", None)]), (None, None, [])])
    first, second = decode(batch, topic_of_key=lambda key: f"orders/{key}")
    assert (first.topic, first.payload, first.qos, first.key) == ("orders/b'k'", b"v", 1, b"k")
    assert first.headers == (("h", "text"), ("b", b"\xff"), ("n", None))
    assert (second.topic, second.payload, second.key) == ("orders/None", b"", None)


def test_wanted_is_asked_about_the_templates_topic_too():
    batch = kafka_batch([(b"a", b"1", []), (b"b", b"2", []), (b"a", b"3", [])])
    found = decode(batch, topic_of_key=lambda key: key.decode(), wanted=lambda topic: topic == "a")
    assert [(event.topic, event.payload) for event in found] == [("a", b"1"), ("a", b"3")]


def test_sidecars_that_lie_are_no_error():
    batch = kafka_batch([(b"k", b"v", [("a", b"nine"), ("a;type", b"int"), ("b", b"x"), ("b;type", b"colour")])])
    assert decode(batch)[0].headers == (("a", b"nine"), ("b", "x"), ("b;type", "colour"))


def test_our_headers_with_values_that_are_not_ours_stay_user_headers():
    headers = [("meshgate-qos", b"9"), ("meshgate-expires", b"soon"), ("meshgate-topic", b"\xff"),
               ("meshgate-topic", b"t/1"), ("meshgate-topic", b"t/2")]
    batch = kafka_batch([(b"k", b"v", headers)])
    event, = decode(batch)
    assert (event.topic, event.qos, event.properties) == ("t/1", 1, None)
    assert event.headers == (("meshgate-qos", "9"), ("meshgate-expires", "soon"), ("meshgate-topic", b"\xff"),
                             ("meshgate-topic", "t/2"))


def test_gzip_batches_are_read():
    messages = [(b"k%d" % index, b"v" * index, []) for index in range(200)]
    batch = kafka_batch(messages, codec=1)
    check_records(plain_batch(batch, check_batch(batch)), check_batch(batch))
    assert [event.payload for event in decode(batch)] == [value for _, value, _ in messages]


CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("count", [1, 200, 5_000])
def test_batches_of_every_codec_are_read(codec, count):
    messages = [(b"k%d" % index, b"v" * (index % 300), [("h", b"x")]) for index in range(count)]
    batch = compressed_batch(messages, codec)
    header = check_batch(batch)
    assert header.attributes & 7 == codec
    check_records(plain_batch(batch, header), header)
    assert [(event.key, event.payload) for event in decode(batch)] == [(key, value) for key, value, _ in messages]


def test_snappy_without_the_framing_of_java_is_read():
    assert expand(2, bytes(cramjam.snappy.compress_raw(b"v" * 1_000))) == b"v" * 1_000


@pytest.mark.parametrize("name", ["snappy", "lz4", "zstd"])
def test_a_bomb_of_any_codec_is_refused_at_the_bound(name):
    packer = getattr(cramjam, name)
    pack = packer.compress_raw if name == "snappy" else packer.compress
    assert len(expand(CODECS[name], bytes(pack(bytes(EXPANDED_BYTES_MAX))))) == EXPANDED_BYTES_MAX
    with pytest.raises(BatchError):
        expand(CODECS[name], bytes(pack(bytes(EXPANDED_BYTES_MAX + 1))))


@pytest.mark.parametrize("name", ["snappy", "lz4", "zstd"])
@pytest.mark.parametrize("spoil", [
    lambda data: data[:-3], lambda data: data[:5] + b"\xff\xff" + data[7:], lambda data: b"nonsense", lambda data: b"",
], ids=["cut", "bits", "nonsense", "empty"])
def test_broken_data_of_any_codec_is_refused_or_fails_the_check_of_its_records(name, spoil):
    messages = [(b"k%d" % index, os.urandom(50), []) for index in range(50)]
    batch = compressed_batch(messages, CODECS[name])
    header = check_batch(batch)
    packed = spoil(batch[HEADER_BYTES:])
    forged = build_batch(0, 49, NOW, header.max_timestamp, 50, packed, first_in_group=True, attributes=CODECS[name])
    with pytest.raises(BatchError):
        check_records(plain_batch(forged, check_batch(forged)), check_batch(forged))


def test_a_gzip_bomb_is_refused_at_the_bound():
    bomb = gzip.compress(bytes(EXPANDED_BYTES_MAX + 1))
    assert len(bomb) < 20_000
    with pytest.raises(BatchError, match="expands to more than"):
        expand(1, bomb)


@pytest.mark.parametrize("codec", [2, 3, 4, 5, 6, 7])
def test_an_unknown_or_missing_codec_is_refused(codec, monkeypatch):
    monkeypatch.setattr("routing.log.records.codecs.importlib.util.find_spec", lambda name: None)
    with pytest.raises(BatchError, match="not available"):
        expand(codec, b"data")


def test_broken_gzip_is_refused():
    for data in (b"", b"nonsense", gzip.compress(b"whole")[:-4]):
        with pytest.raises(BatchError):
            expand(1, data)


def rebuilt(records_bytes, count=1, last_offset_delta=None):
    delta = count - 1 if last_offset_delta is None else last_offset_delta
    return build_batch(0, delta, NOW, NOW, count, records_bytes, first_in_group=True)


GOOD = b"\x10\x00\x00\x00\x02k\x02v\x00"        # size 8: attributes, delta, offset delta, key, value, no headers


@pytest.mark.parametrize(("broken", "count"), [
    (b"", 1),                                           # no record at all
    (GOOD[:-1], 1),                                     # cut
    (GOOD + b"\x00", 1),                                # bytes behind the last record
    (b"\x12" + GOOD[1:], 1),                            # a size too large
    (b"\x0e" + GOOD[1:], 1),                            # a size too small
    (b"\x10\x00\x00\x00\x40k\x02v\x00", 1),             # a key longer than the record
    (b"\x10\x00\x00\x00\x03k\x02v\x00", 1),             # key length -2
    (b"\x10\x00\x00\x00\x02k\x02v\x7e", 1),             # an impossible count of headers
    (b"\x10\x00\x00\x00\x02k\x02v\x01", 1),             # a negative count of headers
    (b"\x10\x00\x00\x02\x02k\x02v\x00", 1),             # offset delta 1 for the first record
    (GOOD + GOOD, 2),                                   # offset delta 0 twice
    (b"\x12\x00\x00\x80\x00\x02k\x02v\x00", 1),         # offset delta 0 in two bytes
    (b"\x16\x00\x00\x00\x02k\x02v\x02\x01\x00\x00", 1),  # a header without a name
    (b"\xff" * 11, 1),                                  # a varint without end
])
def test_records_that_break_the_format_are_refused(broken, count):
    batch = rebuilt(broken, count)
    with pytest.raises(BatchError):
        check_records(batch, check_batch(batch))


def test_a_count_that_does_not_fit_the_last_offset_is_refused():
    batch = rebuilt(GOOD, 1, last_offset_delta=1)
    with pytest.raises(BatchError, match="count"):
        check_records(batch, check_batch(batch))


def test_place_sets_the_brokers_fields_and_keeps_the_checksum():
    batch = encode([Event("t", b"x", timestamp_ms=NOW, offset=0)])
    placed = place(batch, 77, first_in_group=False)
    header = check_batch(placed)
    assert (header.base_offset, header.leader_epoch) == (77, -1)
    assert placed[8:12] == batch[8:12] and placed[16:] == batch[16:]


def test_every_bit_flip_in_the_checked_part_is_found():
    batch = bytearray(encode([Event("t", b"x" * 10, timestamp_ms=NOW, offset=0)]))
    for bit in range(17 * 8, len(batch) * 8):
        batch[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BatchError):
            check_batch(bytes(batch))
        batch[bit // 8] ^= 1 << bit % 8


def test_the_topic_of_an_event_is_not_checked_here():
    """The log stores what it is given; check_topic is the adapters' business."""
    with pytest.raises(ValueError):
        check_topic("a/#")
    assert decode(encode([Event("a/#", b"", timestamp_ms=NOW)]))[0].topic == "a/#"


def test_plain_events_of_other_nodes_take_the_short_way_and_come_back():
    """Many of one topic, own and foreign in turns, of two origins and two flows: nothing is taken for another's."""
    here, there = OriginPartition("a", "1", "events", 0), OriginPartition("b", "2", "events", 1)
    events = []
    for number in range(300):
        origin = (None, here, here, there)[number // 3 % 4]
        offset = number * 7 if origin is not None else -1
        flow = number % 2 if origin is here else 0
        events.append(Event("t", b"x" * (number % 5), 1, "p", timestamp_ms=NOW, origin=origin, origin_offset=offset,
                            flow=flow))
    assert [content(event) for event in decode(encode(events))] == [content(event) for event in events]


@pytest.mark.parametrize("name", ["meshgate-origin", "meshgate-origin-offset", "meshgate-dead-letter",
                                  "meshgate-mqtt-id"])
def test_a_producer_cannot_forge_where_an_event_comes_from(name):
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10_000)
    builder.append(0, timestamp=NOW, key=b"k", value=b"v", headers=[(name, b"a/1/events/0")])
    batch = bytes(builder.build())
    with pytest.raises(BatchError, match="node's to write"):
        check_records(batch, check_batch(batch))


def test_a_user_header_of_that_name_is_only_a_header():
    event = Event("t", b"v", headers=(("meshgate-origin", "a/1/e/0"), ("meshgate-origin-offset", "0" * 16)),
                  timestamp_ms=NOW)
    assert content(decode(encode([event]))[0]) == content(event)


OWN_NAMES = st.sampled_from([b"meshgate-topic", b"meshgate-qos", b"meshgate-client", b"meshgate-retain", b"x"])
OWN_VALUES = st.sampled_from(
    [b"", b"0", b"1", b"2", b"a/b", "ü/é".encode(), b"\xff", b"t" * 63, b"t" * 64, b"t" * 9000, None])
OWN_HEADERS = st.lists(st.tuples(OWN_NAMES, OWN_VALUES), max_size=4)


@given(OWN_HEADERS, st.binary(max_size=2))
@settings(max_examples=1_500)
def test_the_short_way_to_read_headers_says_what_the_long_way_says(headers, more):
    """Or that it does not know."""
    raw = encode_headers(headers)
    usual = _usual(raw)
    fields = read_fields(_split_headers(raw))
    if usual is not None:
        assert usual == (fields.topic, fields.topic_bytes, fields.qos, fields.publisher)
        assert (fields.headers, fields.properties, fields.retain, fields.origin) == ((), None, False, None)
    for torn in (raw[:-1], raw + more if more else raw[:-2]):
        assert _usual(torn) is None, "half a header is none"


@pytest.mark.parametrize(("event", "known"), [
    (Event("a/b", b"x", 1), ("a/b", b"a/b", 1, "")), (Event("a/b", b"x"), ("a/b", b"a/b", 0, "")),
    (Event("a/b", b"x", 0, "c"), ("a/b", b"a/b", 0, "c")),
    (Event("t" * 300, b"x", 1, "c"), ("t" * 300, b"t" * 300, 1, "c")),
    (Event("a/b", b"x", 1, "", retain=True), None)])
def test_what_most_records_say_is_read_the_short_way(event, known):
    assert _usual(encode_headers(event_headers(event))) == known
