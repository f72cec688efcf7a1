"""The shared journal: what many partitions commit at once becomes durable by one sync, in the place of one for each.

    <partition>/<segment>.log   ◄── written, and not synced
    <root>/journal-0, -1        ◄── the same bytes: one write, one sync. Then all of them are acked
    keeper                          syncs the segments once a journal is full; only then it is written again
    next start                      puts what the journals hold into the segments, before anybody reads them (replay.py)

A sync costs a disk about the same whatever it carries, so 50 of them took 2.2 ms where this takes 0.35 (docs/log.md).
Few partitions are quicker without: they have no journal, and where it cannot be written everybody syncs for himself.

    record   magic (4) | generation (8) | number (4) | size (4) | crc32c of all this and of the entries (4) | entries
    entry    kind (1) | size of the path (2) | position (8) | size of the data (4) | path below the root | data

A generation is one filling of a journal. Its records count from 0, and the first that does not fit ends it.
"""
from __future__ import annotations

import contextlib
import errno
import logging
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import google_crc32c

from routing.log.committing.commit import WriteTask
from routing.log.crash import crash_point
from routing.log.fs import SHORTAGE, File, FileSystem

log = logging.getLogger(__name__)

NAMES: Final = ("journal-0", "journal-1")
JOURNAL_BYTES: Final = 8 * 1024 * 1024      # of each of the two
TASKS_MIN: Final = 4                        # commits at once, below which each syncs for itself
TASKS_MAX: Final = 64                       # above it, too: one thread writes them all, and all are back at once
WISHES_MIN: Final = 16                      # as often it would have served before it is made: few nodes need it
ROUND_BYTES_MAX: Final = 512 * 1024         # of one record: what is more costs more to write twice than to sync
ENTRY_BYTES: Final = 600                    # of an entry beside its data, at most: the name of a stream has 249

HEADER: Final = struct.Struct(">4sQIII")
_ENTRY: Final = struct.Struct(">BHQI")
_MAGIC: Final = b"MGJ1"
WRITE, FORGET = 1, 2                        # kinds: bytes of a segment; a directory was removed, with all before it

Entry = tuple[int, str, int, bytes]         # kind, path, position, data


def encode_entries(entries: Iterable[Entry]) -> bytes:
    parts: list[bytes] = []
    for kind, path, position, data in entries:
        name = path.encode("utf-8", "surrogateescape")
        parts += _ENTRY.pack(kind, len(name), position, len(data)), name, data
    return b"".join(parts)


def encode(generation: int, number: int, body: bytes) -> bytes:
    """One record."""
    start = HEADER.pack(_MAGIC, generation, number, len(body), 0)[:-4]
    return start + struct.pack(">I", google_crc32c.extend(google_crc32c.value(start), body)) + body


def decode(data: bytes) -> Iterator[tuple[int, list[Entry]]]:
    """The records of a journal, each with its generation. Ends where there are no more, without an error."""
    position, number, first = 0, 0, 0
    while position + HEADER.size <= len(data):
        magic, generation, count, size, crc = HEADER.unpack_from(data, position)
        end = position + HEADER.size + size
        if magic != _MAGIC or count != number or (number and generation != first) or end > len(data):
            return
        start, body = data[position:position + HEADER.size - 4], data[position + HEADER.size:end]
        if google_crc32c.extend(google_crc32c.value(start), body) != crc:
            return
        yield generation, list(_entries(body))
        first, number, position = generation, number + 1, end


def _entries(body: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(body):
        kind, name_size, position, size = _ENTRY.unpack_from(body, at)
        start = at + _ENTRY.size + name_size
        at = start + size
        yield kind, body[start - name_size:start].decode("utf-8", "surrogateescape"), position, body[start:at]


class _Half:
    """One of the two files."""

    __slots__ = ("file", "generation", "is_free", "number", "path", "size", "touched")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: File | None = None
        self.generation = 0
        self.number = 0
        self.size = 0
        self.is_free = True                         # the segments that it names are synced
        self.touched: dict[Path, None] = {}         # these segments: as long as the records can be read again

    def begin(self, generation: int) -> None:
        self.generation, self.number, self.size, self.is_free = generation, 0, 0, True
        self.touched = {}


class Journal:
    """Of one store. may_take() on the loop thread, run() on a writer's, the rest on the keeper's."""

    def __init__(self, fs: FileSystem, root: Path, later: Callable[[Callable[[], None]], None],
                 size_bytes: int = JOURNAL_BYTES) -> None:
        """later: to the keeper. size_bytes: of each of the two; 0: there is none."""
        self.size_bytes = size_bytes
        self.busy = False                           # one record at a time: the first that is torn ends a journal
        self.rounds = 0
        self._fs = fs
        self._root = root
        self._later = later
        self._lock = threading.Lock()
        self._halves = [_Half(root / name) for name in NAMES]
        self._half = self._halves[0]
        self._generation = 0
        self._is_ready = False
        self._wishes = 0                            # at WISHES_MIN the keeper makes the files
        self._is_cleaning = False                   # the keeper syncs the other one's segments
        self._is_broken = not size_bytes
        self._must_stay = False

    # -- the loop ---------------------------------------------------------------------------------------------

    def must_stay(self) -> None:
        """A segment could not be synced. The system tells that once, so no later sync of it says anything: what is
        here is kept for the next start.
        """
        self._is_broken = self._must_stay = True

    def may_take(self, tasks: Sequence[WriteTask]) -> bool:
        """Are these worth a record? Only plain commits are: no new segment, nothing beside the segment."""
        if not TASKS_MIN <= len(tasks) <= TASKS_MAX or self.busy or self._is_broken:
            return False
        size = 0
        for task in tasks:
            size += sum(map(len, task.pieces)) + ENTRY_BYTES
        if size > min(ROUND_BYTES_MAX, self.size_bytes // 2):
            return False
        if not self._is_ready:
            self._wishes += 1
            if self._wishes == WISHES_MIN:
                self._later(self._make)
            return False
        if self._half.size + size <= self.size_bytes or self._other.is_free:
            return True
        self._clean_soon()                              # the last try may have been short of something
        return False

    def _clean_soon(self) -> None:
        if not (self._other.is_free or self._is_cleaning):
            self._is_cleaning = True
            self._later(self._clean)

    # -- a writer ---------------------------------------------------------------------------------------------

    def run(self, tasks: Sequence[WriteTask]) -> None:
        """Write and sync all. Each task is then done, has its failure, or is to be tried again."""
        written = []
        try:
            for task in tasks:
                task.write()
                if task.failure is None and task.shortage is None:
                    written.append(task)
            if written and self._append([(WRITE, self._name(task.segment.path()), task.segment.size,
                                          b"".join(task.pieces)) for task in written]):
                for task in written:
                    task.synced = True
        except Exception:
            log.exception("the shared journal failed in an unexpected way")
            self._break()
        for task in tasks:
            task.finish()

    def _append(self, entries: list[Entry]) -> bool:
        """One record, durable. False: it is not, and whoever needs that has to sync for himself."""
        body = encode_entries(entries)
        with self._lock:
            half = self._room(HEADER.size + len(body))
            if half is None:
                return False
            data = encode(half.generation, half.number, body)
            half.is_free = False
            for kind, path, _, _ in entries:
                if kind == WRITE:
                    half.touched[self._root / path] = None
            durable = self._write(half, data)
        self._clean_soon()
        if not durable:
            self._break()
        return durable

    def _write(self, half: _Half, data: bytes) -> bool:
        assert half.file is not None
        try:
            crash_point("before_journal")
            count = half.file.pwrite_synced(data, half.size)
            if count is None:
                count = half.file.pwrite(data, half.size)
                half.file.datasync()
            if count != len(data):
                raise OSError(errno.ENOSPC, "short write")
            crash_point("after_journal")
        except OSError as error:
            log.error("%s: %s; from now on each partition syncs for itself", half.path, error.strerror)
            with contextlib.suppress(OSError):      # so that nothing of it comes back that is refused after all
                half.file.pwrite(bytes(HEADER.size), half.size)
            return False
        half.number += 1
        half.size += len(data)
        self.rounds += 1
        return True

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    @property
    def _other(self) -> _Half:
        return self._halves[self._half is self._halves[0]]

    def _room(self, size: int) -> _Half | None:
        """The journal that has room for a record, None: none has, yet."""
        if self._is_broken or not self._is_ready:
            return None
        half = self._half
        if half.size + size <= self.size_bytes:
            return half
        other = self._other
        if not other.is_free or size > self.size_bytes:
            return None
        self._half = other
        self._generation += 1
        other.begin(self._generation)
        return other

    # -- the keeper -------------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Room on the disk for both, filled, so that no sync has to record where it is."""
        try:
            for half in self._halves:
                half.file = self._fs.open(half.path, create=True)
                half.file.truncate(0)
                half.file.allocate(0, self.size_bytes)
                half.file.datasync()
            self._fs.sync_directory(self._root)
        except OSError as error:
            log.warning("%s: %s; each partition syncs for itself", self._root / NAMES[0], error.strerror)
            self._is_broken = True
            self._remove()
            return
        with self._lock:
            self._generation = 1
            self._half.begin(1)
            self._is_ready = True

    def _clean(self) -> None:
        """Sync the segments that the other one names, so that it can be written again."""
        with self._lock:
            half = self._other
            generation = half.generation
        for path in list(half.touched):
            try:
                sync_file(self._fs, path)
            except OSError as error:
                if error.errno not in SHORTAGE:         # else it is tried again with the next record
                    self._stay(path, error)
                break
        else:
            with self._lock:
                if half is self._other and half.generation == generation:
                    half.is_free = True
        self._is_cleaning = False

    def forget(self, directory: Path) -> None:
        """A directory is about to be removed: what was written below it must not come back, whatever is made there
        next. Raises OSError when that cannot be made sure.
        """
        if not any(directory in path.parents for half in self._halves for path in list(half.touched)):
            return
        entry = FORGET, self._name(directory), 0, b""
        if self._append([entry]):
            return
        self._clean()                                   # there was no room
        if not self._append([entry]) and not self._retire():
            raise OSError(errno.EIO, "it cannot be noted that it was removed", str(self._half.path))

    def _break(self) -> None:
        self._is_broken = True
        self._later(self._end)

    def _end(self) -> None:
        self._retire()

    def _stay(self, path: Path, error: OSError) -> None:
        log.critical("%s: %s; %s stays as it is for the next start", path, error.strerror, self._root / NAMES[0])
        self.must_stay()

    def _retire(self) -> bool:
        """Nothing is written to it any more, and nothing in it is needed. False: something is."""
        self._is_broken = True
        for half in self._halves:
            for path in list(half.touched):
                if self._must_stay:
                    return False
                try:
                    sync_file(self._fs, path)
                except OSError as error:
                    self._stay(path, error)
        return not self._must_stay and self._remove()

    def _remove(self) -> bool:
        try:
            for half in self._halves:
                if half.file is not None:
                    file, half.file = half.file, None
                    file.close()
                self._fs.remove(half.path)
                half.touched = {}
            self._fs.sync_directory(self._root)
        except OSError as error:
            log.error("%s: cannot be removed: %s", self._root / NAMES[0], error.strerror)
            return False
        return True

    def close(self) -> None:
        """No commit is under way, and none follows."""
        if self._is_ready and any(half.file is not None for half in self._halves):
            self._retire()


def sync_file(fs: FileSystem, path: Path) -> None:
    """Make last what was written to a file by whomever; one that is gone has nothing to lose."""
    try:
        file = fs.open(path)
    except FileNotFoundError:
        return
    try:
        file.datasync()
    finally:
        file.close()
