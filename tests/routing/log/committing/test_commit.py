"""Group commit: acked means on disk; what a failed write, a failed sync and a full disk do."""
from __future__ import annotations

import errno
import os
from collections import Counter

import pytest

from routing.errors import Reason
from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.settings import Durability
from routing.ticket import Ticket
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all

FULL = {"code": errno.ENOSPC}


def events(count=3, start=0, topic="t"):
    return [Event(topic, b"%d" % index, 1) for index in range(start, start + count)]


def payloads(partition):
    return [int(event.payload) for event in scan_all(partition)]


@pytest.fixture
def disk():
    return FaultyFileSystem(RealFileSystem())


@pytest.fixture
def store(tmp_path, disk):
    store = make_store(tmp_path, fs=disk)
    store.seconds = 100.0
    store.clock_s = lambda: store.seconds
    yield store
    store.close()


def reopened(store, tmp_path, **settings):
    """What a new process finds: the files as they are, without a clean stop of the old store."""
    store._lock.release()
    return open_partition(make_store(tmp_path), **settings)


def test_a_ticket_completes_only_after_the_sync(store, disk):
    partition = open_partition(store)
    ticket = store.publish(partition, events())
    assert (partition.next_offset, partition.end_offset, ticket.done) == (3, 0, False)
    assert [event.offset for event in ticket.events] == [0, 1, 2]
    assert payloads(partition) == []
    syncs = disk.faults.calls["datasync"]
    store.kick()
    assert disk.faults.calls["datasync"] == syncs + 1
    assert not ticket.done, "the loop has not heard of it yet"
    store.loop.run_pending()
    assert ticket.done and not ticket.refusals
    assert (partition.end_offset, payloads(partition)) == (3, [0, 1, 2])


def test_durability_write_acks_without_a_sync(store, disk):
    partition = open_partition(store, durability=Durability.WRITE)
    store.store_events(partition, events())         # the first commit reserves offsets, synced
    syncs = disk.faults.calls["datasync"]
    assert store.store_events(partition, events(3, 3)).done
    assert disk.faults.calls["datasync"] == syncs


def test_everything_that_waits_is_one_group(store, disk):
    partition = open_partition(store)
    syncs, writes = disk.faults.calls["datasync"], disk.faults.calls["pwrite"]
    tickets = [store.publish(partition, events(1, index)) for index in range(50)]
    store.commit()
    assert all(ticket.done for ticket in tickets)
    assert (disk.faults.calls["datasync"], disk.faults.calls["pwrite"]) == (syncs + 1, writes + 1)
    assert len(partition.read(0, 1 << 20)) == 1


def test_readers_are_told_before_the_publisher(store):
    partition = open_partition(store)
    order = []
    partition.on_committed = lambda which, committed: order.append(("committed", which, [e.offset for e in committed]))
    ticket = Ticket(events())
    partition.append(list(ticket.events), ticket)
    ticket.on_done(lambda done: order.append(("done", partition.end_offset)))
    ticket.part_done()
    store.commit()
    assert order == [("committed", partition, [0, 1, 2]), ("done", 3)]


def test_what_comes_while_the_disk_is_busy_is_the_next_group(tmp_path):
    store = make_store(tmp_path, inline=False)
    partition = open_partition(store)
    groups = []
    partition.on_committed = lambda which, committed: groups.append(len(committed))
    first = store.publish(partition, events(2))
    store.kick()
    second = store.publish(partition, events(3, 2))
    store.kick()                                    # nothing: the writer is busy
    third = store.publish(partition, events(4, 5))
    store.commit()
    assert first.done and second.done and third.done
    assert groups == [2, 7]
    store.close()


def test_notifications_keep_their_order_when_a_callback_publishes(store):
    partition = open_partition(store)
    seen = []

    def on_committed(which, committed):
        seen.extend(int(event.payload) for event in committed)
        if len(seen) < 10:
            store.publish(partition, events(1, len(seen)))
            store.kick()

    partition.on_committed = on_committed
    store.publish(partition, events(1))
    store.commit()
    assert seen == list(range(10))


def test_partitions_share_a_commit_and_fail_alone(store, disk, tmp_path):
    good, bad = open_partition(store, name="good"), open_partition(store, name="bad")
    ticket = Ticket([*events(1, topic="g"), *events(2, topic="b")])
    good.append(ticket.events[:1], ticket)
    bad.append(ticket.events[1:], ticket)
    ticket.part_done()
    disk.faults.fail("datasync", at=2)
    store.commit()
    assert ticket.done and good.failed is None and good.end_offset == 1
    assert {index: refusal.reason for index, refusal in ticket.refusals.items()} == {
        1: Reason.STORAGE_FAILED, 2: Reason.STORAGE_FAILED}


@pytest.mark.parametrize("call", ["datasync", "pwrite"])
def test_the_first_failed_call_makes_the_partition_read_only_for_good(store, disk, tmp_path, call):
    partition = open_partition(store)
    store.store_events(partition, events(3))
    disk.faults.fail(call)
    refused = store.store_events(partition, events(2, 3))
    assert refused.done and [r.reason for r in refused.refusals.values()] == [Reason.STORAGE_FAILED] * 2
    assert partition.failed.reason is Reason.STORAGE_FAILED
    calls = dict(disk.faults.calls)
    later = store.publish(partition, events(1, 9))
    assert not later.done, "a refusal never comes within append"
    store.kick()
    assert later.refusals[0].reason is Reason.STORAGE_FAILED and later.events[0].offset == -1
    assert disk.faults.calls["datasync"] == calls["datasync"], "a sync is never tried again"
    assert payloads(partition) == [0, 1, 2] and (partition.end_offset, partition.next_offset) == (3, 3)
    assert payloads(reopened(store, tmp_path)) == [0, 1, 2], "what was refused must not come back"


def test_write_and_sync_are_one_call_where_the_system_has_it(store, disk, tmp_path):
    """But for a commit that has filled reserved space, which belongs to the sync as well."""
    if not hasattr(os, "RWF_DSYNC"):
        pytest.skip("this system has no such call")
    disk.faults.one_call = True
    partition = open_partition(store)
    store.store_events(partition, events(3))
    assert (disk.faults.calls["pwrite_synced"], disk.faults.calls["datasync"] > 0) == (0, True)
    before = Counter(disk.faults.calls)
    assert store.store_events(partition, events(2, 3)).done
    assert Counter(disk.faults.calls) - before == Counter(pwrite_synced=1)
    assert payloads(partition) == [0, 1, 2, 3, 4]
    assert payloads(reopened(store, tmp_path)) == [0, 1, 2, 3, 4]


def test_what_waits_for_a_sync_is_synced_with_the_whole_file(store, disk):
    """With durability "write" a checkpoint stands for all bytes before it: one call that makes only its own bytes last
    left up to 16 MiB before it to a loss of power, and recovery did not look at them.
    """
    disk.faults.one_call = True
    partition = open_partition(store, durability=Durability.WRITE)
    store.store_events(partition, events(1))
    before = Counter(disk.faults.calls)
    synced = 0
    for _ in range(400):
        store.store_events(partition, [Event("a", b"x" * 100_000, 1)])
        synced += partition.is_synced
    assert synced and (Counter(disk.faults.calls) - before)["datasync"] >= synced
    assert not disk.faults.calls["pwrite_synced"]


@pytest.mark.parametrize(("code", "short", "reason", "goes_on"), [
    (errno.EIO, None, Reason.STORAGE_FAILED, False), (errno.ENOSPC, None, Reason.STORAGE_FULL, True),
    (0, 50, Reason.STORAGE_FULL, True)])
def test_a_failed_call_that_writes_and_syncs(store, disk, tmp_path, code, short, reason, goes_on):
    """Nobody knows whether the write or the sync has failed: what is refused is cut off again in any case."""
    disk.faults.one_call = True
    partition = open_partition(store)
    store.store_events(partition, events(3))
    disk.faults.fail("pwrite_synced", code=code, short=short)
    refused = store.store_events(partition, events(2, 3))
    assert [refusal.reason for refusal in refused.refusals.values()] == [reason] * 2
    store.seconds += 2
    assert bool(store.store_events(partition, events(1, 9)).refusals) is not goes_on
    expected = [0, 1, 2, *([9] if goes_on else [])]
    assert payloads(partition) == expected
    assert payloads(reopened(store, tmp_path)) == expected, "what was refused must not come back"


def test_what_waited_behind_a_failed_group_is_refused_too(tmp_path):
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, inline=False, fs=disk)
    partition = open_partition(store)
    disk.faults.fail("datasync")
    first = store.publish(partition, events(1))
    store.kick()
    behind = store.publish(partition, events(1, 1))
    store.loop.run_until(lambda: behind.done)
    assert first.refusals and behind.refusals and store.pending_bytes == 0
    store.close()


@pytest.mark.parametrize("fault", [
    {"call": "pwrite", **FULL}, {"call": "pwrite", "code": errno.EDQUOT}, {"call": "pwrite", "short": 50},
    {"call": "pwrite", "short": 0}])
def test_a_full_disk_refuses_the_group_and_goes_on_when_there_is_room(store, disk, tmp_path, fault):
    partition = open_partition(store)
    store.store_events(partition, events(3))
    size = partition.size_bytes
    disk.faults.fail(**fault)
    refused = store.store_events(partition, events(2, 3))
    assert [refusal.reason for refusal in refused.refusals.values()] == [Reason.STORAGE_FULL] * 2
    assert partition.failed is None and partition.size_bytes == size
    assert (partition.next_offset, payloads(partition)) == (3, [0, 1, 2])
    too_soon = store.store_events(partition, events(1, 3))
    assert too_soon.refusals[0].reason is Reason.STORAGE_FULL, "at most one attempt in a second"
    store.seconds += 1.0
    assert not store.store_events(partition, events(2, 3)).refusals
    assert payloads(partition) == [0, 1, 2, 3, 4]
    assert payloads(reopened(store, tmp_path)) == [0, 1, 2, 3, 4]


def test_a_full_disk_at_allocation_is_found_out_by_the_write(store, disk):
    partition = open_partition(store)
    disk.faults.fail("allocate", count=-1, **FULL)
    assert not store.store_events(partition, events(3)).refusals
    assert payloads(partition) == [0, 1, 2]


def test_an_allocation_that_fails_otherwise_stops_the_partition(store, disk):
    partition = open_partition(store)
    disk.faults.fail("allocate")
    assert store.store_events(partition, events(3)).refusals[0].reason is Reason.STORAGE_FAILED


def test_a_partition_that_cannot_be_cut_back_is_read_only(store, disk):
    partition = open_partition(store)
    disk.faults.fail("pwrite", **FULL)
    disk.faults.fail("truncate")
    assert store.store_events(partition, events(3)).refusals[0].reason is Reason.STORAGE_FAILED
    assert partition.failed is not None


@pytest.mark.parametrize("call", ["create", "sync_directory"])
def test_a_full_disk_at_the_roll_keeps_the_old_segment(store, disk, tmp_path, call):
    partition = open_partition(store, segment_bytes=200)
    store.store_events(partition, events(5))
    disk.faults.fail(call, **FULL)
    assert store.store_events(partition, events(5, 5)).refusals
    store.seconds += 2
    assert not store.store_events(partition, events(5, 5)).refusals
    assert partition.segment_count == 2 and payloads(partition) == list(range(10))
    assert payloads(reopened(store, tmp_path, segment_bytes=200)) == list(range(10))


def test_a_failed_sync_at_the_roll_stops_the_partition(store, disk, tmp_path):
    partition = open_partition(store, segment_bytes=200)
    store.store_events(partition, events(5))
    disk.faults.fail("datasync")
    assert store.store_events(partition, events(5, 5)).refusals[0].reason is Reason.STORAGE_FAILED
    assert partition.failed and payloads(partition) == list(range(5))
    assert payloads(reopened(store, tmp_path)) == list(range(5))


def test_too_much_waiting_is_refused_without_harm(tmp_path):
    store = make_store(tmp_path, pending_bytes_max=1_000)
    partition = open_partition(store)
    first = store.publish(partition, [Event("t", bytes(2_000), 1)])
    over = store.publish(partition, events(1))
    store.commit()
    assert not first.refusals and over.refusals[0].reason is Reason.QUOTA_EXCEEDED
    assert not store.store_events(partition, events(1)).refusals
    assert partition.end_offset == 2 and store.pending_bytes == 0
    store.close()


def test_a_large_group_is_written_in_several_commits_and_batches(store):
    partition = open_partition(store)
    ticket = store.store_events(partition, [Event("t", bytes(100_000), 1) for _ in range(200)])
    assert ticket.done and partition.end_offset == 200
    batches = partition.read(0, 1 << 30)
    assert len(batches) > 10 and sum(map(len, batches)) == partition.size_bytes
    assert [event.offset for event in scan_all(partition)] == list(range(200))


def test_one_append_to_a_compacted_stream_is_one_batch(store):
    """The state table relies on it: all puts of a turn become durable together or not at all."""
    partition = open_partition(store, compact=True)
    store.store_events(partition, [Event(f"k{index}", bytes(100_000), 1) for index in range(120)])
    assert len(partition.read(0, 1 << 30)) == 1


def test_an_event_that_cannot_be_encoded_is_refused_and_the_partition_goes_on(store, caplog):
    """Its fields are not what their types say: an adapter's fault, which must not hang or stop the log."""
    partition = open_partition(store)
    poison = store.publish(partition, [Event("t", b"", 1, headers=(("h", ["list"]),))])
    beside = store.publish(partition, events(1))
    store.commit()
    assert poison.refusals[0].reason is Reason.PAYLOAD_INVALID and "cannot encode" in caplog.text
    assert beside.refusals[0].reason is Reason.PAYLOAD_INVALID
    assert not store.store_events(partition, events(2)).refusals
    assert payloads(partition) == [0, 1] and store.pending_bytes == 0


def test_a_batch_that_no_reader_would_take_is_not_written(store, monkeypatch):
    monkeypatch.setattr("routing.log.records.batch.BATCH_BYTES_MAX", 1_000)
    partition = open_partition(store)
    ticket = store.store_events(partition, [Event("t", bytes(2_000), 1)])
    assert ticket.refusals[0].reason is Reason.PAYLOAD_INVALID and partition.size_bytes == 0


def test_an_unexpected_error_of_the_writer_fails_the_commit_and_hangs_nothing(store, disk, monkeypatch):
    partition = open_partition(store)
    monkeypatch.setattr("routing.log.committing.commit.allocate", lambda segment, size: 1 / 0)
    assert store.store_events(partition, events(1)).refusals[0].reason is Reason.STORAGE_FAILED


def test_close_writes_what_waits(tmp_path):
    for inline in (True, False):
        root = tmp_path / str(inline)
        store = make_store(root, inline=inline)
        partition = open_partition(store)
        first = store.publish(partition, events(2))
        store.kick()
        second = store.publish(partition, events(2, 2))
        store.close()
        assert first.done and second.done and not second.refusals
        store = make_store(root)
        assert payloads(open_partition(store)) == [0, 1, 2, 3]
        store.close()


def test_timestamps_are_set_once_where_there_is_none(store):
    partition = open_partition(store)
    given, missing = Event("t", b"1", timestamp_ms=5), Event("t", b"2")
    store.store_events(partition, [given, missing])
    assert (given.timestamp_ms, missing.timestamp_ms) == (5, store.now_ms)
    assert [event.timestamp_ms for event in scan_all(partition)] == [5, store.now_ms]
