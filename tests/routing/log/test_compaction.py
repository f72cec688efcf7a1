"""Key compaction: the last record per key stays, with its offset; tombstones go after a day; crashes change nothing."""
from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from routing.event import Event
from routing.log.compaction import keep_tombstones_ms
from routing.log.fs import RealFileSystem
from routing.log.inspect import verify
from routing.log.records.batch import check_batch
from routing.log.upkeep import CLEANING_RETRY_MS
from tests.support.disk import FaultyFileSystem, PowerLoss, SimulatedDisk
from tests.support.log import make_store, open_partition, scan_all

SETTINGS = {"compact": True, "segment_bytes": 3_000}
TOMBSTONE_KEEP_MS = keep_tombstones_ms(24 * 3600 * 1000)


def compact(store):
    """Run upkeep until the compaction that it starts is in place."""
    store.maintain(store.now_ms)
    store.loop.run_pending()
    store.loop.run_pending()


class Table:
    """What a compacted log must mean: per key the last event."""

    def __init__(self, rng):
        self.rng = rng
        self.sent = []

    def write(self, store, partition, count, keys=20):
        for _ in range(count):
            batch = [Event(f"k/{self.rng.randrange(keys)}", self.rng.choice((b"", b"%d" % len(self.sent))), 1,
                           key=self.rng.choice((None, None, b"other")))
                     for _ in range(self.rng.randint(1, 6))]
            store.store_events(partition, batch)
            self.sent += [(event.offset, event.topic, event.payload, event.key) for event in batch]

    def last_per_key(self, before=1 << 60):
        last = {}
        for offset, topic, payload, key in self.sent:
            if offset < before:
                last[key if key is not None else topic.encode()] = (offset, topic, payload, key)
        return last


def read(partition):
    return [(event.offset, event.topic, event.payload, event.key) for event in scan_all(partition)]


def state(rows):
    table = {}
    for _, topic, payload, key in rows:
        table[key if key is not None else topic.encode()] = payload
    return table


@pytest.fixture
def store(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    yield store
    store.close()


def test_the_last_record_of_each_key_stays_and_nothing_else(store):
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(1))
    table.write(store, partition, 150)
    active_base = partition.segments[-1].base_offset
    size, segments = partition.size_bytes, partition.segment_count
    compact(store)
    found = read(partition)
    sealed = [row for row in found if row[0] < active_base]
    assert sorted(sealed) == sorted(table.last_per_key(active_base).values())
    assert [row for row in found if row[0] >= active_base] == [row for row in table.sent if row[0] >= active_base]
    assert partition.size_bytes < size / 2 and partition.segment_count < segments
    assert partition.start_offset == 0
    for key, row in table.last_per_key(active_base).items():
        assert partition.event(row[0]).payload == row[2], key


def test_a_restart_sees_the_same(store, tmp_path):
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(2))
    table.write(store, partition, 150)
    compact(store)
    before = read(partition)
    store.close()
    again = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(again, **SETTINGS)
    assert read(partition) == before and not partition.damage
    assert {finding.level for finding in verify(tmp_path)} == {"ok"}
    again.close()


def test_the_chain_of_batches_has_no_hole_and_aiokafka_reads_it(store):
    partition = open_partition(store, **SETTINGS)
    Table(random.Random(3)).write(store, partition, 150)
    compact(store)
    batches = partition.read(0, 1 << 30)
    headers = [check_batch(batch) for batch in batches]
    assert headers[0].base_offset == 0 and headers[-1].next_offset == partition.end_offset
    assert all(left.next_offset == right.base_offset for left, right in pairwise(headers))
    theirs = [record for batch in batches for record in DefaultRecordBatch(bytearray(batch))]
    assert [(record.offset, record.value or b"") for record in theirs] == [(row[0], row[2]) for row in read(partition)]


def test_counts_and_times_stay_exact(store):
    partition = open_partition(store, **SETTINGS)
    Table(random.Random(4)).write(store, partition, 150)
    compact(store)
    rows = read(partition)
    for offset in range(0, partition.end_offset, 13):
        assert partition.count(offset, lambda topic: topic == "k/3") == sum(
            row[1] == "k/3" and row[0] >= offset for row in rows)
    assert partition.offset_for_time(store.now_ms) == rows[0][0]
    assert partition.offset_for_time(store.now_ms + 1) == partition.end_offset


def test_readers_with_a_place_in_the_old_files_go_on(store):
    partition = open_partition(store, **SETTINGS)
    Table(random.Random(5)).write(store, partition, 150)
    places = []
    for start in range(0, 200, 17):
        scan = partition.scan(start, lambda topic: True, max_events=4, max_scanned=100)
        places.append(scan.next_offset)
    compact(store)
    rows = read(partition)
    for place in places:
        assert [event.offset for event in scan_all(partition, place)] == [row[0] for row in rows if row[0] >= place]


def test_a_deletion_is_kept_for_a_day_and_then_forgotten(store):
    partition = open_partition(store, **SETTINGS)
    store.store_events(partition, [Event("k", b"value", 1), Event("gone", b"value", 1), Event("gone", b"", 1)])
    fillers = [Event("filler", bytes(500), 1) for _ in range(20)]
    for event in fillers:
        store.store_events(partition, [event])
    compact(store)
    rows = [(event.topic, event.payload) for event in scan_all(partition)]
    assert ("gone", b"") in rows and ("gone", b"value") not in rows and ("k", b"value") in rows
    store.now_ms += TOMBSTONE_KEEP_MS + 1
    for _ in range(40):
        store.store_events(partition, [Event("filler", bytes(500), 1)])
    compact(store)
    assert {event.topic for event in scan_all(partition)} == {"k", "filler"}


def test_how_long_a_deletion_stays_is_the_streams_to_say(store):
    partition = open_partition(store, **SETTINGS, tombstone_ms=60_000)
    store.store_events(partition, [Event("gone", b"value", 1), Event("gone", b"", 1)])
    for keep in (True, False):
        for _ in range(40):
            store.store_events(partition, [Event("filler", bytes(500), 1)])
        compact(store)
        assert any(event.topic == "gone" for event in scan_all(partition)) is keep
        store.now_ms += keep_tombstones_ms(60_000) + 1


def test_what_is_younger_than_the_stream_says_is_not_compacted(store):
    partition = open_partition(store, **SETTINGS, compact_after_ms=3_600_000)
    for number in range(40):
        store.store_events(partition, [Event("k", b"%03d" % number + bytes(500), 1)])
    for minutes, compacted in ((1, False), (40, False), (30, True)):
        store.now_ms += minutes * 60_000
        compact(store)
        assert (len(scan_all(partition)) < 40) is compacted, minutes
    assert scan_all(partition)[-1].payload.startswith(b"039")


def test_an_ordinary_stream_is_not_compacted_and_an_empty_payload_is_no_tombstone(store):
    partition = open_partition(store, segment_bytes=500)
    for _ in range(30):
        store.store_events(partition, [Event("k", b"", 1)])
    compact(store)
    assert len(scan_all(partition)) == 30
    values = [record.value for batch in partition.read(0, 1 << 20) for record in DefaultRecordBatch(bytearray(batch))]
    assert values == [b""] * 30


def test_it_runs_again_only_when_half_is_new(store):
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(6))
    table.write(store, partition, 300, keys=400)
    compact(store)
    first = [segment.base_offset for segment in partition.segments]
    compact(store)
    assert [segment.base_offset for segment in partition.segments] == first
    table.write(store, partition, 300, keys=400)
    compact(store)
    assert len(read(partition)) < 600


def test_a_run_is_bounded_by_its_keys(store, monkeypatch):
    monkeypatch.setattr("routing.log.compaction.KEYS_MAX", 10)
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(7))
    table.write(store, partition, 200)
    for _ in range(10):
        compact(store)
    assert state(read(partition)) == state(table.sent)


def test_everything_superseded_leaves_an_empty_batch(store):
    partition = open_partition(store, **SETTINGS)
    for _ in range(40):
        store.store_events(partition, [Event("only", bytes(200), 1)])
    compact(store)
    sealed_rows = [row for row in read(partition) if row[0] < partition.segments[-1].base_offset]
    assert len(sealed_rows) == 1
    assert any(check_batch(batch).record_count == 0 for batch in partition.read(0, 1 << 20))
    assert {finding.level for finding in verify(Path(store._root))} == {"ok"}


def test_nothing_is_cleaned_around_damage(store, caplog):
    partition = open_partition(store, **SETTINGS)
    Table(random.Random(8)).write(store, partition, 150)
    path = partition.segments[1].path()
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(bytes(data))
    before = {each.name: each.read_bytes() for each in path.parent.glob("*.log")}
    compact(store)
    assert "compaction failed" in caplog.text and str(path) in caplog.text
    assert {each.name: each.read_bytes() for each in path.parent.glob("*.log*")} == before


def test_publishing_and_reading_go_on_meanwhile(tmp_path):
    """With real threads: appends, scans, rolls and compactions side by side; the table never loses a key."""
    store = make_store(tmp_path, inline=False, tail_cache_bytes=2_000)
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(11))
    for _ in range(60):
        table.write(store, partition, 5)
        store.maintain(store.now_ms)
        store.loop.run_pending()
        assert state(read(partition)) == state(table.sent)
    assert partition.size_bytes < 20_000 and partition.start_offset == 0
    store.close()
    store = make_store(tmp_path)
    assert state(read(open_partition(store, **SETTINGS))) == state(table.sent)
    store.close()


@pytest.mark.parametrize("call", ["create", "pwrite", "datasync", "rename", "sync_directory", "remove"])
def test_a_failure_while_compacting_loses_nothing(tmp_path, call):
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk, tail_cache_bytes=0)
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(9))
    table.write(store, partition, 150)
    disk.faults.fail(call, count=-1)
    compact(store)
    disk.faults.clear()
    assert state(read(partition)) == state(table.sent)
    table.write(store, partition, 5)
    store._lock.release()
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, **SETTINGS)
    assert state(read(partition)) == state(table.sent) and not partition.damage
    store.close()


def test_power_loss_at_any_step_of_a_compaction_loses_nothing():
    """Every disk operation of one compaction, each with five different outcomes of the loss."""
    step = 0
    finished = False
    while not finished:
        step += 1
        for outcome in range(5):
            disk, table = SimulatedDisk(), Table(random.Random(10))
            store = make_store(Path("/data"), fs=disk, tail_cache_bytes=0)
            partition = open_partition(store, **SETTINGS)
            table.write(store, partition, 80)
            active_base = partition.segments[-1].base_offset
            disk.loss_at = step
            try:
                compact(store)
                finished = True
            except PowerLoss:
                pass
            disk.power_loss(random.Random(step * 5 + outcome))
            store = make_store(Path("/data"), fs=disk, tail_cache_bytes=0)
            partition = open_partition(store, **SETTINGS)
            rows = read(partition)
            assert not partition.damage
            assert set(table.last_per_key(active_base).values()) <= set(rows) <= set(table.sent)
            assert rows == sorted(rows) and state(rows) == state(table.sent)
            store.close()
            assert not [path for path in disk.files if path.suffix in (".cleaned", ".swap")]
    assert step > 15


@pytest.mark.parametrize("call", ["remove", "sync_directory"])
def test_the_end_of_a_compaction_is_tried_again_without_a_restart(tmp_path, call):
    """Else neither retention nor compaction would ever run again, until the disk is full."""
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk, tail_cache_bytes=0)
    partition = open_partition(store, **SETTINGS)
    table = Table(random.Random(9))
    table.write(store, partition, 150)
    before = disk.faults.calls["sync_directory"]
    disk.faults.fail(call, at=1 if call == "remove" else 1 + len(list(tmp_path.rglob("*.cleaned"))) + 1, count=1)
    compact(store)
    disk.faults.clear()
    assert disk.faults.calls["sync_directory"] > before
    for _ in range(3):
        store.now_ms += CLEANING_RETRY_MS
        compact(store)
    assert not list(tmp_path.rglob("*.swap")) and not partition._upkeep._cleaning
    assert state(read(partition)) == state(table.sent)
    store.close()
