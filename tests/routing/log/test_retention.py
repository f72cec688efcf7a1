"""Retention: whole segments by age and bytes, oldest first; rolling by age; files are gone after it."""
from __future__ import annotations

import pytest

from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.log.partition import Partition
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all


def fill(store, partition, groups, step_ms=0):
    for _ in range(groups):
        store.store_events(partition, [Event("t", bytes(200), 1) for _ in range(3)])
        store.now_ms += step_ms


@pytest.fixture
def store(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    yield store
    store.close()


def upkeep(store):
    store.maintain(store.now_ms)
    store.loop.run_pending()


def test_bytes_are_kept_at_least_and_not_a_segment_more(store, tmp_path):
    partition = open_partition(store, segment_bytes=1_500, retention_bytes=5_000)
    fill(store, partition, 40)
    upkeep(store)
    assert partition.size_bytes >= 5_000
    assert partition.size_bytes - partition.segments[0].size < 5_000
    assert scan_all(partition)[0].offset == partition.start_offset > 0
    names = {path.stem for path in tmp_path.glob("streams/events/0/*.*")}
    assert names == {segment.name for segment in partition.segments}


def test_segments_whose_last_event_is_too_old_are_deleted(store):
    partition = open_partition(store, segment_bytes=1_500, retention_ms=10_000)
    fill(store, partition, 40, step_ms=1_000)
    upkeep(store)
    oldest = store.now_ms - 10_000
    assert partition.segments[0].max_timestamp >= oldest
    assert 0 < partition.start_offset < partition.end_offset


def test_an_idle_partition_empties_too(store):
    partition = open_partition(store, retention_ms=10_000)
    fill(store, partition, 5)
    store.now_ms += 10_001
    upkeep(store)                       # seals the active segment
    upkeep(store)
    assert (partition.start_offset, partition.end_offset) == (15, 15)
    assert scan_all(partition) == [] and partition.size_bytes == 0
    fill(store, partition, 1)
    assert [event.offset for event in scan_all(partition)] == [15, 16, 17]


def test_a_segment_is_sealed_by_age(store):
    partition = open_partition(store, segment_ms=60_000)
    fill(store, partition, 2)
    upkeep(store)
    assert partition.segment_count == 1
    store.now_ms += 60_000
    upkeep(store)
    assert partition.segment_count == 2
    upkeep(store)
    assert partition.segment_count == 2, "an empty segment does not age"


def test_without_limits_everything_stays(store):
    partition = open_partition(store, segment_bytes=1_500)
    fill(store, partition, 40, step_ms=10**9)
    upkeep(store)
    assert partition.start_offset == 0


def test_the_start_is_the_same_after_a_restart(store, tmp_path):
    partition = open_partition(store, segment_bytes=1_500, retention_bytes=5_000)
    fill(store, partition, 40)
    upkeep(store)
    bounds = partition.start_offset, partition.end_offset
    store.close()
    store = make_store(tmp_path)
    partition = open_partition(store, segment_bytes=1_500, retention_bytes=5_000)
    assert (partition.start_offset, partition.end_offset) == bounds
    store.close()


def test_a_file_that_cannot_be_deleted_is_no_reason_to_stop(tmp_path, caplog):
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk)
    partition = open_partition(store, segment_bytes=1_500, retention_bytes=2_000)
    fill(store, partition, 10)
    disk.faults.fail("remove")
    upkeep(store)
    assert "cannot be deleted" in caplog.text and partition.start_offset > 0
    fill(store, partition, 1)
    store.close()


def test_a_reload_changes_retention(store):
    partition = open_partition(store, segment_bytes=1_500)
    fill(store, partition, 40)
    upkeep(store)
    assert partition.start_offset == 0
    import msgspec
    partition.settings = msgspec.structs.replace(partition.settings, retention_bytes=3_000)
    upkeep(store)
    assert partition.start_offset > 0


def test_a_place_before_the_start_means_the_start(store):
    partition = open_partition(store, segment_bytes=1_500, retention_bytes=3_000)
    fill(store, partition, 40)
    upkeep(store)
    scan = partition.scan(0, lambda topic: True, max_events=1, max_scanned=10)
    assert scan.events[0].offset == partition.start_offset
    assert partition.event(0) is None
    assert partition.count(0, lambda topic: True) == partition.end_offset - partition.start_offset


def test_of_many_partitions_some_have_their_upkeep_in_each_turn(store, monkeypatch):
    """Forty thousand took the loop for 250 ms, once a second. Here each takes a millisecond."""
    open_partition(store, partitions=40)
    now_s, seen = [0.0], []
    store.clock_s = lambda: now_s[0]

    def maintain(partition, steady_ms):
        seen.append(partition)
        now_s[0] += 0.001

    monkeypatch.setattr(Partition, "maintain", maintain)
    steps = store.maintaining(store.now_ms)
    next(steps)
    assert len(seen) == 2
    for _ in steps:
        pass
    assert seen == store.partitions and len(seen) == 40
