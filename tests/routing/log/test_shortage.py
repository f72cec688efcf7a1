"""A machine that is short of descriptors or memory: the log waits and goes on; nothing is lost."""
from __future__ import annotations

import errno
import os
import resource

import pytest

from routing.errors import Reason
from routing.event import Event
from routing.log.committing.shortage import SHORTAGE_MAX_S
from routing.log.fs import SHORTAGE, RealFileSystem
from routing.settings import Durability, StreamSettings
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all

CODES = sorted(SHORTAGE)


def events(count=3, start=0):
    return [Event("t", b"%d" % index, 1) for index in range(start, start + count)]


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


def kick(store):
    store.kick()
    store.loop.run_pending()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", ["create", "sync_directory", "allocate", "pwrite", "truncate"])
def test_a_shortage_at_a_roll_delays_the_commit(store, disk, call, code, tmp_path):
    partition = open_partition(store, segment_bytes=200)
    store.store_events(partition, events(5))
    disk.faults.fail(call, count=3, code=code, suffix=".log" if call != "sync_directory" else "")
    ticket = store.publish(partition, events(5, 5))
    behind = store.publish(partition, events(1, 10))
    kick(store)
    assert not ticket.done and partition.failed is None
    kick(store)
    assert not ticket.done, "not again at once"
    for _ in range(6):
        store.seconds += 0.5
        kick(store)
    assert ticket.done and behind.done and not ticket.refusals and not behind.refusals
    assert partition.segment_count == 2 and payloads(partition) == list(range(11))
    store._lock.release()
    again = make_store(tmp_path)
    assert payloads(open_partition(again, segment_bytes=200)) == list(range(11))
    again.close()


def test_publishers_are_told_when_it_lasts_and_it_goes_on_without_a_restart(store, disk):
    partition = open_partition(store, segment_bytes=200)
    store.store_events(partition, events(5))
    disk.faults.fail("create", count=-1, code=errno.EMFILE, suffix=".log")
    ticket = store.publish(partition, events(5, 5))
    for _ in range(20):
        kick(store)
        store.seconds += SHORTAGE_MAX_S / 10
    assert ticket.refusals[0].reason is Reason.STORAGE_FULL and "try again" in ticket.refusals[0].text
    assert partition.failed is None and store.pending_bytes == 0
    disk.faults.clear()
    store.seconds += 1
    assert not store.store_events(partition, events(5, 5)).refusals
    assert payloads(partition) == list(range(10))


def test_a_sync_is_never_tried_again_whatever_it_says(store, disk):
    partition = open_partition(store)
    store.store_events(partition, events(1))
    disk.faults.fail("datasync", code=errno.ENOMEM)
    assert store.store_events(partition, events(1)).refusals[0].reason is Reason.STORAGE_FAILED


def test_a_shortage_while_offsets_are_reserved_delays_too(store, disk):
    partition = open_partition(store, durability=Durability.WRITE)
    disk.faults.fail("create", code=errno.ENFILE)
    ticket = store.publish(partition, events(2))
    kick(store)
    store.seconds += 1
    kick(store)
    assert ticket.done and not ticket.refusals


def test_another_partition_goes_on_meanwhile(store, disk):
    short, other = open_partition(store, name="short", segment_bytes=200), open_partition(store, name="other")
    store.store_events(short, events(5))
    disk.faults.fail("create", count=-1, code=errno.EMFILE, stream="short")
    waiting = store.publish(short, events(5, 5))
    done = store.publish(other, events(1))
    kick(store)
    assert done.done and not done.refusals and not waiting.done


def test_a_stop_does_not_wait_for_descriptors(tmp_path, disk):
    store = make_store(tmp_path, fs=disk)
    partition = open_partition(store, segment_bytes=200)
    store.store_events(partition, events(5))
    disk.faults.fail("create", count=-1, code=errno.EMFILE, suffix=".log")
    ticket = store.publish(partition, events(5, 5))
    store.close()
    assert ticket.done and ticket.refusals


def test_an_index_that_cannot_be_opened_now_is_not_taken_for_a_broken_one(tmp_path, disk):
    store = make_store(tmp_path, fs=disk, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=300)
    for index in range(6):
        store.store_events(partition, events(3, 3 * index))
    partition.segments[0].drop_summary()
    disk.faults.fail("open", count=1, code=errno.EMFILE, suffix=".summary")
    with pytest.raises(Exception, match="Too many open files"):
        scan_all(partition)
    assert payloads(partition) == list(range(18)) and partition.segments[0].summary().blocks
    store.close()


def test_the_log_keeps_descriptors_back_for_itself(tmp_path):
    """Somebody else uses up all that the process may have: segments still roll."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fs = RealFileSystem(spares=16)
    store = make_store(tmp_path, fs=fs)
    partition = open_partition(store, segment_bytes=300)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
        with pytest.raises(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for index in range(6):
            assert not store.store_events(partition, events(3, 3 * index)).refusals
        assert partition.segment_count >= 3
        while taken:
            os.close(taken.pop())
        fs.keep_spares()
        assert len(fs._spares) == 16
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    store.close()


def test_many_partitions_hold_one_file_each_and_few_that_are_read(tmp_path):
    store = make_store(tmp_path, open_segments_max=20, tail_cache_bytes=0)
    partitions = store.open_stream(StreamSettings("many", partitions=150, segment_bytes=200))
    before = len(os.listdir("/proc/self/fd"))
    for partition in partitions:
        for index in range(3):
            store.store_events(partition, events(2, 2 * index))
    for partition in partitions:
        assert payloads(partition) == list(range(6))
    assert len(os.listdir("/proc/self/fd")) - before <= 25 and len(store.open_segments) == 20
    store.close()
