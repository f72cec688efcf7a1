"""The producer table of a partition at start: its file, and the headers of the batches behind it.

Called by partition.py when it is made. Recovery has read the log from the last checkpoint on, and has kept the headers
that matter. Where the file does not reach to there, and a mark says that there was one, all of the log is read.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from routing.log.producing.markers import kind_of
from routing.log.producing.producers import ProducerTable
from routing.log.records.batch import BatchHeader
from routing.log.records.origins import OriginTable
from routing.log.segments.segment import Segment

log = logging.getLogger(__name__)


def restore(table: ProducerTable, segments: Sequence[Segment], steady_ms: int, origins: OriginTable) -> None:
    """Fill an empty table. segments: as recovered. origins: what came from other nodes, whose ids mean nothing here."""
    active = segments[-1]
    known = table.load(active.fs, active.directory, active.next_offset)
    needed = read_from(segments)
    if known < needed and (known >= 0 or any(segment.had_producers for segment in segments)):
        log.warning("%s: no list of producers up to offset %d: reading the log for it", active.directory, needed)
        found = _headers(segments, max(known, 0))
    else:
        found = (pair for segment in segments for pair in segment.producers_seen)
    own = (pair for pair in found if origins.at(pair[0].base_offset) is None)
    table.replay(own, max(known, 0), steady_ms)
    for segment in segments:
        segment.producers_seen = []
    active.had_producers = bool(table)


def read_from(segments: Sequence[Segment]) -> int:
    """The offset from which on recovery has looked at every batch."""
    needed = segments[-1].next_offset
    for segment in reversed(segments):
        if segment.read_from < 0:                       # taken as its mark says
            break
        needed = segment.read_from
        if needed > segment.base_offset:
            break
    return needed


def _headers(segments: Sequence[Segment], offset: int) -> Iterator[tuple[BatchHeader, int]]:
    for segment in segments:
        if segment.next_offset <= offset:
            continue
        for found in segment.batches(0, segment.base_offset):
            if found.header.producer_id >= 0:
                yield found.header, kind_of(found.raw(), found.header)
        if segment.builder is None:
            segment.close()
