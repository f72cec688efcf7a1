"""Scans, raw reads, counts and offsets by time: from the tail cache, from the files, and across both."""
from __future__ import annotations

import itertools
import random

import pytest

from routing.event import Event
from routing.log.reader import SKIP_COST
from routing.log.records.batch import check_batch
from routing.log.tail_cache import TailBudget, TailCache
from tests.support.log import everything, make_store, open_partition, scan_all

COUNT = 3_000


def nothing(topic):
    return False


def is_three(topic):
    return topic == "t/3"


@pytest.fixture(params=["files", "cache", "both"])
def filled(request, tmp_path, monkeypatch):
    """A partition of several segments and blocks, read from memory, from files, or from both."""
    monkeypatch.setattr("routing.log.segments.summary.BLOCK_BYTES", 5_000)
    store = make_store(tmp_path, tail_cache_bytes={"files": 0, "cache": 1 << 30, "both": 200_000}[request.param])
    partition = open_partition(store, segment_bytes=60_000)
    rng = random.Random(7)
    sent = [Event(f"t/{rng.randrange(5)}", rng.randbytes(rng.randrange(120)), rng.randrange(3),
                  rng.choice(("", "c-1")), timestamp_ms=1_000 + index * 10) for index in range(COUNT)]
    index = 0
    while index < COUNT:
        group = sent[index:index + rng.randint(1, 200)]
        store.store_events(partition, group)
        index += len(group)
    assert partition.segment_count > 4
    yield partition, sent
    store.close()


def test_a_scan_gives_everything_in_order(filled):
    partition, sent = filled
    assert [(e.offset, e.topic, e.payload, e.qos, e.publisher, e.timestamp_ms) for e in scan_all(partition)] == [
        (o, e.topic, e.payload, e.qos, e.publisher, e.timestamp_ms) for o, e in enumerate(sent)]
    assert all(event.partition is partition for event in scan_all(partition))


@pytest.mark.parametrize("max_events", [1, 7, 100, 5_000])
@pytest.mark.parametrize("max_scanned", [1, 50, 5_000])
def test_a_scan_in_any_steps_misses_and_doubles_nothing(filled, max_events, max_scanned):
    partition, sent = filled
    offset, found = COUNT - 700, []
    while offset < partition.end_offset:
        scan = partition.scan(offset, is_three, max_events=max_events, max_scanned=max_scanned)
        assert len(scan.events) <= max_events
        assert scan.next_offset > offset
        found += [event.offset for event in scan.events]
        offset = scan.next_offset
    assert offset == partition.end_offset
    assert found == [index for index, event in enumerate(sent) if event.topic == "t/3" and index >= COUNT - 700]


def test_a_scan_can_begin_anywhere(filled):
    partition, _sent = filled
    rng = random.Random(1)
    for offset in [0, 1, COUNT - 1, *(rng.randrange(COUNT) for _ in range(200))]:
        scan = partition.scan(offset, everything, max_events=3, max_scanned=100_000)
        assert [event.offset for event in scan.events] == list(range(offset, min(offset + 3, COUNT)))
        assert scan.next_offset == min(offset + 3, COUNT)


def test_many_readers_side_by_side_do_not_disturb_each_other(filled):
    partition, _ = filled
    readers = {start: start for start in range(0, COUNT, 97)}
    found = {start: [] for start in readers}
    for _ in range(60):
        for start, offset in readers.items():
            scan = partition.scan(offset, is_three, max_events=11, max_scanned=200)
            found[start] += [event.offset for event in scan.events]
            readers[start] = scan.next_offset
    whole = [event.offset for event in scan_all(partition, 0, is_three)]
    for start, offsets in found.items():
        assert offsets == [offset for offset in whole if start <= offset < readers[start]]


def test_the_end_and_beyond_give_nothing(filled):
    partition, _ = filled
    for offset in (COUNT, COUNT + 1, COUNT + 1_000):
        scan = partition.scan(offset, everything, max_events=10, max_scanned=10)
        assert (scan.events, scan.next_offset) == ([], max(offset, COUNT))


def test_wanted_is_asked_once_per_topic(filled):
    partition, _ = filled
    asked = []
    partition.scan(0, lambda topic: asked.append(topic) or True, max_events=1 << 30, max_scanned=1 << 30)
    assert sorted(asked) == [f"t/{number}" for number in range(5)]


def test_count_is_exact_from_every_offset(filled):
    partition, sent = filled
    for offset in [*range(0, COUNT, 61), COUNT - 1, COUNT, COUNT + 5]:
        assert partition.count(offset, is_three) == sum(event.topic == "t/3" for event in sent[offset:])
        assert partition.count(offset, everything) == len(sent[offset:])


def test_offset_for_time_is_the_first_at_or_after_it(filled):
    partition, _ = filled
    for index in [*range(0, COUNT, 173), COUNT - 1]:
        assert partition.offset_for_time(1_000 + index * 10) == index
        assert partition.offset_for_time(1_000 + index * 10 - 9) == index
    assert partition.offset_for_time(0) == 0
    assert partition.offset_for_time(1_000 + COUNT * 10) == partition.end_offset


def test_event_by_offset(filled):
    partition, sent = filled
    for offset in (0, 1, 999, COUNT - 1):
        assert partition.event(offset).payload == sent[offset].payload
    assert partition.event(-1) is None and partition.event(COUNT) is None


def test_read_gives_whole_batches_from_the_one_with_the_offset(filled):
    partition, _ = filled
    for offset in range(0, COUNT, 37):
        batches = [check_batch(batch) for batch in partition.read(offset, 10_000)]
        assert batches[0].base_offset <= offset < batches[0].next_offset
        assert len(batches) == 1 or sum(batch.size for batch in batches) <= 10_000
        assert all(left.next_offset == right.base_offset for left, right in itertools.pairwise(batches))
    assert partition.read(COUNT, 10_000) == []
    assert len(partition.read(5, 1)) == 1, "at least one batch"


# ------------------------------------------------------------------------------------------------------- skipping

def block_topics(store, partition, topics):
    for topic in topics:
        store.store_events(partition, [Event(topic, bytes(100), 1) for _ in range(50)])


def test_blocks_without_a_wanted_topic_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("routing.log.segments.summary.BLOCK_RECORDS", 50)
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store)
    block_topics(store, partition, ["a"] * 10 + ["b"] + ["a"] * 10)
    scan = partition.scan(0, lambda topic: topic == "b", max_events=1 << 30, max_scanned=1 << 30)
    assert [event.offset for event in scan.events] == list(range(500, 550))
    assert scan.scanned == 50 + 20 * SKIP_COST + 2 and scan.next_offset == partition.end_offset
    store.close()


def test_segments_without_a_wanted_topic_are_not_opened(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=1_000)
    block_topics(store, partition, ["a", "a", "b", "a", "a"])
    assert partition.segment_count == 5
    scan = partition.scan(0, lambda topic: topic == "b", max_events=1 << 30, max_scanned=1 << 30)
    assert [event.offset for event in scan.events] == list(range(100, 150))
    assert [segment.is_open for segment in partition.segments] == [False, False, True, False, True]
    store.close()


def test_a_skip_counts_as_work_so_that_a_call_is_bounded(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=1_000)
    block_topics(store, partition, ["a"] * 20)
    scan = partition.scan(0, nothing, max_events=10, max_scanned=SKIP_COST * 5)
    assert scan.next_offset == 250
    store.close()


def test_a_block_with_too_many_topics_is_read_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("routing.log.segments.summary.BLOCK_TOPICS_MAX", 10)
    monkeypatch.setattr("routing.log.segments.summary.SEGMENT_TOPICS_MAX", 20)
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store)
    store.store_events(partition, [Event(f"t/{index}", b"", 1) for index in range(100)])
    assert partition.count(0, lambda topic: topic == "t/77") == 1
    assert [event.offset for event in scan_all(partition, 0, lambda topic: topic == "t/77")] == [77]
    store.close()


def test_a_lost_summary_costs_speed_and_no_event(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=1_000)
    block_topics(store, partition, ["a", "b", "a"])
    for path in tmp_path.rglob("*.summary"):
        path.write_bytes(b"rubbish")
    assert partition.count(10, lambda topic: topic == "b") == 50
    assert len(scan_all(partition, 0, lambda topic: topic == "b")) == 50
    store.close()


# ------------------------------------------------------------------------------------------------------- bounds

def test_the_tail_cache_stays_in_its_bound_and_is_one_run_up_to_the_end(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=50_000)
    partition = open_partition(store)
    for _ in range(100):
        store.store_events(partition, [Event("t", bytes(100), 1) for _ in range(20)])
        cache = partition._cache
        assert cache.bytes <= 50_000
        run = [event.offset for group in cache.groups_from(cache.first_offset) for event in group]
        assert run == list(range(cache.first_offset, partition.end_offset))
    assert cache.first_offset > 0
    store.close()


def test_a_reader_at_the_tail_gets_the_same_objects_without_the_disk(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store)
    ticket = store.store_events(partition, [Event("t", b"1", 1), Event("t", b"2", 1)])
    assert partition.scan(0, everything, max_events=9, max_scanned=9).events[1] is ticket.events[1]
    store.close()


def test_a_group_larger_than_the_cache_is_not_kept():
    cache = TailCache(TailBudget(1_000), 0)
    cache.add([Event("t", b"", offset=0)], 5_000, 1)
    assert cache.bytes == 0 and cache.first_offset == 1 and list(cache.groups_from(1)) == []


def test_open_files_are_bounded(tmp_path, monkeypatch):
    store = make_store(tmp_path, tail_cache_bytes=0, open_segments_max=3)
    partition = open_partition(store, segment_bytes=1_000)
    block_topics(store, partition, ["a"] * 12)
    scan_all(partition)
    assert sum(segment.is_open for segment in partition.segments[:-1]) <= 3
    store.close()


def test_readers_go_on_while_events_are_appended_and_segments_deleted(tmp_path):
    """A reader that is slower than retention goes on at the first offset that is left; nobody sees a gap elsewhere."""
    store = make_store(tmp_path, inline=False, tail_cache_bytes=3_000)
    partition = open_partition(store, segment_bytes=3_000, retention_bytes=9_000)
    rng = random.Random(3)
    readers = {number: (0, []) for number in range(5)}
    sent = 0
    while sent < 3_000:
        count = rng.randint(1, 30)
        store.publish(partition, [Event(f"t/{index % 3}", b"%d" % index, 1) for index in range(sent, sent + count)])
        sent += count
        store.kick()
        for number, (offset, found) in readers.items():
            scan = partition.scan(offset, everything, max_events=3 + 5 * number, max_scanned=100)
            found += [(event.offset, int(event.payload)) for event in scan.events]
            assert not scan.events or scan.events[0].offset == max(offset, partition.start_offset)
            readers[number] = (scan.next_offset, found)
        store.maintain(store.now_ms)
        if rng.random() < 0.5:
            store.commit()
    store.commit()
    assert partition.start_offset > 0
    for _, found in readers.values():
        assert all(offset == payload for offset, payload in found)
        assert [offset for offset, _ in found] == sorted({offset for offset, _ in found})
    store.close()
