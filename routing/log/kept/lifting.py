"""Lifting: copy what is owed out of old segments into kept ones, so that retention can have the old ones.

Run on the keeper thread; it touches nothing of the loop. A record keeps its offset and its bytes. In the directory
kept/ of the partition:

    <base>.cleaned      being written; worthless after a crash
    <base>.swap         complete and synced: from here on it counts
    <base>.kept         the same under its own name, with its sidecars

What aborted transactions left, and the marks of all, stay behind: what was lifted has no producer any more.
"""
from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from routing.event import Event
from routing.log.crash import crash_point
from routing.log.fs import FileSystem
from routing.log.kept.owed import Owed
from routing.log.producing.producers import ProducerTable
from routing.log.records.batch import TRANSACTIONAL_MASK
from routing.log.records.decode import Decoder, Seen, plain_batch
from routing.log.records.verdicts import Verdicts
from routing.log.segments.damage import Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX
from routing.log.segments.rewriting import Output, Source, spans
from routing.log.segments.segment import Found, Segment
from routing.log.segments.sidecars import INDEX, SUMMARY, TIMEINDEX

log = logging.getLogger(__name__)

DIRECTORY = "kept"
CLEANED, SWAP, KEPT = ".cleaned", ".swap", ".kept"



class TooMuch(Exception):
    """More is owed than it is worth to copy."""


def lift(fs: FileSystem, directory: Path, sources: list[Source], suffix: str, decoder: Decoder, owed: Owed,
         aborted: ProducerTable, segment_bytes: int, bytes_max: int) -> list[Segment]:
    """Write kept segments as .swap files, in order; none where nothing is owed. directory: the partition's.

    suffix: of the sources, .log, or .kept to write kept ones again. bytes_max: raises TooMuch when more is owed.
    Raises OSError, too, and then leaves no file behind.
    """
    target = directory / DIRECTORY
    fs.make_directory(target)
    outputs: list[Output] = []
    done = 0                                            # bytes of the outputs before the last
    last = 0
    try:
        for source in sources:
            if outputs and (outputs[-1].segment.size >= segment_bytes
                            or source.next_offset - outputs[-1].segment.base_offset > RELATIVE_OFFSET_MAX):
                outputs[-1].finish(last)
                done += outputs[-1].segment.size
                outputs.append(Output(fs, target, source.base_offset, decoder, CLEANED))
            elif not outputs:
                outputs.append(Output(fs, target, source.base_offset, decoder, CLEANED))
            output = outputs[-1]
            output.segment.age_from(source.opened_ms, source.appended_ms)
            place = target if suffix == KEPT else directory
            for found in _worth_reading(fs, place, source, suffix, owed):
                if aborted.hides(found.header.attributes, found.header.producer_id, found.header.base_offset):
                    continue
                _take_over(output, found, decoder, owed)
                if done + output.segment.size > bytes_max:
                    raise TooMuch
                time.sleep(0)                           # the loop waits for nothing but the interpreter
            last = source.next_offset
        if outputs:
            outputs[-1].finish(last)
        crash_point("in_lifting")
        return _put_in_place(fs, target, outputs)
    except (OSError, TooMuch):
        for output in outputs:
            output.segment.close()
            with contextlib.suppress(OSError):
                fs.remove(output.segment.path(CLEANED))
                fs.remove(output.segment.path(SWAP))
        raise


def _put_in_place(fs: FileSystem, target: Path, outputs: list[Output]) -> list[Segment]:
    segments = []
    for output in outputs:
        if output.segment.record_count:
            fs.rename(output.segment.path(CLEANED), output.segment.path(SWAP))
            output.segment.suffix = SWAP
            segments.append(output.segment)
        else:
            output.segment.close()
            fs.remove(output.segment.path(CLEANED))
    fs.sync_directory(target)
    crash_point("in_lifting")
    return segments


def settle(segment: Segment) -> None:
    """Give a .swap file its own name. The file stays open under it."""
    swap = segment.path(SWAP)
    if segment.fs.exists(swap):
        segment.fs.rename(swap, segment.path(KEPT))
        segment.fs.sync_directory(segment.directory)


def remove_kept(segment: Segment) -> None:
    """Delete the files of a kept segment."""
    for suffix in (KEPT, SWAP, INDEX, TIMEINDEX, SUMMARY):
        segment.fs.remove(segment.path(suffix))


def _worth_reading(fs: FileSystem, directory: Path, source: Source, suffix: str, owed: Owed) -> Iterator[Found]:
    """The batches of a source, but for blocks that hold nothing that is owed. What is damaged is lost already."""
    segment = Segment(fs, directory, source.base_offset, suffix=suffix)
    segment.on_damage = _ignore
    try:
        mark = segment.read_mark()
        if mark is not None and (mark.position, mark.next_offset) == (source.size, source.next_offset):
            segment.take(mark)
        segment.size, segment.next_offset = source.size, source.next_offset
        summary = segment.summary() if mark is not None else None
        if summary is None or not summary.blocks:
            yield from segment.batches(0, source.base_offset)
            return
        verdicts = Verdicts(owed.may_want, owed.patterns)
        for index, block in enumerate(summary.blocks):
            following = index + 1 < len(summary.blocks)
            end = summary.blocks[index + 1].first_offset if following else source.next_offset
            if not owed.between(block.first_offset, end) and not block.may_hold(summary, verdicts):
                continue
            for found in segment.batches(block.position, block.first_offset):
                if found.header.base_offset >= end:
                    break
                yield found
    finally:
        segment.close()


def _ignore(damage: Damage) -> None:
    pass


def _take_over(output: Output, found: Found, decoder: Decoder, owed: Owed) -> None:
    """Take over what is owed of a batch."""
    header = found.header
    plain = plain_batch(found.raw(), header)
    events: list[Event] = []
    seen: Seen = {}
    decoder.events(plain, 0, header, 0, Verdicts(owed.may_want), seen, events, 1 << 62)
    wanted = {event.offset for event in events if event.offset < owed.below and owed.takes(event)}
    wanted.update(owed.between(header.base_offset, header.next_offset))
    if not wanted:
        return
    records = []
    max_timestamp = -1
    for _, offset, timestamp, _, start, end in spans(plain, header):
        if offset in wanted:
            records.append(plain[start:end])
            max_timestamp = max(max_timestamp, timestamp)
    plainly = msgspec.structs.replace(
        header, attributes=header.attributes & ~TRANSACTIONAL_MASK, producer_id=-1, producer_epoch=-1, base_sequence=-1)
    output.hold(plainly, b"".join(records), len(records), max_timestamp)


