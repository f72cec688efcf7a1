"""What `meshgate log verify` finds beside the bytes of the segments: files that are missing, out of place or wrong.

Used by inspect.py. Nothing is changed by looking.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from routing.log.catalog import (
    CATALOG,
    EPOCH,
    PARTITION,
    Bounds,
    CatalogNote,
    PartitionNote,
    is_named,
    read_checked,
    read_epoch,
)
from routing.log.fs import FileSystem
from routing.log.recovery.inventory import BROKEN, MISPLACED, misplaced_end, missing_parts, strange_names
from routing.log.segments.segment import segment_name
from routing.log.segments.sidecars import LOG, SUFFIXES


class Finding(msgspec.Struct, frozen=True):
    """One thing that verify has to say. level: "damage", "note" or "ok" (a segment without either)."""

    level: str
    path: str
    position: int
    offset: int
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.path} at byte {self.position}, offset {self.offset}: {self.text}"


def root_of(directory: Path) -> Path:
    """The data directory that a partition's directory is in."""
    return directory.parent.parent.parent


def verify_root(fs: FileSystem, root: Path) -> Iterator[Finding]:
    """The files of a whole log."""
    epoch = read_epoch(fs, root / EPOCH)
    known = read_checked(fs, root / CATALOG, CatalogNote)
    if epoch is None:
        yield _finding("damage", root / EPOCH, "the name of this log is lost; the next start looks for it elsewhere")
    if known is None:
        yield _finding("note", root / CATALOG, "no usable catalog; it is made again")
        return
    if epoch is not None and known.epoch != epoch:
        yield _finding("damage", root / CATALOG, f"is of the log {known.epoch}, and not of {epoch}")
    on_disk = {path.name: path for path in (root / "streams").iterdir()}
    for stream, rows in known.streams.items():
        place = next((path for name, path in on_disk.items() if is_named(stream, name)), None)
        if place is None:
            yield _finding("damage", root / "streams", f"stream {stream} is missing")
            continue
        for index in range(len(rows)):
            if not (place / str(index)).is_dir():
                yield _finding("damage", place / str(index), "the partition is missing")


def verify_directory(fs: FileSystem, directory: Path, bases: list[int], root: Path) -> Iterator[Finding]:
    """The names in a partition's directory, and what is not there. bases: the segments that are."""
    names = fs.names(directory)
    for name in strange_names(names):
        yield _finding("note", directory / name, "not the name of a segment: it is not read")
    for name in names:
        if name.endswith((MISPLACED, BROKEN)):
            yield _finding("damage", directory / name, "was put aside; its events are not served")
        elif Path(name).suffix in SUFFIXES and not (directory / name).is_file():
            yield _finding("damage" if name.endswith(LOG) else "note", directory / name, "not a file")
    for base in bases:
        if misplaced_end(fs, directory, base) is not None:
            yield _finding("damage", directory / (segment_name(base) + LOG), "holds batches of other offsets")
    bounds = _bounds(fs, directory, root)
    note = read_checked(fs, directory / PARTITION, PartitionNote)
    if note is not None:
        epoch = read_epoch(fs, root / EPOCH)
        stream, index = directory.parent.name, directory.name
        here = is_named(note.stream, stream) and str(note.partition) == index and epoch in (None, note.epoch)
        if not here:
            yield _finding("damage", directory / PARTITION, (
                f"the directory is partition {note.partition} of stream {note.stream} of the log {note.epoch}"))
            return
    for damage in missing_parts(directory, bases, bounds):
        yield Finding("damage", damage.path, 0, damage.first_offset, damage.what)


def _bounds(fs: FileSystem, directory: Path, root: Path) -> Bounds | None:
    note = read_checked(fs, directory / PARTITION, PartitionNote)
    if note is not None:
        return note.bounds
    known = read_checked(fs, root / CATALOG, CatalogNote)
    rows = known.streams.get(directory.parent.name, []) if known is not None else []
    index = int(directory.name) if directory.name.isascii() and directory.name.isdigit() else len(rows)
    return rows[index] if index < len(rows) else None


def _finding(level: str, path: Path, text: str) -> Finding:
    return Finding(level, str(path), 0, 0, text)
