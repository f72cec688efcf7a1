"""Whole: the stored batches of a partition that may travel to another node as they are, and which may not.

    a Kafka producer's            as it is: what it compressed stays compressed, and its checksum stays
    the node's own, of events     opened (bodies.py): it says in each record what only counts here
    of a transaction              opened: its producer's ids and markers mean something at this node only
    what compaction has left      opened: its offsets have holes
    of another node               not at all: that one sends it itself

Only where a destination wants everything that the stream can hold, so that nobody has to look inside. Called by
outlet.py.
"""
from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.replication.filters import END, Selection
from mesh.replication.messages import OPEN
from routing.log.producing.raw import OWN_HEADERS
from routing.log.records.batch import CODEC_MASK, CONTROL_MASK, TRANSACTIONAL_MASK, BatchHeader, check_header
from routing.log.template import fixed_topic
from routing.topic import filter_covers

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.router import Router

WHOLE_BYTES_MAX: Final = 4 * 1024 * 1024        # of one batch; a frame of a link has room for twice that
NOBODY: Final = ""


class Kind(enum.Enum):
    AS_IT_IS = 1
    OPENED = 2
    PASSED = 3


class Taken(msgspec.Struct, frozen=True):
    """What may go as it is, and where to go on; with nothing before that, Whole.opened_until is beyond it."""

    batches: list[bytes]
    events: int
    first_ms: int
    next: int


class Whole:
    """Of one outlet."""

    __slots__ = ("_covers_from", "_filters", "_partition", "_router", "_selection", "opened_until")

    def __init__(self, router: Router, partition: Partition) -> None:
        self._router = router
        self._partition = partition
        self._selection: Selection | None = None
        self._filters: tuple[str, ...] = ()
        self._covers_from = END                 # all of the stream is wanted from this offset on
        self.opened_until = 0                  # what stands before is known not to go as it is

    def topic(self, selection: Selection, offset: int) -> str:
        """The topic of records that name none, when from an offset on batches may go as they are; else NOBODY."""
        stream = self._router.streams.by_name.get(self._partition.stream)
        if stream is None or offset < self.opened_until or self._partition.is_recent(offset):
            return NOBODY
        if selection is not self._selection or stream.filters is not self._filters:
            self._selection, self._filters = selection, stream.filters
            self._covers_from = _covers_from(selection, stream.filters)
        return fixed_topic(stream.settings) or NOBODY if self._covers_from <= offset else NOBODY

    def take(self, offset: int, bytes_max: int) -> Taken:
        """From offset on. Raises StorageError."""
        end_offset = self._partition.end_offset
        batches: list[bytes] = []
        events, first_ms, next_offset = 0, 0, offset
        for batch in self._partition.read(offset, bytes_max):
            header = check_header(batch)
            if header.next_offset > end_offset:
                break
            kind = self._kind(batch, header) if header.base_offset >= offset else Kind.OPENED
            if kind is Kind.OPENED:
                if not batches:
                    self.opened_until = header.next_offset
                    if next_offset == offset:           # go on to see how far that reaches
                        continue
                break
            if self.opened_until > offset:
                break
            next_offset = header.next_offset
            if kind is Kind.AS_IT_IS:
                batches.append(batch)
                events += header.record_count
                first_ms = first_ms or max(header.base_timestamp, 0)
        if next_offset == offset >= self.opened_until:         # nothing that can be read as it is: damage
            self.opened_until = max(end_offset, offset + 1)
        return Taken(batches, events, first_ms, next_offset)

    def _kind(self, batch: bytes, header: BatchHeader) -> Kind:
        if self._partition.origins.at(header.base_offset) is not None or not header.record_count or (
                header.attributes & CONTROL_MASK):
            return Kind.PASSED
        if header.attributes & TRANSACTIONAL_MASK or header.record_count != header.last_offset_delta + 1 or (
                len(batch) > WHOLE_BYTES_MAX):
            return Kind.OPENED
        if header.attributes & CODEC_MASK or header.producer_id >= 0:
            return Kind.AS_IT_IS
        return Kind.OPENED if OWN_HEADERS in batch else Kind.AS_IT_IS


def _covers_from(selection: Selection, filters: tuple[str, ...]) -> int:
    """The offset from which on everything of these filters is wanted for good; END: there is none."""
    if selection.excludes or selection.only:
        return END
    wide = [want for want in selection.wants if want.until == OPEN]
    return max((min((want.since for want in wide if filter_covers(want.filter, pattern)), default=END)
                for pattern in filters), default=END)
