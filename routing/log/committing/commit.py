"""Group commit: one write and one fdatasync for everything that waited in a partition, on one of the writer threads.

    loop:    append, append, append … kick ─┐ encode the group          ┌─ end offset moves, tickets complete
    writer:                                 └─► write ─► fdatasync ─────┘  (one call for all that is done)

Where the system can, write and sync are one call. Then it is not known which of the two has failed, nor does it matter:
what was written is cut off again, and a page that a sync could not write is not taken for written later. But that call
makes only its own bytes last: where some before them wait for a sync, as with durability "write", the file is synced.

Used by partition.py and store.py. A WriteTask is handed to a writer whole and not touched by the loop until it comes
back. Which error means what stands here, in `_fail`, and nowhere else:

    short of descriptors or memory      nothing is lost: the same task is tried again later (partition.py)
    a full disk                         refused and cut back, so that publishing can go on when there is room
    anything else                       the partition is read-only for good; a sync is never tried again
"""
from __future__ import annotations

import errno
import logging

from routing.errors import Reason, Refusal
from routing.log.committing.offsets import save_reservation
from routing.log.crash import crash_is_due, crash_point
from routing.log.fs import SHORTAGE
from routing.log.producing.raw import Run
from routing.log.records.batch import BatchHeader
from routing.log.records.origins import Span
from routing.log.segments.index import IndexBuilder
from routing.log.segments.origin_file import OriginFile
from routing.log.segments.segment import Segment

log = logging.getLogger(__name__)

# Space is reserved ahead of the writes in steps that double, and filled with zeros: a sync then need not record where
# blocks are. Measured (docs/log.md): the mean commit takes 30 to 55 % less, but the one that fills takes 1 to 1.5 ms,
# which is the p99 of groups of 16 KiB and more. Larger groups than ALLOCATION_GROUP_MAX pay for the fill too often.
ALLOCATION_BYTES_MIN = 64 * 1024
ALLOCATION_BYTES_MAX = 1024 * 1024
ALLOCATION_GROUP_MAX = 256 * 1024

CUT_TRIES = 5               # at once: with what was refused still in the file, nothing may go on

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

class WriteTask:
    """One commit of one partition. The first half is filled by the loop, the second by the writer."""

    __slots__ = (
        "alone", "batches", "end_offset", "failure", "known", "lines", "origin_file", "pieces", "reserve",
        "roll_at", "rolled", "segment", "shared", "shortage", "start_offset", "sync", "synced",
    )

    def __init__(self, segment: Segment, end_offset: int) -> None:
        self.segment = segment                  # where to write; the new one after a roll
        self.sync = False
        self.alone = False                      # nothing before it waits for a sync, so its own write is all that does
        self.shared = False                     # the journal makes it last, together with others
        self.roll_at: int | None = None         # start a new segment at this offset first
        self.reserve: int | None = None         # reserve offsets up to here first
        self.pieces: list[bytes] = []           # the encoded batches
        self.batches: list[tuple[BatchHeader, Run]] = []
        self.origin_file: OriginFile | None = None      # where batches of other nodes are noted first,
        self.lines = b""                        # with these lines,
        self.known: list[Span] = []             # and all of before, when that file is to be made short
        self.start_offset = end_offset          # of the partition before,
        self.end_offset = end_offset            # and when all is written
        self.rolled: Segment | None = None      # the new segment
        self.failure: Refusal | None = None
        self.shortage: str | None = None        # what the machine is short of: try again
        self.synced = False                     # by the call that wrote it, or by the journal

    @property
    def is_plain(self) -> bool:
        """It only adds synced bytes to its segment."""
        return self.sync and bool(self.pieces) and self.failure is None and (
            self.roll_at is None and self.reserve is None and self.origin_file is None)

    def run(self) -> None:
        """Write and sync. Whatever happens, the task is done, has its failure, or is to be tried again."""
        self.write()
        self.finish()

    def write(self) -> None:
        """Roll if asked to, then write."""
        try:
            self._write()
        except Exception:
            self._fail_unexpectedly()

    def finish(self) -> None:
        """Make it last, if it was written."""
        try:
            self._finish()
        except Exception:
            self._fail_unexpectedly()

    def _fail_unexpectedly(self) -> None:
        log.exception("%s: a commit failed in an unexpected way", self.segment.path())
        self.failure = Refusal(Reason.STORAGE_FAILED, "internal error; this partition is read-only")

    def _write(self) -> None:
        if self.failure is not None:                # it could not even be encoded
            return
        try:
            if self.reserve is not None:
                save_reservation(self.segment.fs, self.segment.directory, self.reserve)
            if self.roll_at is not None:
                self._roll(self.roll_at)
            if self.origin_file is not None:
                if self.known:
                    self.origin_file.shorten(self.known)
                self.origin_file.append(self.lines)
            if self.pieces:
                data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
                crash_point("before_write")
                filled = allocate(self.segment, len(data))
                written = None
                if self.sync and self.alone and not (filled or self.shared or crash_is_due()):
                    written = self.segment.file().pwrite_synced(data, self.segment.size)
                    self.synced = written is not None
                if written is None:
                    written = self.segment.file().pwrite(data, self.segment.size)
                crash_point("after_write")
                if written != len(data):
                    raise OSError(errno.ENOSPC, f"short write, {written} of {len(data)} bytes")
        except OSError as error:
            self._fail(error, "write", may_be_full=True)
            self.cut_back()

    def _finish(self) -> None:
        if self.failure is None and self.shortage is None and self.sync and self.pieces and not self.synced:
            try:
                crash_point("before_sync")
                self.segment.file().datasync()
                crash_point("after_sync")
            except OSError as error:
                self._fail(error, "sync", may_be_full=False)
                self.cut_back()
        if self.origin_file is not None:
            self.origin_file.close()

    def _roll(self, base_offset: int) -> None:
        """Seal the segment and start the next: the old one is cut to size and synced before the new one exists."""
        old = self.segment
        old.file().truncate(old.size)
        old.file().datasync()
        crash_point("in_roll")
        new = Segment(old.fs, old.directory, base_offset)
        new.builder = IndexBuilder(base_offset)
        new.adopt_file(old.fs.open(new.path(), create=True))
        try:
            new.file().truncate(0)
            old.fs.sync_directory(old.directory)
        except OSError:
            new.close()                     # nothing is in it yet; the next try opens it again
            raise
        crash_point("after_roll")
        self.segment = self.rolled = new
        self.roll_at = None

    def cut_back(self) -> None:
        """Take what was not committed off the file, so that a refused event cannot come back after a restart."""
        self.segment.allocated = self.segment.size
        if self.origin_file is not None:
            try:
                self.origin_file.cut()
            except OSError as error:
                self._fail(error, "cut", may_be_full=False)
                return
        for tries_left in reversed(range(CUT_TRIES)):
            try:
                self.segment.file().truncate(self.segment.size)
                return
            except OSError as error:
                if not tries_left or error.errno not in SHORTAGE:
                    self._fail(error, "cut", may_be_full=False)
                    return

    def _fail(self, error: OSError, what: str, *, may_be_full: bool) -> None:
        """Write down what an error means. may_be_full: nothing that counts is on the disk yet."""
        where = f"{self.segment.path()} at {self.segment.size}"
        if may_be_full and error.errno in SHORTAGE:
            self.shortage = error.strerror
        elif may_be_full and error.errno in _FULL:
            log.error("%s: %s refused: %s", where, what, error.strerror)
            self.failure = Refusal(Reason.STORAGE_FULL, "the disk is full; try again when there is room")
        else:
            log.critical("%s: %s failed: %s; the partition is read-only from now on", where, what, error)
            self.failure = Refusal(Reason.STORAGE_FAILED, "the log could not be written; this partition is read-only")


def allocate(segment: Segment, size: int) -> bool:
    """Reserve room for size more bytes and some more. A full disk is for the write to find out.

    True: it was filled, which a sync of the whole file has to record.
    """
    end = segment.size + size
    if end <= segment.allocated or size > ALLOCATION_GROUP_MAX:
        return False
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
    return True
