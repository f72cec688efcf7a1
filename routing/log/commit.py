"""Group commit: one write per partition and one fdatasync for everything that waited, on the writer thread.

    loop:    append, append, append … kick ─┐ encode the group                 ┌─ end offsets move, tickets complete
    writer:                                 └─► write all ─► fdatasync each ───┘  (one call back to the loop)

Used by partition.py and store.py. A Job is handed to the writer whole and not touched by the loop until it comes
back. Which error means what stands here, in `_failure`, and nowhere else: a full disk is refused and cut back, so
that publishing can go on when there is room; anything else stops the partition for good. A sync is never tried again.
"""
from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from routing.errors import Reason, Refusal
from routing.event import Event
from routing.log.batch import BatchHeader
from routing.log.crash import crash_point
from routing.log.index import IndexBuilder
from routing.log.offsets import save_reservation
from routing.log.segment import Segment

if TYPE_CHECKING:
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

# Space is reserved ahead of the writes in steps that double, and filled with zeros: a sync then need not record where
# blocks are. Measured (docs/log.md): the mean commit takes 30 to 55 % less, but the one that fills takes 1 to 1.5 ms,
# which is the p99 of groups of 16 KiB and more. Larger groups than ALLOCATION_GROUP_MAX pay for the fill too often.
ALLOCATION_BYTES_MIN = 64 * 1024
ALLOCATION_BYTES_MAX = 1024 * 1024
ALLOCATION_GROUP_MAX = 256 * 1024

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# --------------------------------------------------------------------------------------------------------- the writer

class Writer(Protocol):
    """Runs functions in order, one at a time."""

    def submit(self, work: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class ThreadWriter:
    """One thread that runs what it is given."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        self._queue.put(work)

    def close(self) -> None:
        """Run what is waiting, then end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("a task of the log failed")


class InlineWriter:
    """Runs what it is given at once, on the caller's thread: for tests that must be the same every time."""

    def __init__(self, name: str) -> None:
        pass

    def submit(self, work: Callable[[], None]) -> None:
        work()

    def close(self) -> None:
        pass


# --------------------------------------------------------------------------------------------------------- the job

class WriteTask:
    """The share of one partition in a job. The first half is filled by the loop, the second by the writer."""

    __slots__ = (
        "batches", "end_offset", "failure", "partition", "pieces", "reserve", "roll_at", "rolled", "segment", "sync",
    )

    def __init__(self, partition: Partition, segment: Segment, end_offset: int) -> None:
        self.partition = partition
        self.segment = segment                  # where to write; the new one after a roll
        self.sync = False
        self.roll_at: int | None = None         # start a new segment at this offset first
        self.reserve: int | None = None         # reserve offsets up to here first
        self.pieces: list[bytes] = []           # the encoded batches
        self.batches: list[tuple[BatchHeader, list[Event]]] = []
        self.end_offset = end_offset            # of the partition when all is written
        self.rolled: Segment | None = None      # the new segment
        self.failure: Refusal | None = None

    def write(self) -> None:
        """Roll if asked to, then write. The failure, if any, is left in failure."""
        if self.failure is not None:                # it could not even be encoded
            return
        try:
            if self.reserve is not None:
                save_reservation(self.segment.fs, self.segment.directory, self.reserve)
            if self.roll_at is not None:
                self._roll(self.roll_at)
            if self.pieces:
                data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
                crash_point("before_write")
                allocate(self.segment, len(data))
                written = self.segment.file().pwrite(data, self.segment.size)
                crash_point("after_write")
                if written != len(data):
                    raise OSError(errno.ENOSPC, f"short write, {written} of {len(data)} bytes")
        except OSError as error:
            self.failure = _failure(error, self.segment, "write", may_be_full=True)
            self.cut_back()

    def finish(self) -> None:
        """Make it last."""
        if self.failure is None and self.sync and self.pieces:
            try:
                crash_point("before_sync")
                self.segment.file().datasync()
                crash_point("after_sync")
            except OSError as error:
                self.failure = _failure(error, self.segment, "sync", may_be_full=False)
                self.cut_back()

    def _roll(self, base_offset: int) -> None:
        """Seal the segment and start the next: the old one is cut to size and synced before the new one exists."""
        old = self.segment
        old.file().truncate(old.size)
        old.file().datasync()
        crash_point("in_roll")
        new = Segment(old.fs, old.directory, base_offset)
        new.builder = IndexBuilder(base_offset)
        new.adopt_file(old.fs.open(new.path(), create=True))
        new.file().truncate(0)
        old.fs.sync_directory(old.directory)
        crash_point("after_roll")
        self.segment = self.rolled = new

    def cut_back(self) -> None:
        """Take what was not committed off the file, so that a refused event cannot come back after a restart."""
        try:
            self.segment.allocated = self.segment.size
            self.segment.file().truncate(self.segment.size)
        except OSError as error:
            self.failure = _failure(error, self.segment, "cut", may_be_full=False)


class Job:
    """One group commit."""

    __slots__ = ("tasks",)

    def __init__(self, tasks: list[WriteTask]) -> None:
        self.tasks = tasks

    def run(self) -> None:
        """Write all, then sync all. Whatever happens, every task is finished or has its failure."""
        for step in (WriteTask.write, WriteTask.finish):
            for task in self.tasks:
                try:
                    step(task)
                except Exception:
                    log.exception("%s: a commit failed in an unexpected way", task.segment.path())
                    task.failure = Refusal(Reason.STORAGE_FAILED, "internal error; this partition is read-only")


def allocate(segment: Segment, size: int) -> None:
    """Reserve room for size more bytes and some more. A full disk is for the write to find out."""
    end = segment.size + size
    if end <= segment.allocated or size > ALLOCATION_GROUP_MAX:
        return
    start = max(segment.allocated, segment.size)
    step = max(ALLOCATION_BYTES_MIN, min(segment.size, ALLOCATION_BYTES_MAX))
    try:
        segment.file().allocate(start, end + step - start)
        segment.allocated = end + step
    except OSError as error:
        if error.errno not in _FULL:
            raise
        segment.file().truncate(segment.size)       # give back what a failed allocation may have taken
        segment.allocated = segment.size


def _failure(error: OSError, segment: Segment, what: str, *, may_be_full: bool) -> Refusal:
    where = f"{segment.path()} at {segment.size}"
    if may_be_full and error.errno in _FULL:
        log.error("%s: %s refused: %s", where, what, error.strerror)
        return Refusal(Reason.STORAGE_FULL, "the disk is full; try again when there is room")
    log.critical("%s: %s failed: %s; the partition is read-only from now on", where, what, error)
    return Refusal(Reason.STORAGE_FAILED, "the log could not be written; this partition is read-only")
