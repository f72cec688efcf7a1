"""Looking at a log by hand: the functions behind `meshgate log verify DIR` and `meshgate log dump DIR`.

DIR is a data directory, a stream's or partition's directory in it, or one .log file. Nothing is changed and no lock
is taken, so a log can be looked at beside a running node; then its active segment ends a little early or torn, which
verify reports as a note and not as damage.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatch

from routing.errors import StorageError
from routing.log.fs import FileSystem, RealFileSystem
from routing.log.kept.lifting import DIRECTORY, KEPT
from routing.log.records.batch import CODEC_MASK, BatchError
from routing.log.records.decode import Decoder, Record, plain_batch, records
from routing.log.recovery.findings import Finding, root_of, verify_directory, verify_root
from routing.log.recovery.inventory import OFFSET_MAX, base_of, bases_of
from routing.log.recovery.recovery import is_zero
from routing.log.segments.damage import Damage
from routing.log.segments.segment import Found, Segment
from routing.log.segments.sidecars import LOG

_PAYLOAD_SHOWN = 64


def verify(path: Path, fs: FileSystem | None = None) -> Iterator[Finding]:
    """Check every byte of every segment. Raises StorageError when path holds no log."""
    disk = fs if fs is not None else RealFileSystem()
    about_the_log = list(verify_root(disk, path)) if (path / "streams").is_dir() else []
    yield from about_the_log
    if any(finding.level == "damage" for finding in about_the_log) and not list(path.rglob("*" + LOG)):
        return                          # all is gone, and that was said
    for directory, bases in _partitions(path):
        if not path.is_file():
            yield from verify_directory(disk, directory, bases, root_of(directory))
        for base, following in pairwise([*bases, None]):
            assert base is not None
            yield from _verify_segment(disk, directory, base, following)
        yield from _verify_kept(disk, directory / DIRECTORY)


def dump(path: Path, *, offset: int = 0, count: int | None = None, headers: bool = True) -> Iterator[str]:
    """One line per record, from offset on. Damage is a line too. Raises StorageError when path holds no log."""
    left = count
    disk = RealFileSystem()
    for directory, bases in _partitions(path):
        for base, following in pairwise([*bases, None]):
            assert base is not None
            if following is not None and following <= offset:
                continue
            for line in _dump_segment(disk, directory, base, following, offset, headers):
                if left is not None:
                    if left == 0:
                        return
                    left -= 1
                yield line


def ends(path: Path) -> Iterator[tuple[Path, int]]:
    """Each partition, and behind the last offset that can be read in it. Raises StorageError where there is no log."""
    disk = RealFileSystem()
    for directory, bases in _partitions(path):
        end = bases[-1]
        segment = _open(disk, directory, end, None)
        try:
            for item in _batches(segment, last=True):
                end = item.end_offset if isinstance(item, Damage) else item.header.next_offset
        finally:
            segment.close()
        yield directory, end


def payloads(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and value of every record of one partition, in order. Raises StorageError where there is no log."""
    disk = RealFileSystem()
    for directory, bases in _partitions(path):
        for base, following in pairwise([*bases, None]):
            assert base is not None
            segment = _open(disk, directory, base, following)
            try:
                for item in _batches(segment, last=following is None):
                    if isinstance(item, Damage):
                        raise StorageError(f"{segment.path()}: {item}")
                    for record in records(plain_batch(item.raw(), item.header), item.header):
                        yield record.offset, record.value or b""
            finally:
                segment.close()


def _partitions(path: Path) -> Iterator[tuple[Path, list[int]]]:
    """The partition directories below path, with the base offsets of their segments."""
    if path.is_file() and base_of(path.name) is not None:
        yield path.parent, [int(path.stem)]
        return
    if not path.is_dir():
        raise StorageError(f"{path}: no such directory")
    top = path / "streams" if (path / "streams").is_dir() else path
    found = False
    for directory in [top, *sorted(child for child in top.rglob("*") if child.is_dir())]:
        bases = bases_of([file.name for file in directory.glob(f"*{LOG}")])
        if bases:
            found = True
            yield directory, bases
    if not found:
        raise StorageError(f"{path}: there is no log in this directory")


def _open(fs: FileSystem, directory: Path, base: int, following: int | None) -> Segment:
    segment = Segment(fs, directory, base)
    segment.size = segment.file().size()
    segment.next_offset = OFFSET_MAX if following is None else following
    return segment


def _batches(segment: Segment, last: bool) -> Iterator[Found | Damage]:
    """Batches and damage in order. Ends where the last segment has nothing more that was ever synced."""
    position, expected = 0, segment.base_offset
    while position < segment.size:
        for found in segment.batches(position, expected):
            if segment.damage:              # found is the first batch behind it; start over from there
                break
            yield found
            position, expected = found.position + found.header.size, found.header.next_offset
        if not segment.damage:
            return
        damage = segment.damage.pop()
        if last and damage.end_position == segment.size:
            return                          # nothing valid behind it: the reserved or torn end
        yield damage
        position, expected = damage.end_position, damage.end_offset


def _verify_segment(fs: FileSystem, directory: Path, base: int, following: int | None) -> Iterator[Finding]:
    segment = _open(fs, directory, base, following)
    path = str(segment.path())
    end, next_offset, count, broken = 0, base, 0, False
    try:
        for item in _batches(segment, last=following is None):
            if isinstance(item, Damage):
                broken = True
                yield Finding("damage", path, item.position, item.first_offset, str(item))
                end, next_offset = item.end_position, item.end_offset
                continue
            try:
                count += _count_records(item)
            except BatchError as error:
                broken = True
                yield Finding("damage", path, item.position, item.header.base_offset, f"records: {error}")
            end, next_offset = item.position + item.header.size, item.header.next_offset
        if following is not None and next_offset != following and not broken:
            yield Finding("damage", path, end, next_offset, f"the next segment begins at offset {following}")
            broken = True
        if following is None and end < segment.size and not is_zero(segment, end, segment.size):
            yield Finding("note", path, end, next_offset, f"{segment.size - end} bytes behind the last whole batch")
        if not broken:
            yield from _verify_sidecars(segment, end, next_offset, sealed=following is not None)
            yield Finding("ok", path, end, next_offset, f"{count} records")
    finally:
        segment.close()


def _verify_kept(fs: FileSystem, directory: Path) -> Iterator[Finding]:
    """What queues are owed of segments that retention has taken: each file must be whole."""
    for name in fs.names(directory) if fs.exists(directory) else ():
        base = base_of(name, KEPT)
        if base is None:
            continue
        segment = Segment(fs, directory, base, suffix=KEPT)
        segment.size, segment.next_offset = segment.file().size(), OFFSET_MAX
        count = end = 0
        try:
            for found in segment.batches(0, base):
                count, end = count + _count_records(found), found.header.next_offset
            for damage in segment.damage:
                yield Finding("damage", str(segment.path()), damage.position, damage.first_offset, str(damage))
            if not segment.damage:
                yield Finding("ok", str(segment.path()), segment.size, end, f"{count} records kept for queues")
        finally:
            segment.close()


def _count_records(found: Found) -> int:
    """Parse every record, with aiokafka where it can: it is fast, and it is not ours. Raises BatchError."""
    if found.header.attributes & CODEC_MASK:
        return sum(1 for _ in records(plain_batch(found.raw(), found.header), found.header))
    try:
        count = sum(1 for _ in DefaultRecordBatch(bytearray(found.raw())))
    except Exception as error:
        raise BatchError(str(error)) from None
    if count != found.header.record_count:
        raise BatchError(f"{count} records where {found.header.record_count} are declared")
    return count


def _verify_sidecars(segment: Segment, end: int, next_offset: int, *, sealed: bool) -> Iterator[Finding]:
    """Indexes and summary can be made again, so what is wrong with them is a note."""
    mark = segment.read_mark()
    path = str(segment.path())
    if mark is None:
        if sealed:
            yield Finding("note", path, end, next_offset, "no usable summary; the next start makes it again")
        return
    if mark.position > end or (sealed and (mark.position, mark.next_offset) != (end, next_offset)):
        yield Finding("note", path, mark.position, mark.next_offset, "the summary does not fit the segment")
    if segment.read_summary() is None:
        yield Finding("note", path, end, next_offset, "the summary is damaged; readers cannot skip")
    if segment.read_indexes(mark) is None:
        yield Finding("note", path, end, next_offset, "an index is damaged; reading is slower")


def _dump_segment(
    fs: FileSystem, directory: Path, base: int, following: int | None, offset: int, headers: bool
) -> Iterator[str]:
    segment = _open(fs, directory, base, following)
    where = f"{directory.parent.name}/{directory.name}"
    decoder = Decoder(None, lambda key: "-")
    try:
        for item in _batches(segment, last=following is None):
            if isinstance(item, Damage):
                yield f"{where} damage: {item}"
                continue
            if item.header.next_offset <= offset:
                continue
            plain = plain_batch(item.raw(), item.header)
            for record in records(plain, item.header):
                if record.offset >= offset:
                    yield f"{where} {_line(record, decoder, headers)}"
    finally:
        segment.close()


def _line(record: Record, decoder: Decoder, headers: bool) -> str:
    value = record.value
    shown = "null" if value is None else f"{len(value)} bytes {value[:_PAYLOAD_SHOWN]!r}"
    if value is not None and len(value) > _PAYLOAD_SHOWN:
        shown += "…"
    key = "null" if record.key is None else repr(record.key[:_PAYLOAD_SHOWN])
    line = f"{record.offset} {record.timestamp_ms} topic={decoder.topic(record)!r} key={key} value={shown}"
    if headers:
        line += "".join(f" {name.decode('utf-8', 'replace')}={content!r}" for name, content in record.headers)
    return line
