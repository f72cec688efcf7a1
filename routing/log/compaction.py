"""Key compaction: rewrite sealed segments so that only the last record of each key stays.

Decided by partition.py on the loop, run by `clean` on the keeper thread, which touches nothing of the loop: it gets
the paths and bounds of the sources and gives back finished files.

A record keeps its offset and its bytes; what is removed leaves no hole (segments/rewriting.py).

    <base>.log.cleaned   being written; worthless after a crash
    <base>.log.swap      complete and synced: from here on it counts, and replaces every segment in its range
    <base>.log           after the replaced segments are gone

A tombstone (null value) stays for tombstone_ms of the stream, so that readers who are behind learn of the deletion.
"""
from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import msgspec

from routing.log.crash import crash_point
from routing.log.fs import FileSystem
from routing.log.producing.producers import ProducerTable
from routing.log.records.batch import CONTROL_MASK, HEADER_BYTES
from routing.log.records.decode import Decoder, plain_batch
from routing.log.segments.mark import UNKNOWN
from routing.log.segments.rewriting import CleaningFailed, Output, Source, batches_of, spans
from routing.log.segments.segment import Found, Segment, segment_name
from routing.log.segments.sidecars import LOG, SUFFIXES

log = logging.getLogger(__name__)

CLEANED, SWAP = ".log.cleaned", ".log.swap"

DIRTY_SHARE_MIN = 0.5                       # Kafka's min.cleanable.dirty.ratio
SOURCES_MAX = 64                            # segments of one run
KEYS_MAX = 2_000_000                        # keys of one run held in memory; the rest waits for the next run


class Cleaned(msgspec.Struct):
    """A finished segment and what it replaces."""

    segment: Segment
    sources: list[Source]


def keep_tombstones_ms(tombstone_ms: int) -> int:
    """A tenth more than is set: stamps may run faster by so much (routing/clock.py, RATE)."""
    return tombstone_ms * 11 // 10


def wants_cleaning(segments: Sequence[Segment], clean_until: int, end_offset: int,
                   appended_until_ms: int | None = None) -> list[Segment]:
    """The sealed segments that one run should clean; empty when it is not worth it yet.

    clean_until: the offset up to which the last run has cleaned. end_offset: behind it a transaction is open.
    appended_until_ms: what was appended later is not touched yet, nor what stands behind it; None: that counts nothing.
    """
    def ripe(segment: Segment) -> bool:
        return segment.next_offset <= end_offset and (
            appended_until_ms is None or UNKNOWN != segment.appended_ms <= appended_until_ms)

    sealed = list(takewhile(ripe, segments[:-1]))[:SOURCES_MAX]
    if any(segment.damage for segment in sealed):
        return []                           # what is broken stays as it is, and so does what surrounds it
    total = sum(segment.size for segment in sealed)
    dirty = sum(segment.size for segment in sealed if segment.next_offset > clean_until)
    return sealed if dirty and dirty >= DIRTY_SHARE_MIN * total else []


def clean(
    fs: FileSystem, directory: Path, sources: list[Source], decoder: Decoder, segment_bytes: int,
    tombstones_before_ms: int, aborted: ProducerTable | None = None,
) -> list[Cleaned]:
    """Write the cleaned segments as .swap files; tombstones that are older go, and what aborted transactions left.

    Raises OSError and CleaningFailed, and then leaves no file behind.
    """
    aborted = aborted or ProducerTable()
    newest, covered = _newest_offsets(fs, directory, sources, aborted)
    done: list[Cleaned] = []
    try:
        output: Output | None = None
        for source in sources[:covered]:
            if output is None or not output.takes(source, done[-1].sources, segment_bytes):
                if output is not None:
                    output.finish(done[-1].sources[-1].next_offset)
                output = Output(fs, directory, source.base_offset, decoder, CLEANED)
                done.append(Cleaned(output.segment, []))
            done[-1].sources.append(source)
            output.segment.age_from(source.opened_ms, source.appended_ms)
            for found in batches_of(fs, directory, source):
                if found.header.attributes & CONTROL_MASK or not _is_hidden(aborted, found):
                    _take_over(output, found, newest, tombstones_before_ms)
        if output is not None:
            output.finish(done[-1].sources[-1].next_offset)
        crash_point("in_compaction")
        for cleaned in done:        # each in turn: a tombstone must not go before the value that it deletes
            fs.rename(cleaned.segment.path(CLEANED), cleaned.segment.path(SWAP))
            fs.sync_directory(directory)
    except (OSError, CleaningFailed):
        for cleaned in done:
            cleaned.segment.close()
            with contextlib.suppress(OSError):
                fs.remove(cleaned.segment.path(CLEANED))
                fs.remove(cleaned.segment.path(SWAP))
        raise
    crash_point("in_compaction")
    return done


def put_in_place(fs: FileSystem, directory: Path, base_offset: int, replaced: Sequence[int]) -> None:
    """Remove the replaced segments and give the .swap file its name. replaced: base offsets, base_offset or not."""
    for base in replaced:
        if base != base_offset:
            remove_segment(fs, directory, base)
            crash_point("in_compaction")
    for suffix in SUFFIXES:
        if suffix != LOG:
            fs.remove(directory / (segment_name(base_offset) + suffix))
    swap = directory / (segment_name(base_offset) + SWAP)
    if fs.exists(swap):                     # else an earlier try got so far
        fs.rename(swap, directory / (segment_name(base_offset) + LOG))
    fs.sync_directory(directory)
    crash_point("in_compaction")


def remove_segment(fs: FileSystem, directory: Path, base_offset: int) -> None:
    """Delete a segment's files, the log first: sidecars without a log are swept at the next start."""
    for suffix in SUFFIXES:
        fs.remove(directory / (segment_name(base_offset) + suffix))


# ------------------------------------------------------------------------------------------------------- helpers

def _is_hidden(aborted: ProducerTable, found: Found) -> bool:
    header = found.header
    return aborted.hides(header.attributes, header.producer_id, header.base_offset)


def _newest_offsets(fs: FileSystem, directory: Path, sources: list[Source],
                    aborted: ProducerTable) -> tuple[dict[bytes, int], int]:
    """Key -> offset of its last record in the sources, and how many sources that covers."""
    newest: dict[bytes, int] = {}
    for index, source in enumerate(sources):
        if index and len(newest) > KEYS_MAX:
            return newest, index
        for found in batches_of(fs, directory, source):
            if _is_hidden(aborted, found):              # control records among them
                continue
            plain = plain_batch(found.raw(), found.header)
            newest.update((span[0], span[1]) for span in spans(plain, found.header) if span[0] is not None)
    return newest, len(sources)


def _take_over(output: Output, found: Found, newest: dict[bytes, int], tombstones_before_ms: int) -> None:
    """Take over what is to stay of a batch."""
    header = found.header
    plain = plain_batch(found.raw(), header)
    if header.attributes & CONTROL_MASK:
        output.hold(header, plain[HEADER_BYTES:], header.record_count, header.max_timestamp)
        return
    kept: list[bytes] = []
    max_timestamp = -1
    for key, offset, timestamp, is_null, start, end in spans(plain, header):
        if key is not None and newest[key] != offset:
            continue
        if key is not None and is_null and timestamp < tombstones_before_ms:
            continue
        kept.append(plain[start:end])
        max_timestamp = max(max_timestamp, timestamp)
    if kept:
        output.hold(header, b"".join(kept), len(kept), max_timestamp)
