"""Large compressed batches: opened aside, once, for who may wait; and to check one never keeps the interpreter."""
from __future__ import annotations

import gc
import sys
import threading
import time
from collections import Counter

import cramjam
import pytest

from mesh.system.limits import SWITCH_INTERVAL_S
from routing.log import contents, opening, reader
from routing.log.producing import raw
from routing.log.records import decode
from routing.log.records.batch import build_batch
from tests.routing.log.test_raw import append, kafka_batch
from tests.support.log import make_store, open_partition

NOW = 1_700_000_000_000
LARGE = 900_000                 # bytes of a value that compresses to almost nothing


def large_batch(count=1):
    return kafka_batch([(None, b"%d" % index + b"x" * (LARGE // count), []) for index in range(count)], codec=3)


@pytest.fixture
def store(tmp_path):
    store = make_store(tmp_path, inline=False)
    yield store
    store.close()


@pytest.fixture
def opened(monkeypatch):
    """The threads on which batches were opened."""
    threads = []

    def plain_batch(*arguments):
        found = decode.plain_batch(*arguments)
        threads.append(threading.current_thread())
        return found

    monkeypatch.setattr(opening, "plain_batch", plain_batch)
    return threads


def stored(store, partition, *batches):
    for batch in batches:
        _, ticket = append(store, partition, batch)
        store.kick()
        store.loop.run_until(lambda ticket=ticket: ticket.done)


def scan(partition, offset, **options):
    return partition.scan(offset, lambda topic: True, max_events=10, max_scanned=100, **options)


def test_who_may_wait_gets_it_from_a_thread_and_it_is_opened_once_for_all_steps(store, opened):
    partition = open_partition(store)
    stored(store, partition, large_batch(100))
    found = scan(partition, 0, may_wait=True)
    assert (found.events, found.next_offset, found.scanned >= 100) == ([], 0, True)
    store.loop.run_until(lambda: scan(partition, 0, may_wait=True).events)
    offset, events = 0, []
    while offset < 100:
        found = scan(partition, offset, may_wait=True)
        events += found.events
        offset = found.next_offset
    assert [event.offset for event in events] == list(range(100)) and len(opened) == 1
    assert opened[0] is not threading.current_thread()


def test_who_may_not_wait_has_it_at_once_and_it_is_kept_for_the_next_step(store, opened):
    partition = open_partition(store)
    stored(store, partition, large_batch(100))
    assert [event.offset for event in scan(partition, 0).events] == list(range(10))
    assert [event.offset for event in scan(partition, 50, may_wait=True).events] == list(range(50, 60))
    assert opened == [threading.current_thread()]


def test_a_count_that_may_wait_waits_too(store, opened):
    partition = open_partition(store)
    batch = kafka_batch([(None, b"x" * LARGE, []), (b"k", b"y", [("meshgate-topic", b"a")])], codec=3)
    _, ticket = append(store, partition, batch, ask=lambda checked: checked.named)
    store.loop.run_until(lambda: ticket.done)
    waits = partition.tally(1, until=2, max_scanned=10, may_wait=True)
    assert (waits.counts, waits.next_offset) == ({}, 1)
    store.loop.run_until(lambda: partition.tally(1, until=2, max_scanned=10, may_wait=True).counts)
    assert all(thread is not threading.current_thread() for thread in opened)


def test_many_readers_of_different_batches_all_get_on(store, opened, monkeypatch):
    """What was opened for somebody does not go before he has seen it, however little is kept."""
    monkeypatch.setattr(opening, "KEPT_BYTES_MAX", 1_000_000)
    partition = open_partition(store)
    stored(store, partition, *(large_batch() for _ in range(9)))
    waiting = set(range(9))

    def look():
        waiting.difference_update(offset for offset in list(waiting) if scan(partition, offset, may_wait=True).events)
        return not waiting

    until = time.monotonic() + 60
    while not look():
        assert time.monotonic() < until
        store.loop.run_pending()
    assert store.opener._bytes < (opening.UNREAD_MAX + 1) * LARGE * 1.1


def test_one_that_nobody_came_for_holds_up_the_others_for_a_while_only(store, opened):
    now_s = 0.0
    store.clock_s = lambda: now_s
    partition = open_partition(store)
    stored(store, partition, *(large_batch() for _ in range(4)))
    for offset in range(3):
        scan(partition, offset, may_wait=True)
    store.loop.run_until(lambda: len(store.opener._kept) == 3)
    assert not scan(partition, 3, may_wait=True).events and not store.opener._under_way
    now_s = 2 * opening.UNREAD_S
    scan(partition, 3, may_wait=True)
    store.loop.run_until(lambda: scan(partition, 3, may_wait=True).events)


@pytest.mark.measured
def test_a_batch_that_comes_to_many_records_never_keeps_the_interpreter():
    """Hundreds of thousands of records: to look at them takes a second, on a thread; others go on meanwhile."""
    count = 300_000
    records = b"".join(b"\x10\0\0" + padded(index) + b"\x01\x01\0" for index in range(count))
    batch = build_batch(0, count - 1, NOW, NOW, count, bytes(cramjam.zstd.compress(records)), first_in_group=True,
                        attributes=4)
    checked = []
    thread = threading.Thread(target=lambda: checked.append(raw.check(batch, raw.Terms(16 << 20, 1 << 20, 1_024))))
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.disable()                            # a collection of all that the other tests have left is no call into C
    try:
        longest_s, took_s = longest_wait_s(thread)
    finally:
        gc.enable()
        sys.setswitchinterval(before_s)
    assert checked[0].records == count
    assert longest_s < took_s / 8, (longest_s, took_s)


def padded(value):
    """A varint of three bytes, whatever the value."""
    value <<= 1
    return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F))


def longest_wait_s(thread):
    """How long this thread had to wait for the interpreter at most while the other one worked, and how long that was.
    """
    longest_s = 0.0
    thread.start()
    began_s = last_s = time.perf_counter()
    while thread.is_alive():
        now_s = time.perf_counter()
        longest_s = max(longest_s, now_s - last_s)
        last_s = now_s
    return longest_s, last_s - began_s


# ------------------------------------------------------------------------------------------------ what one step does

def test_of_a_batch_of_many_records_a_step_looks_at_some(store):
    partition = open_partition(store)
    batch = kafka_batch([*((None, b"", []) for _ in range(39_999)), (None, b"", [("meshgate-topic", b"a")])])
    _, ticket = append(store, partition, batch, ask=lambda checked: Counter({"events": 39_999, "a": 1}))
    store.loop.run_until(lambda: ticket.done)
    offset, steps, events = 0, [], []
    while offset < 40_000:
        found = partition.scan(offset, lambda topic: topic == "a", max_events=10, max_scanned=1)
        steps.append(found.next_offset - offset)
        events += found.events
        offset = found.next_offset
    assert steps == [16_384, 16_384, 40_000 - 2 * 16_384] and [event.offset for event in events] == [39_999]
    events = []
    while len(events) < 40_000:
        found = partition.scan(len(events), lambda topic: True, max_events=20_000, max_scanned=1)
        events += found.events
    assert [event.offset for event in events] == list(range(40_000))


@pytest.mark.parametrize("codec", [0, 3])
def test_who_begins_far_behind_in_a_batch_of_many_gets_nothing_before_that(store, codec):
    partition = open_partition(store)
    stored(store, partition, kafka_batch([(None, b"", []) for _ in range(60_000)], codec=codec))
    for offset in (0, 16_383, 16_384, 16_385, 40_000, 59_999):
        assert partition.event(offset).offset == offset
        events, at = [], offset
        while at < 60_000 and len(events) < 100:
            found = partition.scan(at, lambda topic: True, max_events=100, max_scanned=1)
            events += found.events
            assert found.next_offset >= at
            at = found.next_offset
        assert [event.offset for event in events[:100]] == list(range(offset, min(offset + 100, 60_000)))
        found = partition.scan(offset, lambda topic: True, max_events=100, max_scanned=1_000_000)
        assert [event.offset for event in found.events] == list(range(offset, min(offset + 100, 60_000)))


def test_of_a_compressed_batch_a_step_takes_no_more_bytes_than_of_others(store):
    partition = open_partition(store)
    stored(store, partition, kafka_batch([(None, b"x" * 100_000, []) for _ in range(100)], codec=3))
    scan(partition, 0)
    offset, steps = 0, []
    while offset < 100:
        found = partition.scan(offset, lambda topic: True, max_events=100, max_scanned=1_000_000)
        assert [event.offset for event in found.events] == list(range(offset, found.next_offset))
        steps.append(len(found.events))
        offset = found.next_offset
    assert max(steps) <= 100
    found = partition.scan(0, lambda topic: True, max_events=100, max_scanned=1_000)
    assert len(found.events) == reader.OPENED_BYTES // 100_000 + 1


def test_events_of_a_large_batch_come_to_live_readers_in_parts_of_few_bytes(store):
    partition = open_partition(store)
    runs = []
    partition.on_committed = lambda partition, run: runs.append(run)
    stored(store, partition, kafka_batch([(None, b"x" * 100_000, []) for _ in range(100)], codec=3))
    parts = []
    made = runs[0].parts(250, store.opener)
    while sum(parts) < 100:
        parts.append(len(next(made)))
        store.loop.run_pending()
    assert runs[0].is_large and max(parts) == raw.PIECE_BYTES // 100_000 + 1 and 0 in parts


@pytest.mark.parametrize("codec", [0, 3])
def test_a_time_is_looked_for_in_a_large_batch_on_a_thread(store, codec, monkeypatch):
    threads = []
    first_since = raw.first_since
    monkeypatch.setattr(contents, "first_since", lambda *arguments: threads.append(
        threading.current_thread()) or first_since(*arguments))
    partition = open_partition(store)
    count = contents.LOOKED_MAX + 1
    stored(store, partition, kafka_batch([(None, b"x", []) for _ in range(count)], codec=codec), kafka_batch([(
        None, b"y", [])]))
    found = []
    partition.find_time(NOW + count - 2, found.append)
    partition.find_latest(found.append)
    partition.find_time(NOW + count, found.append)
    assert found == [None]
    store.loop.run_until(lambda: len(found) == 3)
    assert found[1:] == [(count - 2, NOW + count - 2), (count - 1, NOW + count - 1)]
    assert all(thread is not threading.current_thread() for thread in threads) and len(threads) == 2


def test_a_time_is_looked_for_from_where_the_log_begins(store):
    partition = open_partition(store)
    stored(store, partition, kafka_batch([(None, b"x", []) for _ in range(10)]))
    ticket = partition.trim(4)
    store.loop.run_until(lambda: ticket.done)
    found = []
    partition.find_time(NOW, found.append)
    partition.find_time(NOW + 7, found.append)
    assert found == [(4, NOW + 4), (7, NOW + 7)]
