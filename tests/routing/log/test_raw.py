"""Batches of Kafka producers: checked, stored as they came, fetched as they stand, read as events only by need."""
from __future__ import annotations

import gzip
from collections import Counter

import pytest
from aiokafka.record._crecords.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import Fault
from routing.event import Event
from routing.log.fetch import OutOfRange
from routing.log.producing import raw
from routing.log.records.batch import BatchError, batch_at, build_batch, check_batch, encode_varint
from routing.log.records.codecs import ExpandsTooMuch
from routing.ticket import Ticket
from tests.support.log import make_store, open_partition, scan_all

NOW = 1_700_000_000_000
TERMS = raw.Terms(1 << 20, 1 << 20, 100)


def kafka_batch(records, *, codec=0, producer=(-1, -1, -1), transactional=0, base=0):
    """records: (key, value, headers), as a Kafka client frames them."""
    builder = DefaultRecordBatchBuilder(2, codec, transactional, *producer, 1 << 30)
    for index, (key, value, headers) in enumerate(records):
        builder.append(index, NOW + index, key, value, headers)
    return bytes(builder.build())


def plain(count=5, size=10):
    return [(None, b"v%03d" % index + b"." * size, []) for index in range(count)]


def append(store, partition, batch, **options):
    ticket = Ticket(())
    part = partition.append_raw(batch, ticket, **options)
    ticket.part_done()
    return part, ticket


@pytest.fixture
def store(tmp_path):
    store = make_store(tmp_path)
    yield store
    store.close()


# ------------------------------------------------------------------------------------------------------- checking

@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_a_good_batch_of_any_codec_passes_and_says_what_is_in_it(codec):
    checked = raw.check(kafka_batch(plain(100), codec=codec), TERMS)
    assert (checked.records, checked.topics, checked.named, checked.foreign) == (100, None, None, False)
    assert bool(checked.plain_bytes == len(checked.data)) == (codec == 0)


def record(offset_delta, key=b"\x01", value=b"\x02v", headers=b"\x00", size=None):
    body = b"\0\0" + offset_delta + key + value + headers
    return encode_varint(len(body) if size is None else size) + body


def framed(records, count):
    return build_batch(0, count - 1, NOW, NOW, count, records, first_in_group=True)


@pytest.mark.parametrize("records, count", [
    (record(b"\x02"), 1), (record(b"\0") + record(b"\0"), 2), (record(b"\0"), 2), (record(b"\0") + b"\0", 1),
    (record(b"\0", size=200), 1), (record(b"\0", size=-3), 1), (record(b"\0", key=b"\x7e"), 1),
    (record(b"\0", value=b"\x04"), 1), (record(b"\0", headers=b"\x02"), 1), (record(b"\0", headers=b"\x03"), 1),
    (record(b"\0", headers=b"\x02\x01\x01"), 1), (record(b"\0", headers=b"\x02\x02\xff\x01"), 1),
    (record(b"\0")[:-1], 1), (b"\x80" * 12, 1), (b"", 1), (record(b"\0", headers=b"\xff\xff\xff\xff\x0f"), 1),
], ids=str)
def test_a_broken_record_is_refused_and_never_read_beyond(records, count):
    with pytest.raises(BatchError):
        raw.check(framed(records, count), TERMS)


def test_limits_have_errors_of_their_own():
    with pytest.raises(raw.TooLarge):
        raw.check(kafka_batch(plain(100, 1000)), raw.Terms(10_000, 1 << 20, 100))
    with pytest.raises(raw.TooLarge):
        raw.check(kafka_batch(plain(1, 2000)), raw.Terms(10_000, 1000, 100))
    with pytest.raises(ExpandsTooMuch):
        raw.check(kafka_batch(plain(1, 500_000), codec=1), raw.Terms(10_000, 1 << 20, 100, 100_000))
    with pytest.raises(BatchError):
        raw.check(kafka_batch([(None, b"x", [("h", b"")] * 101)]), TERMS)
    with pytest.raises(BatchError):
        raw.check(kafka_batch([(b"k", b"x", []), (None, b"x", [])]), raw.Terms(10_000, 1000, 100, keyed=True))


@given(st.binary(max_size=300), st.integers(0, 20), st.sampled_from([0, 1, 2, 3, 4]))
def test_whatever_bytes_stand_for_records_only_the_documented_error_comes(data, count, codec):
    batch = build_batch(0, max(count - 1, 0), NOW, NOW, count, data, first_in_group=True, attributes=codec)
    try:
        checked = raw.check(batch, TERMS)
    except BatchError:
        return
    assert checked.records == count


@given(st.lists(st.tuples(st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=300),
                          st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)),
                min_size=1, max_size=80))
def test_what_passes_is_read_as_the_events_that_were_sent(tmp_path_factory, records):
    store = make_store(tmp_path_factory.mktemp("log"), tail_cache_bytes=0)
    partition = open_partition(store)
    part, _ = append(store, partition, kafka_batch(records))
    store.commit()
    if part.refusal is not None:
        assert any(name.startswith("meshgate-") for _, _, headers in records for name, _ in headers)
    else:
        events = scan_all(partition)
        nulls = [(event.properties.null_key, event.properties.null_payload) if event.properties else (False, False)
                 for event in events]
        assert [(event.key, event.payload) for event in events] == [
            (None if key == b"events" else key, value or b"") for key, value, _ in records]
        assert nulls == [(key is None, value is None) for key, value, _ in records]
    store.close()


def test_numbers_with_more_bytes_than_they_need_are_read_right(store):
    """A producer may write them; nothing but the CRC and the length of a record speaks against it."""
    partition = open_partition(store)
    records = (record(b"\x80\0") + record(b"\x82\0", key=b"\x82\0k", value=b"\x84\0vw") + record(b"\x04")
               + record(b"\x06", key=b"\x7f", value=b"\x81\x01") + record(b"\x08", value=b"\x05"))
    append(store, partition, framed(records, 5))
    store.commit()
    assert [(event.offset, event.key, event.payload) for event in scan_all(partition)] == [
        (0, None, b"v"), (1, b"k", b"vw"), (2, None, b"v"), (3, None, b""), (4, None, b"")]


# ------------------------------------------------------------------------------------------------------- the door

def test_a_large_batch_is_checked_aside_and_those_behind_it_wait_their_turn(tmp_path):
    store = make_store(tmp_path, inline=False)
    partition = open_partition(store)
    parts = [append(store, partition, batch) for batch in (
        kafka_batch(plain(raw.INLINE_RECORDS + 1)), kafka_batch(plain(1)), kafka_batch(plain(9), codec=1), b"broken")]
    assert partition.next_offset == 0 and store.pending_bytes > 0
    store.loop.run_until(lambda: all(ticket.done for _, ticket in parts))
    first = raw.INLINE_RECORDS + 1
    assert [part.base_offset for part, _ in parts] == [0, first, first + 1, -1]
    assert parts[3][0].refusal.fault is Fault.CHECKSUM and store.pending_bytes == 0
    store.close()


def test_a_batch_that_expands_far_is_opened_aside(tmp_path):
    store = make_store(tmp_path, inline=False)
    partition = open_partition(store)
    part, ticket = append(store, partition, kafka_batch(plain(1, 900_000), codec=1))
    assert partition.next_offset == 0
    store.loop.run_until(lambda: ticket.done)
    assert (part.base_offset, part.refusal) == (0, None)
    bomb = build_batch(0, 0, NOW, NOW, 1, gzip.compress(bytes(64 << 20)), first_in_group=True, attributes=1)
    part, ticket = append(store, partition, bomb)
    store.loop.run_until(lambda: ticket.done)
    assert part.refusal.fault is Fault.TOO_LARGE
    store.close()


def test_no_event_is_made_when_nobody_asks(store, monkeypatch):
    partition = open_partition(store)
    monkeypatch.setattr(raw.RawBatch, "parts", lambda *_: pytest.fail("nobody wanted events"))
    append(store, partition, kafka_batch(plain(50), codec=3))
    store.commit()
    assert partition.tally(0, until=50, max_scanned=1000).counts == {"events": 50}


def test_headers_of_the_nodes_own_are_renamed_and_allowed_topics_stay():
    batch = kafka_batch([
        (b"a", b"0", [("meshgate-topic", b"x/1"), ("meshgate-qos", b"2"), ("h", b"x")]), (None, None, []),
        (b"b", b"2", [("meshgate-topic", b"secret")]), (b"c", b"3", [("content-type", b"text/plain")])], codec=1,
        producer=(7, 3, 11))
    checked = raw.check(batch, TERMS)
    assert checked.named == Counter({"x/1": 1, "secret": 1}) and checked.foreign
    again = raw.check(raw.without_own_headers(checked, {"x/1"}.__contains__), TERMS)
    assert (again.named, again.foreign) == (Counter({"x/1": 1}), False)
    header = again.header
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 3, 11)
    assert [(record.key, record.value, record.headers, record.timestamp) for record in DefaultRecordBatch(again.data)
            ] == [
        (b"a", b"0", [("meshgate-topic", b"x/1"), ("meshgate-header-meshgate-qos", b"2"), ("h", b"x")], NOW),
        (None, None, [], NOW + 1), (b"b", b"2", [("meshgate-header-meshgate-topic", b"secret")], NOW + 2),
        (b"c", b"3", [("content-type", b"text/plain")], NOW + 3)]


# ------------------------------------------------------------------------------------------------------- fetch

def offsets_in(data):
    found = []
    while data:
        header = batch_at(data, 0)
        check_batch(data[:header.size])
        found.append((header.base_offset, header.record_count))
        data = data[header.size:]
    return found


def filled(store, *, batches=30, segment_bytes=4_000, **settings):
    partition = open_partition(store, segment_bytes=segment_bytes, **settings)
    for index in range(batches):
        if index % 3:
            append(store, partition, kafka_batch(plain(index % 4 + 1, 200), codec=index % 5))
        else:
            store.publish(partition, [Event("a", b"x" * 100, 1)])
        store.commit()
    return partition


def test_a_walk_by_fetch_gives_every_batch_once_from_the_start_and_from_any_offset(store):
    partition = filled(store)
    whole = b"".join(partition.read(0, 1 << 30))
    for max_bytes in (1, 500, 2_000, 1 << 20):
        offset, data = 0, b""
        while offset < partition.end_offset:
            found = partition.fetch(offset, max_bytes)
            assert found.data and len(found.data) <= max(max_bytes, 2_000)
            data, offset = data + found.data, found.next_offset
        assert data == whole
    for offset in range(partition.end_offset):
        first, count = offsets_in(partition.fetch(offset, 1).data)[0]
        assert first <= offset < first + count
    assert partition.fetch(partition.end_offset, 100).data == b""


@pytest.mark.parametrize("offset", [-1, 10_000])
def test_an_offset_that_is_not_there_is_told(store, offset):
    with pytest.raises(OutOfRange):
        filled(store).fetch(offset, 100)


def test_what_is_not_in_memory_is_read_aside(tmp_path, monkeypatch):
    store = make_store(tmp_path, inline=False)
    partition = filled(store, batches=10)
    whole = partition.fetch(0, 1 << 20).data
    for segment in partition.segments:
        monkeypatch.setattr(type(segment), "read_cached", lambda *_: None)
    answers = []
    assert partition.fetch(0, 1 << 20, done=answers.append) is None
    store.loop.run_until(lambda: answers)
    assert answers[0].data == whole
    assert partition.fetch(0, 1 << 20).data == whole        # without a callback the loop waits
    store.close()


def test_damage_is_passed_over_by_fetch(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = filled(store, batches=6, segment_bytes=1 << 20)
    second = batch_at(partition.segments[0].read_bytes(0, 100), 0).size
    path = partition.segments[0].path()
    data = bytearray(path.read_bytes())
    data[second + 16] = 9                               # its magic
    path.write_bytes(data)
    offset, seen = 0, []
    while offset < partition.end_offset:
        found = partition.fetch(offset, 1 << 20)
        seen += offsets_in(found.data)
        assert found.next_offset > offset
        offset = found.next_offset
    assert [base for base, _ in seen] == [0, *[base for base, _ in seen[1:]]] and 1 not in [base for base, _ in seen]
    store.close()


def test_watchers_are_told_of_each_commit(store):
    partition = open_partition(store)
    calls = []
    watcher = lambda: calls.append(partition.high_watermark)  # noqa: E731
    partition.watchers[watcher] = None
    append(store, partition, kafka_batch(plain(3)))
    store.commit()
    del partition.watchers[watcher]
    store.store_events(partition, [Event("a", b"", 1)])
    assert calls == [3]


def test_times_are_found_by_the_index(store):
    partition = filled(store, batches=4)
    found = {}
    partition.find_time(NOW + 1, lambda place: found.update({0: place}))
    partition.find_time(NOW + 10_000_000, lambda place: found.update({1: place}))
    partition.find_latest(lambda place: found.update({2: place}))
    store.loop.run_until(lambda: len(found) == 3)
    assert found[0][1] >= NOW + 1 and found[1] is None
    offset, latest = found[2]
    assert latest == max(event.timestamp_ms for event in scan_all(partition))
    assert partition.event(offset).timestamp_ms == latest
