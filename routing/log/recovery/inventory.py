"""What stands in the directory of a partition: which files are its segments, and what is missing or out of place.

Used by recovery.py at the start and by inspect.py. A name is not believed before the file behind it was looked at:

    123.log                     not 20 digits: none of ours; left alone, with a warning
    <base>.log that holds a
    batch of another offset     out of place: it is renamed to <base>.log.misplaced, never cut, and told at every start
    a first or last segment
    that is missing             told; new offsets begin behind all that the missing one may have held (catalog.py)
"""
from __future__ import annotations

import logging
from pathlib import Path

from routing.log.catalog import Bounds
from routing.log.compaction import CLEANED, SWAP, put_in_place
from routing.log.fs import FileSystem
from routing.log.records.batch import HEADER_BYTES, batch_at, crc_is_right
from routing.log.segments.damage import Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX
from routing.log.segments.segment import Segment
from routing.log.segments.sidecars import LOG, SUFFIXES

log = logging.getLogger(__name__)

OFFSET_MAX = 2**62              # an offset beyond this is damage
NAME_DIGITS = 20
MISPLACED, BROKEN = ".misplaced", ".broken"


def base_of(name: str, suffix: str = LOG) -> int | None:
    """The base offset in the name of a segment's file; None: it is not such a name."""
    stem = name.removesuffix(suffix)
    if name.endswith(suffix) and len(stem) == NAME_DIGITS and stem.isascii() and stem.isdigit():
        return int(stem)
    return None


def bases_of(names: list[str]) -> list[int]:
    return sorted(base for base in map(base_of, names) if base is not None)


def strange_names(names: list[str]) -> list[str]:
    """Files that look like segments and have no name of one."""
    return [name for name in names if name.endswith(LOG) and base_of(name) is None]


def take_stock(fs: FileSystem, directory: Path, bounds: Bounds | None) -> tuple[list[int], list[Damage]]:
    """The base offsets of the segments, at least one if there ever was one; and what is missing or put aside.

    bounds: what is known of the partition. Left-overs of an interrupted change are removed. Raises OSError.
    """
    _finish_compaction(fs, directory)
    names = fs.names(directory)
    for name in strange_names(names):
        log.warning("%s: not a segment (the name has %d digits): left alone", directory / name, NAME_DIGITS)
    damage: list[Damage] = []
    floor = 0                           # new offsets begin no earlier
    bases = []
    for base in bases_of(names):
        end = misplaced_end(fs, directory, base)
        if end is None:
            bases.append(base)
            continue
        floor = max(floor, base, end)
        path = Segment(fs, directory, base).path()
        fs.rename(path, path.with_name(path.name + MISPLACED))
        fs.sync_directory(directory)
    names = fs.names(directory)
    damage += [_aside(directory / name) for name in names if name.endswith((MISPLACED, BROKEN))]
    _remove_left_overs(fs, directory, names, bases)
    damage += missing_parts(directory, bases, bounds)
    last = bases[-1] if bases else -1
    if bounds is not None and bounds.reached > last:
        floor = max(floor, bounds.reached + RELATIVE_OFFSET_MAX)
    if floor > last and floor:
        log.error("%s: going on at offset %d, behind all that the missing segment may have held", directory, floor)
        fs.open(directory / f"{floor:020d}{LOG}", create=True).close()
        fs.sync_directory(directory)
        bases.append(floor)
    return bases, damage


def missing_parts(directory: Path, bases: list[int], bounds: Bounds | None) -> list[Damage]:
    """A front or an end that is not there, though retention did not remove it."""
    if bounds is None:
        return []
    found = []
    first = bases[0] if bases else bounds.reached + RELATIVE_OFFSET_MAX
    if first > bounds.start:
        found.append(Damage(str(directory / f"{bounds.start:020d}{LOG}"), 0, 0, bounds.start, first,
                            "the first segment is missing"))
    if bases and bounds.reached > bases[-1]:
        found.append(Damage(str(directory / f"{bounds.reached:020d}{LOG}"), 0, 0, bounds.reached,
                            bounds.reached + RELATIVE_OFFSET_MAX, "the last segment is missing"))
    return found


def misplaced_end(fs: FileSystem, directory: Path, base: int) -> int | None:
    """Behind the last offset in a file that holds whole batches, but not those of its name; None: it is in place.

    One batch alone whose offset is wrong is damage of that batch: the offset is outside its checksum.
    """
    segment = Segment(fs, directory, base)
    try:
        head = segment.read_bytes(0, HEADER_BYTES)
        first = batch_at(head, 0)
        if first is None or first.base_offset == base:
            return None
        second = batch_at(segment.read_bytes(first.size, HEADER_BYTES), 0)
        if second is None or second.base_offset != first.next_offset:
            return None
        if not crc_is_right(segment.read_bytes(0, first.size), 0, first):
            return None
        end, position, size = base, 0, segment.file().size()
        while position < size:
            header = batch_at(segment.read_bytes(position, HEADER_BYTES), 0)
            if header is None or header.next_offset > OFFSET_MAX:
                break
            end, position = header.next_offset, position + header.size
        return end
    finally:
        segment.close()


def _aside(path: Path) -> Damage:
    what = (
        "it holds batches of other offsets than its name says, so it was put aside; if its name is wrong, stop the "
        "node and give it that of its first offset (`meshgate log dump`)" if path.name.endswith(MISPLACED)
        else "not a whole segment, so it was put aside")
    return Damage(str(path), 0, 0, 0, 0, what)


def _remove_left_overs(fs: FileSystem, directory: Path, names: list[str], bases: list[int]) -> None:
    for name in names:
        suffix = "." + name.partition(".")[2]
        base = base_of(name, suffix)
        if suffix.endswith(".tmp") or (suffix in SUFFIXES and suffix != LOG and base is not None and base not in bases):
            try:
                fs.remove(directory / name)
            except OSError as error:
                log.warning("%s: a left-over that cannot be removed: %s", directory / name, error.strerror)


def _finish_compaction(fs: FileSystem, directory: Path) -> None:
    """A .swap file is whole and counts: it takes the place of the segments in its range."""
    names = fs.names(directory)
    for name in names:
        if name.endswith(CLEANED):
            fs.remove(directory / name)
    for name in names:
        base = base_of(name, SWAP)
        if base is None:
            continue
        swap = Segment(fs, directory, base, suffix=SWAP)
        next_offset = _chain_end(swap)
        if next_offset is None:
            log.error("%s: not a whole segment; it is put aside", swap.path())
            fs.rename(swap.path(), directory / (name + BROKEN))
            continue
        bases = [base for base in bases_of(names) if swap.base_offset <= base < next_offset]
        log.info("%s: finishing a compaction of %d segments", swap.path(), len(bases))
        put_in_place(fs, directory, swap.base_offset, bases)


def _chain_end(segment: Segment) -> int | None:
    """The next offset after a segment that must be whole from its first to its last byte; None when it is not."""
    try:
        segment.size, segment.next_offset = segment.file().size(), OFFSET_MAX
        end = segment.base_offset
        for found in segment.batches(0, segment.base_offset):
            end = found.header.next_offset
        return None if segment.damage or not segment.size else end
    finally:
        segment.close()
