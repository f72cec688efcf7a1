"""Partitions commit independently: the sync of one holds up nobody else, and many are synced at the same time."""
from __future__ import annotations

import threading
import time

from routing.event import Event
from routing.log.committing.workers import ParallelWriter, ThreadWriter
from routing.log.fs import RealFileSystem
from routing.settings import StreamSettings
from tests.support.log import make_store, open_partition, scan_all
from tests.support.wait import DEADLINE_S


class Gate:
    """A file system whose syncs of one stream wait until they are let through, or until so many wait together."""

    def __init__(self, stream: str, parties: int = 0) -> None:
        self._inner = RealFileSystem()
        self._stream = stream
        self.open_gate = threading.Event()
        self.barrier = threading.Barrier(parties) if parties else None
        self.armed = False

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def open(self, path, **options):
        file = self._inner.open(path, **options)
        if self._stream in path.parts and path.name.endswith(".log"):
            sync = file.datasync
            return _GatedFile(file, self, sync)
        return file


class _GatedFile:
    def __init__(self, file, gate, sync) -> None:
        self._file, self._gate, self._sync = file, gate, sync

    def __getattr__(self, name):
        return getattr(self._file, name)

    def pwrite_synced(self, data: bytes, position: int) -> None:
        """Its gate is at the sync."""

    def datasync(self) -> None:
        if self._gate.armed:
            if self._gate.barrier is not None:
                self._gate.barrier.wait(DEADLINE_S)
            else:
                assert self._gate.open_gate.wait(DEADLINE_S)
        self._sync()


def test_a_sync_that_hangs_delays_no_other_stream(tmp_path):
    gate = Gate("slow")
    store = make_store(tmp_path, inline=False, fs=gate)
    slow, quick = open_partition(store, name="slow"), open_partition(store, name="quick")
    gate.armed = True
    hanging = store.publish(slow, [Event("t", b"1", 1)])
    store.kick()
    for number in range(20):
        ticket = store.publish(quick, [Event("t", b"%d" % number, 1)])
        store.kick()
        store.loop.run_until(lambda ticket=ticket: ticket.done)
        assert not ticket.refusals and not hanging.done
    behind = store.publish(slow, [Event("t", b"2", 1)])
    store.kick()
    gate.open_gate.set()
    store.loop.run_until(lambda: behind.done)
    assert hanging.done and [event.payload for event in scan_all(slow)] == [b"1", b"2"]
    store.close()


def test_partitions_are_synced_at_the_same_time(tmp_path):
    """The barrier opens only when eight syncs are under way together."""
    gate = Gate("many", parties=8)
    store = make_store(tmp_path, inline=False, fs=gate)
    partitions = store.open_stream(StreamSettings("many", partitions=8))
    gate.armed = True
    tickets = [store.publish(partition, [Event("t", b"x", 1)]) for partition in partitions]
    store.kick()
    store.loop.run_until(lambda: all(ticket.done for ticket in tickets))
    assert not any(ticket.refusals for ticket in tickets)
    gate.armed = False
    store.close()


def test_groups_of_one_partition_never_overlap_and_keep_their_order(tmp_path):
    store = make_store(tmp_path, inline=False)
    partitions = store.open_stream(StreamSettings("many", partitions=12, segment_bytes=2_000))
    done: dict[object, list[int]] = {partition: [] for partition in partitions}
    for number in range(60):
        for partition in partitions:
            ticket = store.publish(partition, [Event("t", b"%d" % number, 1)])
            ticket.on_done(lambda _, partition=partition, number=number: done[partition].append(number))
        store.kick()
        store.loop.run_pending()
    store.commit()
    for partition in partitions:
        assert done[partition] == list(range(60))
        assert [int(event.payload) for event in scan_all(partition)] == list(range(60))
    store.close()


def test_threads_are_started_as_they_are_needed_and_one_keeps_order():
    pool, seen = ParallelWriter("pool", 3), []
    gate = threading.Event()
    for number in range(5):
        pool.submit(lambda number=number: (gate.wait(DEADLINE_S), seen.append(number)))
    assert len(pool._threads) == 3
    gate.set()
    pool.close()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    one, order = ThreadWriter("one"), []
    for number in range(50):
        one.submit(lambda number=number: order.append(number))
    one.submit(lambda: 1 / 0)           # a fault is logged and ends nothing
    one.submit(lambda: order.append(50))
    one.close()
    assert order == list(range(51))


def test_one_thread_does_what_comes_one_after_the_other():
    """However many threads there are: each other one that is woken costs two context switches."""
    pool, threads, gate = ParallelWriter("pool", 4), [], threading.Event()
    for _ in range(4):
        pool.submit(lambda: gate.wait(DEADLINE_S))
    gate.set()
    deadline_s = time.monotonic() + DEADLINE_S
    while len(pool._idle) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.001)
    for _ in range(50):
        told = threading.Event()
        pool.submit(lambda: threads.append(threading.get_ident()), told.set)
        assert told.wait(DEADLINE_S)
    pool.close()
    assert len(threads) == 50 and len(set(threads)) == 1


def test_no_task_is_left_behind_when_threads_become_free_at_the_same_time():
    pool, seen = ParallelWriter("pool", 3), []
    for number in range(20_000):
        pool.submit(lambda number=number: seen.append(number), lambda: None)
    pool.close()
    assert len(seen) == 20_000
