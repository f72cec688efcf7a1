"""What a log knows about itself beside the segments: its epoch, its partitions, and where each begins and ends.

    <data>/epoch                        random id of this log: other nodes know its events by it
    <data>/catalog                      epoch, and of every partition where it starts and where its last segment began
    <data>/streams/<s>/<p>/partition    the same of one partition, with the names of the stream and of the log

Each is in more than one place, so that a file that is lost is told from one that never was, and one that belongs to
another partition or node is not believed:

    epoch lost or wrong                 taken from the others; with data and no other, the start is refused
    first segment missing               the start was not moved by retention, which notes that before it deletes
    last segment or partition missing   its last segment is known; new offsets begin behind all that it may have held

Used by store.py. Read on the loop while a stream is opened, written by the keeper. Files are JSON with their crc32c.
The catalog is synced once a minute; the note of a partition is written at each roll, and synced before retention
deletes.
"""
from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import google_crc32c
import msgspec

from routing.errors import StorageError
from routing.log.fs import FileSystem, RealFileSystem, read_whole, replace_whole
from routing.log.segments.sidecars import LOG

log = logging.getLogger(__name__)

EPOCH, CATALOG, PARTITION = "epoch", "catalog", "partition"
EPOCH_CHARACTERS = 16

T = TypeVar("T")


# Streams of the node itself, as directories: until 2026-12 their names began with _, which are clients' own now.
RENAMED = {"_state": "%24state", "_retained": "%24retained", "_audit": "%24audit"}
_FORMER = {new: old for old, new in RENAMED.items()}


def is_named(noted: str, stream: str) -> bool:
    """Is the stream of a note this one, by the name that it has or had?"""
    return noted in (stream, _FORMER.get(stream))


class Bounds(msgspec.Struct, frozen=True, array_like=True):
    """start: the first offset that is kept.  reached: where the last segment begins, or one after it."""

    start: int
    reached: int


class PartitionNote(msgspec.Struct, frozen=True):
    epoch: str
    stream: str
    partition: int
    bounds: Bounds


class CatalogNote(msgspec.Struct):
    epoch: str
    streams: dict[str, list[Bounds | None]]


class Catalog:
    """One per store. Loop thread only. Streams go by the names of their directories."""

    def __init__(self, fs: FileSystem, root: Path) -> None:
        """Raises StorageError when the log's epoch is lost."""
        self._fs = fs
        self._root = root
        known = read_checked(fs, root / CATALOG, CatalogNote)
        self._streams: dict[str, list[Bounds | None]] = {} if known is None else known.streams
        self.has_changed = known is None        # since the catalog was written
        for old, new in RENAMED.items():
            if old in self._streams and new not in self._streams:
                self._streams[new] = self._streams.pop(old)
                self.has_changed = True
        self.epoch = self._find_epoch(None if known is None else known.epoch)

    def _find_epoch(self, known: str | None) -> str:
        path = self._root / EPOCH
        epoch = read_epoch(self._fs, path)
        if epoch is not None and known in (None, epoch):
            return epoch
        noted = {note.epoch for note in self._partition_notes()}
        if epoch is not None and (known is None or epoch in noted):
            return epoch                        # the catalog is that of another log
        others = noted or ({known} if known is not None else set())
        if len(others) == 1:
            found = others.pop()
            log.error("%s: is %s; the partitions say that this log is %s, which counts", path,
                      "lost" if epoch is None else f"that of another log, {epoch}", found)
        elif others or _has_data(self._fs, self._root):
            raise StorageError(
                f"{path}: the name of this log is lost, and other nodes know its events by it: with a new one they "
                f"would copy all of them again. Put the file back ({EPOCH_CHARACTERS} hex digits; `meshgate topology "
                "--json` on another node shows it), or give the log a new name with `meshgate log new-epoch DIR`")
        else:
            found = secrets.token_hex(EPOCH_CHARACTERS // 2)
        write_epoch(self._fs, path, found)
        return found

    def _partition_notes(self) -> list[PartitionNote]:
        """Those of all partitions: for a start with something missing."""
        found = []
        for directory in _partition_directories(self._fs, self._root):
            note = read_checked(self._fs, directory / PARTITION, PartitionNote)
            if note is not None:
                found.append(note)
        return found

    # -- partitions -------------------------------------------------------------------------------------------

    def bounds(self, directory: Path, stream: str, index: int) -> Bounds | None:
        """What is known of a partition that is about to be opened; None: it is new, or of an earlier version.

        Raises StorageError when the directory is that of another partition or log.
        """
        note = read_checked(self._fs, directory / PARTITION, PartitionNote)
        rows = self._streams.get(stream, [])
        listed = rows[index] if index < len(rows) else None
        if note is None:
            return listed
        if note.epoch != self.epoch or not is_named(note.stream, stream) or note.partition != index:
            raise StorageError(
                f"{directory / PARTITION}: this directory is partition {note.partition} of stream {note.stream} of "
                f"the log {note.epoch}, and not partition {index} of stream {stream} of the log {self.epoch}. Put it "
                "back, or delete this file to take its events over as they are")
        if listed is None:
            return note.bounds
        return Bounds(max(note.bounds.start, listed.start), max(note.bounds.reached, listed.reached))

    def known_partitions(self, stream: str) -> int:
        return len(self._streams.get(stream, []))

    def missing(self, on_disk: set[str]) -> list[str]:
        """Streams that were here and are gone. They are told once."""
        gone = sorted(stream for stream in self._streams if stream not in on_disk)
        for stream in gone:
            del self._streams[stream]
        return gone

    def set(self, directory: Path, stream: str, index: int, bounds: Bounds) -> bool:
        """Bounds have moved. False: they were known already, and noted in the directory."""
        rows = self._streams.setdefault(stream, [])
        rows.extend([None] * (index + 1 - len(rows)))
        if rows[index] == bounds and self._fs.exists(directory / PARTITION):
            return False
        rows[index] = bounds
        self.has_changed = True
        return True

    def forget(self, stream: str) -> None:
        """The stream is deleted."""
        if self._streams.pop(stream, None) is not None:
            self.has_changed = True

    def noting(self, directory: Path, stream: str, index: int, *, durable: bool) -> Callable[[], None]:
        """A function for the keeper that writes the note of one partition."""
        bounds = self._streams[stream][index]
        assert bounds is not None
        line = msgspec.json.encode(PartitionNote(self.epoch, stream, index, bounds))
        return lambda: write_checked(self._fs, directory / PARTITION, line, durable=durable)

    def saving(self) -> Callable[[], None]:
        """A function for the keeper that writes the catalog as it is now."""
        self.has_changed = False
        line = msgspec.json.encode(CatalogNote(self.epoch, self._streams))
        return lambda: write_checked(self._fs, self._root / CATALOG, line, durable=True)


def rename_internal(fs: FileSystem, root: Path) -> None:
    """Give the streams of the node itself the names that they have now. Once; a crash in between does no harm."""
    streams = root / "streams"
    for old, new in RENAMED.items():
        if fs.exists(streams / old) and not fs.exists(streams / new):
            fs.rename(streams / old, streams / new)
            fs.sync_directory(streams)
            log.info("%s is %s from now on", streams / old, new)


def read_epoch(fs: FileSystem, path: Path) -> str | None:
    """None when there is none, or it is not whole."""
    try:
        text = read_whole(fs, path).decode("ascii", "replace").strip()
    except OSError:
        return None
    return text if len(text) == EPOCH_CHARACTERS and not set(text) - set("0123456789abcdef") else None


def write_epoch(fs: FileSystem, path: Path, epoch: str) -> None:
    replace_whole(fs, path, epoch.encode() + b"\n", durable=True)


def give_epoch(root: Path) -> str:
    """A new name for a log that has lost its own. Raises StorageError when it has not, or the log is in use."""
    fs = RealFileSystem()
    if not (root / "streams").is_dir():
        raise StorageError(f"{root}: there is no log in this directory")
    lock = fs.lock(root / "lock")
    try:
        try:
            known = Catalog(fs, root).epoch
        except StorageError:
            epoch = secrets.token_hex(EPOCH_CHARACTERS // 2)
            write_epoch(fs, root / EPOCH, epoch)
            return epoch
    finally:
        lock.release()
    raise StorageError(f"{root}: this log has a name, {known}")


def write_checked(fs: FileSystem, path: Path, line: bytes, *, durable: bool) -> None:
    """One line and its checksum. A disk that is full or broken is reported, and by others too."""
    try:
        replace_whole(fs, path, line + b"\n%08x\n" % google_crc32c.value(line), durable=durable)
    except OSError as error:
        log.warning("%s: cannot be written: %s", path, error)


def read_checked(fs: FileSystem, path: Path, type: type[T]) -> T | None:
    """None when there is none, or it is damaged."""
    try:
        line, _, rest = read_whole(fs, path).partition(b"\n")
    except OSError:
        return None
    try:
        if int(rest.strip() or b"-1", 16) == google_crc32c.value(line):
            return msgspec.json.decode(line, type=type)
    except (ValueError, msgspec.MsgspecError):
        pass
    log.warning("%s: damaged, and not believed", path)
    return None


def _partition_directories(fs: FileSystem, root: Path) -> list[Path]:
    streams = root / "streams"
    found = []
    for stream in fs.names(streams) if fs.exists(streams) else []:
        try:
            found += [streams / stream / name for name in fs.names(streams / stream) if name.isdigit()]
        except OSError:
            continue                            # a file among the directories
    return found


def _has_data(fs: FileSystem, root: Path) -> bool:
    """True when there is a segment with something in it."""
    for directory in _partition_directories(fs, root):
        for name in fs.names(directory):
            if name.endswith(LOG):
                file = fs.open(directory / name)
                try:
                    if file.pread(1, 0) not in (b"",):
                        return True
                finally:
                    file.close()
    return False
