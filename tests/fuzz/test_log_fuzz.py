"""Fuzz of the log's codecs: arbitrary and mutated bytes give a BatchError or a result, and never another exception."""
from __future__ import annotations

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.errors import StorageError
from routing.event import Event
from routing.log.records.batch import HEADER_BYTES, BatchError, build_batch, check_batch
from routing.log.records.codecs import expand
from routing.log.records.decode import Decoder, check_records, plain_batch
from routing.log.records.fields import read_fields
from routing.log.records.verdicts import Verdicts
from routing.log.segments.mark import body_of, decode_mark
from routing.log.segments.summary import decode_summary
from tests.routing.log.records.test_batch import decode, encode, kafka_batch
from tests.support.log import make_store, open_partition, scan_all

NOW = 1_700_000_000_000
MESSAGES = [(b"k%d" % index, b"value" * index, [("h", b"x" * index)]) for index in range(4)]


def read(batch):
    """As append_raw does: check all, then decode. Returns the events, None when it is refused."""
    try:
        header = check_batch(batch)
        plain = plain_batch(batch, header)
        check_records(plain, header)
    except BatchError:
        return None
    events = []
    Decoder(None, lambda key: "t").events(plain, 0, header, 0, Verdicts(lambda topic: True), {}, events, 1 << 60)
    assert [event.offset for event in events] == list(range(header.base_offset, header.next_offset))
    return events


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_as_a_batch(data):
    assert read(data) is None


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5), st.integers(0, 7), st.integers(0, 5))
def test_arbitrary_bytes_as_records_with_a_right_checksum(data, count, attributes, extra):
    read(build_batch(0, max(0, count - 1 + extra), NOW, NOW, count, data, first_in_group=True, attributes=attributes))


@settings(max_examples=1_000, deadline=None)
@given(st.data())
def test_mutated_records_with_a_right_checksum(data):
    """What passes the check is decoded to the same by both readers: no bound is left to luck."""
    records = bytearray(kafka_batch(MESSAGES)[HEADER_BYTES:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(records) - 1))
        action = data.draw(st.sampled_from(("set", "cut", "insert")))
        if action == "set":
            records[at] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del records[at:at + data.draw(st.integers(1, 5))]
        else:
            records[at:at] = data.draw(st.binary(min_size=1, max_size=5))
        if not records:
            break
    count = len(MESSAGES)
    batch = build_batch(0, count - 1, NOW, NOW, count, bytes(records), first_in_group=True)
    events = read(batch)
    if events is not None:
        from routing.log.records.decode import records as slow
        rows = list(slow(batch, check_batch(batch)))
        assert [(row.value or b"", row.timestamp_ms) for row in rows] == [(e.payload, e.timestamp_ms) for e in events]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((b"meshgate-topic", b"meshgate-qos", b"meshgate-expires", b"message-id", b"a",
                                           b"meshgate-header-", b"message-id;type", b"a;type", b"\xff;type", b"\xff"))
                          | st.binary(max_size=5), st.none() | st.binary(max_size=30)
                          | st.sampled_from((b"int", b"float", b"bool", b"0x", b"-", b"1e999", b"nan", b"9" * 5_000))),
                max_size=8))
def test_arbitrary_headers_are_some_event_that_can_be_stored_again(headers):
    fields = read_fields(headers)
    event = Event(fields.topic or "t", b"", fields.qos, fields.publisher, None, fields.headers, fields.properties,
                  fields.retain, NOW)
    again, = decode(encode([event]))
    assert [repr(value) for _, value in again.headers] == [repr(value) for _, value in event.headers]
    assert again.properties == event.properties


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_as_a_summary(data):
    assert decode_mark(data) is None and body_of(data) is None
    decode_summary(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4), st.binary(max_size=200))
def test_arbitrary_bytes_to_decompress(codec, data):
    with contextlib.suppress(BatchError):
        expand(codec, data)


def test_arbitrary_harm_to_a_partition_is_survived(tmp_path):
    """Bytes set, cut, doubled and zeroed anywhere in any file: the partition opens, serves true events, and goes on."""
    rng = random.Random(99)
    store = make_store(tmp_path / "0")
    partition = open_partition(store, segment_bytes=2_000)
    for index in range(60):
        store.store_events(partition, [Event(f"t/{index % 3}", b"%d" % index, 1)])
    store.close()
    original = {path.relative_to(tmp_path / "0"): path.read_bytes() for path in (tmp_path / "0").rglob("*.*")}
    for number in range(1, 80):
        root = tmp_path / str(number)
        for name, data in original.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        for name in rng.sample(sorted(original), rng.randint(1, 3)):
            (root / name).write_bytes(harmed(original[name], rng))
        try:
            store = make_store(root, tail_cache_bytes=0)
        except StorageError as error:           # all three places that name this log: it must not become another one
            assert "the name of this log is lost" in str(error)
            continue
        partition = open_partition(store, segment_bytes=2_000)
        for event in scan_all(partition):
            assert int(event.payload) == event.offset and event.topic == f"t/{event.offset % 3}"
        before = partition.next_offset
        ticket = store.store_events(partition, [Event("t/new", b"new", 1)])
        assert not ticket.refusals and ticket.events[0].offset == before
        assert partition.count(0, lambda topic: topic == "t/new") == 1
        store.close()


def harmed(data, rng):
    at = rng.randrange(len(data) + 1)
    length = rng.randint(1, 200)
    return rng.choice((
        data[:at],
        data[:at] + rng.randbytes(length) + data[at + length:],
        data[:at] + bytes(length) + data[at + length:],
        data[:at] + rng.randbytes(length) + data[at:],
        data[:at] + data[at + length:],
        data + data,
        b"",
    ))
