"""Replay: what the shared journals hold is put into the segments, before a partition is recovered.

After kill -9 it stands there already. After a loss of power any of it may be missing. Only the last segment of a
partition is looked at: the others were synced when they were sealed, and may have been compacted since.
"""
from __future__ import annotations

import errno
import logging
from pathlib import Path

from routing.log.committing.journal import FORGET, NAMES, Entry, decode
from routing.log.fs import FileSystem, read_whole
from routing.log.recovery.inventory import bases_of
from routing.log.segments.segment import segment_name
from routing.log.segments.sidecars import LOG

log = logging.getLogger(__name__)


def replay(fs: FileSystem, root: Path) -> int:
    """Returns how many commits were missing. The journals are gone afterwards. Raises OSError."""
    present = [root / name for name in NAMES if fs.exists(root / name)]
    if not present:
        return 0
    missing = 0
    found = _entries(fs, present)
    for name, writes in found.items():
        segment = root / name
        if _is_last(fs, segment):
            missing += _put(fs, segment, writes)
    for path in present:
        fs.remove(path)
    fs.sync_directory(root)
    if missing:
        log.warning("%d commits were taken from the journal: the power was lost, or the system died", missing)
    return missing


def _entries(fs: FileSystem, present: list[Path]) -> dict[str, list[tuple[int, bytes]]]:
    """Segment → (position, bytes) in the order in which they were written, without what was removed later."""
    records: list[tuple[int, list[Entry]]] = []
    for journal in present:
        records += decode(read_whole(fs, journal))
    records.sort(key=lambda record: record[0])              # those of one generation stay in order
    found: dict[str, list[tuple[int, bytes]]] = {}
    for _, entries in records:
        for kind, path, position, data in entries:
            if kind == FORGET:
                for gone in [one for one in found if one.startswith(f"{path}/")]:
                    del found[gone]
            else:
                found.setdefault(path, []).append((position, data))
    return found


def _is_last(fs: FileSystem, segment: Path) -> bool:
    """Of its partition, if it is there at all."""
    return fs.exists(segment) and segment.name == segment_name(bases_of(fs.names(segment.parent))[-1]) + LOG


def _put(fs: FileSystem, segment: Path, writes: list[tuple[int, bytes]]) -> int:
    """How many were not there. All of it is on disk then."""
    missing = 0
    file = fs.open(segment, writable=True)
    try:
        for position, data in writes:
            if file.pread(len(data), position) != data:
                missing += 1
                if file.pwrite(data, position) != len(data):
                    raise OSError(errno.ENOSPC, "short write", str(segment))
        file.datasync()
    finally:
        file.close()
    return missing
