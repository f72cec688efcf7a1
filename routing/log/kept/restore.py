"""From the files in kept/ to segments, after any kind of end. Called when a partition is opened.

What is whole counts (lifting.py). A segment whose range another one covers was merged into that one; one that begins in
the log is there, too, since the old segments could not be deleted: both go.
"""
from __future__ import annotations

import logging
from pathlib import Path

from routing.log.fs import FileSystem
from routing.log.kept.lifting import CLEANED, DIRECTORY, KEPT, SWAP, remove_kept, settle
from routing.log.records.decode import Decoder
from routing.log.recovery.inventory import OFFSET_MAX, base_of
from routing.log.recovery.recovery import any_batch, read_segment
from routing.log.segments.index import IndexBuilder
from routing.log.segments.segment import Segment

log = logging.getLogger(__name__)


def restore_kept(fs: FileSystem, directory: Path, decoder: Decoder, log_start: int) -> list[Segment]:
    """directory: the partition's. log_start: where its log begins. Raises OSError."""
    place = directory / DIRECTORY
    if not fs.exists(place):
        return []
    names = fs.names(place)
    for name in names:
        base = base_of(name, SWAP)
        if base is not None:
            settle(Segment(fs, place, base, suffix=KEPT))
        elif name.endswith((CLEANED, ".tmp")):
            fs.remove(place / name)
    bases = sorted(base for base in (base_of(name, KEPT) for name in fs.names(place)) if base is not None)
    segments: list[Segment] = []
    for base in bases:
        segment = _restored(fs, place, base, decoder)
        if base >= log_start or (segments and segment.next_offset <= segments[-1].next_offset):
            segment.close()
            remove_kept(segment)
        else:
            segments.append(segment)
    return segments


def _restored(fs: FileSystem, place: Path, base: int, decoder: Decoder) -> Segment:
    segment = Segment(fs, place, base, suffix=KEPT)
    mark = segment.read_mark()
    size = segment.file().size()
    if mark is not None and mark.position == size:
        segment.take(mark)
        segment.close()
        return segment
    segment.builder = IndexBuilder(base)
    log.warning("%s: no summary that fits; reading it", segment.path())
    end = read_segment(segment, decoder, 0, size, offset_max=OFFSET_MAX, resume_at=any_batch)
    if end < size:
        segment.add_damage(end, size, segment.next_offset, segment.next_offset + 1, "a kept segment ends early")
    segment.size = size
    segment.seal()()
    return segment
