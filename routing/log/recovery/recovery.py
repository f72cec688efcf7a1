"""Recovery: from the files of a partition to its segments, after a clean stop or any kind of crash.

Called by store.py when a stream is opened. Sealed segments are taken by the mark in their summary; one without a
usable mark, and the last segment behind its checkpoint, are read batch by batch.

What stands behind the last valid batch of the last segment:
    nothing, or zeros           reserved space: the clean end
    a torn group                bytes that are no valid batch, with no FIRST_IN_GROUP behind them: cut off, with a note
    damage                      the same, but a later group is whole, so what is broken had been synced: kept, loud
    whole batches               whatever offsets they claim: kept as damage, loud
Source of the reasoning: batch.py, "leader epoch". With durability "write" groups are not synced one by one, so there
the first invalid batch behind the checkpoint ends the log.
"""
from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from routing.event import Event
from routing.log.catalog import Bounds
from routing.log.committing.offsets import RESERVED, read_reservation
from routing.log.committing.offsets import UNKNOWN as UNKNOWN_RESERVATION
from routing.log.fs import FileSystem
from routing.log.producing.markers import kind_of
from routing.log.records.batch import CONTROL_MASK, FIRST_IN_GROUP, HEADER_BYTES, BatchHeader, batch_at, crc_is_right
from routing.log.records.decode import Decoder, plain_batch
from routing.log.records.fields import TOPIC
from routing.log.records.verdicts import Verdicts
from routing.log.recovery.inventory import OFFSET_MAX, take_stock
from routing.log.segments.damage import READ_BYTES, Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX, IndexBuilder
from routing.log.segments.mark import UNKNOWN, Mark
from routing.log.segments.rewriting import empty_batch
from routing.log.segments.segment import Segment

log = logging.getLogger(__name__)


def recover_partition(
    fs: FileSystem, directory: Path, decoder: Decoder, *, synced_groups: bool, steady_ms: int,
    bounds: Bounds | None = None,
) -> tuple[list[Segment], list[Damage]]:
    """The segments of a partition, in order, and what is missing; the last one is active and has its file open.

    Makes an empty partition. bounds: what the catalog knows of it.
    steady_ms: now. What no mark tells the age of counts as just appended: it may stay too long, and never too short.
    """
    fs.make_directory(directory)
    bases, missing = take_stock(fs, directory, bounds)
    if not bases:
        return [_first_segment(fs, directory)], missing
    segments = [
        _recover_sealed(fs, directory, base, following, decoder, steady_ms) for base, following in pairwise(bases)
    ]
    segments.append(_recover_active(fs, directory, bases[-1], decoder, synced_groups, steady_ms))
    _skip_reserved(segments[-1])
    return segments, missing


def _skip_reserved(active: Segment) -> None:
    """Go on behind the offsets that may have been used before a crash (offsets.py)."""
    reserved = read_reservation(active.fs, active.directory)
    if reserved == UNKNOWN_RESERVATION:
        log.error("%s: the reservation of offsets is damaged: leaving out as many as it can have held", active.path())
        reserved = active.next_offset + 4 * RESERVED    # one, and what 16 MiB that were not synced may have held
    if reserved <= active.next_offset:
        return
    log.warning(
        "%s: offsets behind the end may have been used (durability write, or a copy that was put back): "
        "going on at offset %d after %d",
        active.path(), reserved, active.next_offset - 1,
    )
    gap = empty_batch(active.next_offset, reserved)
    if active.file().pwrite(gap, active.size) != len(gap):
        raise OSError(errno.ENOSPC, f"{active.path()}: short write")
    active.file().datasync()
    header = batch_at(gap, 0)
    assert header is not None
    active.note(active.size, header, [])
    active.allocated = active.size


def _first_segment(fs: FileSystem, directory: Path) -> Segment:
    segment = Segment(fs, directory, 0)
    segment.builder = IndexBuilder(0)
    segment.adopt_file(fs.open(segment.path(), create=True))
    fs.sync_directory(directory)
    return segment


def _recover_sealed(
    fs: FileSystem, directory: Path, base: int, following: int, decoder: Decoder, steady_ms: int
) -> Segment:
    segment = Segment(fs, directory, base)
    mark = segment.read_mark()
    size = segment.file().size()
    segment.close()
    if mark is not None and mark.position == size and mark.next_offset == following:
        _take(segment, mark, steady_ms)
        return segment
    segment.builder = IndexBuilder(base)
    start = _take_checkpoint(segment, size, following, steady_ms)
    log.warning("%s: no summary that fits; reading the segment from byte %d on", segment.path(), start)
    end = read_segment(segment, decoder, start, size, offset_max=following, resume_at=any_batch)
    if end < size or segment.next_offset < following:
        segment.add_damage(end, size, segment.next_offset, following, "the segment ends early")
    segment.size, segment.next_offset = size, following
    segment.age_from(steady_ms, steady_ms)
    segment.seal()()
    return segment


def _recover_active(
    fs: FileSystem, directory: Path, base: int, decoder: Decoder, synced_groups: bool, steady_ms: int
) -> Segment:
    segment = Segment(fs, directory, base)
    segment.builder = IndexBuilder(base)
    size = segment.file().size()
    start = _take_checkpoint(segment, size, OFFSET_MAX, steady_ms)
    end = read_segment(
        segment, decoder, start, size, offset_max=OFFSET_MAX, resume_at=first_in_group if synced_groups else no_batch
    )
    if end < size:
        end = _keep_what_parses(segment, end, size)
    if end < size:
        if not is_zero(segment, end, size):
            log.warning(
                "%s: cut a torn tail at byte %d, offset %d (the file had %d bytes)",
                segment.path(), end, segment.next_offset, size,
            )
        segment.file().truncate(end)
        segment.file().datasync()
    segment.allocated = end
    if end > start:
        segment.age_from(steady_ms, steady_ms)
    return segment


def _keep_what_parses(segment: Segment, end: int, size: int) -> int:
    """Whole batches where the log seems to end are not torn, whatever offset they claim: they stay, as damage.

    A torn group begins with a batch that is not whole. Returns where the kept ones end.
    """
    position, next_offset = end, segment.next_offset
    while position < size:
        header = batch_at(segment.read_bytes(position, HEADER_BYTES), 0)
        if header is None or not crc_is_right(segment.read_bytes(position, header.size), 0, header):
            break
        plausible = next_offset < header.next_offset <= segment.base_offset + RELATIVE_OFFSET_MAX
        next_offset = header.next_offset if plausible else next_offset + header.last_offset_delta + 1
        position += header.size
    if position > end:
        segment.add_damage(end, position, segment.next_offset, next_offset, "whole batches of other offsets")
        segment.size, segment.next_offset = position, next_offset
    return position


def _take_checkpoint(segment: Segment, size: int, following: int, steady_ms: int) -> int:
    """Take over what the summary of a segment vouches for. Returns the position to read on from."""
    mark = segment.read_mark()
    if mark is None or mark.position > size or mark.next_offset > following:
        return 0
    indexes = segment.read_indexes(mark)
    summary = segment.read_summary()
    if indexes is None or summary is None:
        return 0
    _take(segment, mark, steady_ms)
    segment.builder = IndexBuilder.resume(segment.base_offset, *indexes)
    segment.adopt_summary(summary)
    return mark.position


def _take(segment: Segment, mark: Mark, steady_ms: int) -> None:
    """Take over a mark. One of the first form knows no age but what events say, of which the future is not believed."""
    segment.take(mark)
    if mark.appended_ms == UNKNOWN and mark.max_timestamp >= 0:
        segment.age_from(min(mark.first_timestamp, steady_ms), min(mark.max_timestamp, steady_ms))


def any_batch(header: BatchHeader) -> bool:
    """A sealed segment was synced as a whole: any valid batch may follow damage."""
    return True


def first_in_group(header: BatchHeader) -> bool:
    """A batch that was written after everything before it had been synced."""
    return header.leader_epoch == FIRST_IN_GROUP


def no_batch(header: BatchHeader) -> bool:
    """Nothing is known to have been synced: the first invalid batch ends the log."""
    return False


def read_segment(
    segment: Segment,
    decoder: Decoder,
    start: int,
    size: int,
    *,
    offset_max: int,
    resume_at: Callable[[BatchHeader], bool],
) -> int:
    """Read a segment from start on and fill its offsets, indexes and summary. Returns the end of the valid part.

    resume_at: which batches behind an invalid one prove it to be damage, after which reading goes on.
    """
    position = start
    segment.read_from = segment.next_offset
    data, data_at = b"", start
    while position < size:
        at = position - data_at
        header = batch_at(data, at)
        if header is None or at + header.size > len(data):
            want = READ_BYTES if header is None else max(READ_BYTES, header.size)
            data, data_at, at = segment.read_bytes(position, min(want, size - position)), position, 0
            header = batch_at(data, 0)
            if header is not None and header.size > len(data):
                data = segment.read_bytes(position, min(header.size, size - position))
        if (
            header is not None
            and header.base_offset == segment.next_offset
            and header.next_offset <= offset_max
            and crc_is_right(data, at, header)
        ):
            if header.producer_id >= 0:
                segment.producers_seen.append((header, kind_of(data[at:at + header.size], header)))
            segment.note(position, header, _topics(data[at:at + header.size], header, decoder))
            position += header.size
            continue
        found = segment.next_valid(position, segment.next_offset, size, offset_max, resume_at)
        if found is None:
            break
        end_position, end_offset = found
        segment.add_damage(position, end_position, segment.next_offset, end_offset, "invalid batch")
        segment.next_offset, segment.size, position = end_offset, end_position, end_position
    return position


def is_zero(segment: Segment, start: int, end: int) -> bool:
    """True when the file holds zeros only: space that was reserved and not written."""
    while start < end:
        data = segment.read_bytes(start, min(READ_BYTES, end - start))
        if data.strip(b"\0"):
            return False
        start += max(1, len(data))
    return True


def _topics(batch: bytes, header: BatchHeader, decoder: Decoder) -> list[str]:
    if header.attributes & CONTROL_MASK:
        return []
    events: list[Event] = []
    plain = plain_batch(batch, header)
    if decoder.fixed_topic is not None and TOPIC not in plain:      # as a Kafka producer's: nothing of it is looked at
        return [decoder.fixed_topic] * header.record_count
    decoder.events(plain, 0, header, 0, Verdicts(lambda topic: True), {}, events, 1 << 62)
    return [event.topic for event in events]
