"""Producers of one partition: who wrote which batches last, whose transactions are open, which were aborted.

Used by partition.py on the loop. Fed from batch headers only, so it can be made again from the log.

    known      what is committed
    pending    the same and what waits for the disk: what the next batch is compared with. Gone when a commit is refused

Kept in `<partition>/producers`, beside each checkpoint of the active segment and as often as it; recovery adds the
headers behind it. The mark of a segment says whether there was such a file, so that one which is lost is noticed: then
the headers of the whole log are read again.                                        Source: KIP-98, KIP-360
"""
from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from routing.errors import Fault, Reason, Refusal
from routing.log.catalog import read_checked, write_checked
from routing.log.fs import FileSystem
from routing.log.records.batch import CONTROL_MASK, TRANSACTIONAL_MASK, BatchHeader

log = logging.getLogger(__name__)

FILE_NAME = "producers"
BATCHES_KEPT = 5                        # Kafka's, and as many as an idempotent producer has in flight
SEQUENCES = 1 << 31                     # sequence numbers begin again at 0
PRODUCERS_MAX = 50_000                  # of one partition; the one that is silent for the longest time goes
EXPIRE_MS = 24 * 3600 * 1000            # Kafka's producer.id.expiration.ms

HIDEABLE = CONTROL_MASK | TRANSACTIONAL_MASK        # a batch without one of these bits is seen by everybody


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A batch of a producer: sequence numbers of its first and last record, base offset, and the offset after it."""

    first: int
    last: int
    base_offset: int
    next_offset: int


class Aborted(msgspec.Struct, frozen=True, array_like=True):
    """A transaction that was aborted: its first offset, that of its marker, and the stable offset before the marker."""

    producer_id: int
    first_offset: int
    last_offset: int
    stable_offset: int


class Producer(msgspec.Struct, array_like=True):
    """One producer, as the partition knows it."""

    id: int
    epoch: int
    batches: list[Sent]
    open_from: int = -1                 # first offset of its open transaction, -1: none
    last_ms: int = 0                    # steady ms of its last batch
    coordinator_epoch: int = -1

    def copy(self) -> Producer:
        return Producer(self.id, self.epoch, self.batches[:], self.open_from, self.last_ms, self.coordinator_epoch)


class Snapshot(msgspec.Struct):
    next_offset: int                    # all batches before it have been looked at
    producers: list[Producer]
    aborted: list[Aborted]


class ProducerTable:
    """Loop thread only."""

    __slots__ = ("_open", "_saved", "aborted", "known", "pending")

    def __init__(self) -> None:
        self.known: dict[int, Producer] = {}
        self.pending: dict[int, Producer] = {}
        self.aborted: list[Aborted] = []                # in the order of their markers
        self._open: dict[int, int] = {}                 # producer id → first offset of its open transaction
        self._saved = False                             # there is a file

    def __bool__(self) -> bool:
        return bool(self.known or self.aborted)

    # -- what comes in ----------------------------------------------------------------------------------------

    def judge(self, header: BatchHeader) -> Sent | Refusal | None:
        """May this batch be appended? Sent: it has been, it is a repeat of that one. None: yes."""
        producer = self.pending.get(header.producer_id) or self.known.get(header.producer_id)
        if producer is None:
            return None                                 # unknown, or forgotten: any sequence may be its first
        if header.producer_epoch < producer.epoch:
            return Refusal(Reason.CONFLICT, f"epoch {header.producer_epoch} of producer {producer.id} is over, "
                           f"{producer.epoch} has begun", fault=Fault.EPOCH)
        first = header.base_sequence
        if header.producer_epoch > producer.epoch:
            return None if first == 0 else _out_of_order(producer.id, first, 0)
        if not producer.batches:
            return None
        last = (first + header.record_count - 1) % SEQUENCES
        for sent in producer.batches:
            if (sent.first, sent.last) == (first, last):
                return sent
        expected = (producer.batches[-1].last + 1) % SEQUENCES
        return None if first == expected else _out_of_order(producer.id, first, expected)

    def queued(self, header: BatchHeader, base_offset: int) -> None:
        """The batch waits for its commit at base_offset."""
        producer = self.pending.get(header.producer_id)
        if producer is None:
            known = self.known.get(header.producer_id)
            producer = known.copy() if known is not None else Producer(header.producer_id, header.producer_epoch, [])
            self.pending[producer.id] = producer
        _note(producer, header, base_offset)

    def refused(self) -> None:
        """What waited does not come into the log."""
        self.pending.clear()

    # -- what is in the log -----------------------------------------------------------------------------------

    def committed(self, header: BatchHeader, steady_ms: int, kind: int = -1) -> None:
        """A batch with a producer id is durable. kind: of a control batch, 0 abort and 1 commit."""
        producer = self.known.pop(header.producer_id, None)
        if producer is None:
            producer = Producer(header.producer_id, header.producer_epoch, [])
        self.known[producer.id] = producer              # the last one to be dropped
        producer.last_ms = steady_ms
        if header.attributes & CONTROL_MASK:
            if header.producer_epoch > producer.epoch:
                producer.epoch, producer.batches = header.producer_epoch, []
            self._end(producer, header, kind)
            self.pending.pop(producer.id, None)
        else:
            _note(producer, header, header.base_offset)
            if header.attributes & TRANSACTIONAL_MASK and producer.open_from < 0:
                producer.open_from = header.base_offset
                self._open[producer.id] = header.base_offset
            waiting = self.pending.get(producer.id)
            if waiting is not None and waiting.epoch == producer.epoch and (
                    waiting.batches[-1].next_offset <= header.next_offset):
                del self.pending[producer.id]           # nothing else of it waits
        if len(self.known) > PRODUCERS_MAX:
            self._drop_oldest()

    def _end(self, producer: Producer, header: BatchHeader, kind: int) -> None:
        if producer.open_from >= 0:
            if kind == 0:
                first = min(self._open.values())
                self.aborted.append(Aborted(producer.id, producer.open_from, header.base_offset, first))
            producer.open_from = -1
            self._open.pop(producer.id, None)

    def _drop_oldest(self) -> None:
        for producer in self.known.values():
            if producer.open_from < 0 and producer.id not in self.pending:
                del self.known[producer.id]
                return

    def expire(self, steady_ms: int) -> None:
        """Forget those that have been silent for a day, and what they had."""
        for producer in list(self.known.values()):
            if steady_ms - producer.last_ms < EXPIRE_MS:
                return                                  # they stand in the order of their last batches
            if producer.open_from < 0 and producer.id not in self.pending:
                del self.known[producer.id]

    def forget_before(self, start_offset: int) -> None:
        """The log begins here now: what was aborted before is gone."""
        if self.aborted and self.aborted[0].last_offset < start_offset:
            self.aborted = [one for one in self.aborted if one.last_offset >= start_offset]

    # -- what may be read -------------------------------------------------------------------------------------

    def first_open(self, end_offset: int) -> int:
        """The first offset of an open transaction, end_offset when none is open."""
        return min(self._open.values()) if self._open else end_offset

    @property
    def open(self) -> dict[int, int]:
        """Producer id → first offset of its open transaction."""
        return self._open

    def hides(self, attributes: int, producer_id: int, base_offset: int) -> bool:
        """True for a batch whose records nobody is to see: control records, and those of an aborted transaction."""
        if attributes & CONTROL_MASK:
            return True
        if not attributes & TRANSACTIONAL_MASK or not self.aborted:
            return False
        index = bisect_left(self.aborted, base_offset, key=lambda one: one.last_offset)
        return any(one.producer_id == producer_id and one.first_offset <= base_offset < one.last_offset
                   for one in self.aborted[index:])

    def aborted_between(self, offset: int, end_offset: int) -> list[Aborted]:
        """Aborted transactions with a record in [offset, end_offset), by their first offset."""
        index = bisect_left(self.aborted, offset, key=lambda one: one.last_offset)
        return sorted((one for one in self.aborted[index:] if one.first_offset < end_offset),
                      key=lambda one: one.first_offset)

    def aborted_in(self, offset: int, end_offset: int) -> ProducerTable:
        """What hides() needs of [offset, end_offset), for another thread."""
        found = ProducerTable()
        index = bisect_left(self.aborted, offset, key=lambda one: one.last_offset)
        found.aborted = [one for one in self.aborted[index:] if one.first_offset < end_offset]
        return found

    # -- the file ---------------------------------------------------------------------------------------------

    def saving(self, fs: FileSystem, directory: Path, next_offset: int) -> Callable[[], None] | None:
        """A function for the keeper that writes the table as of now; None when there is nothing to write."""
        if not self and not self._saved:
            return None
        self._saved = True
        line = msgspec.json.encode(Snapshot(next_offset, list(self.known.values()), self.aborted))
        return lambda: write_checked(fs, directory / FILE_NAME, line, durable=False)

    def load(self, fs: FileSystem, directory: Path, end_offset: int) -> int:
        """Take the file. Returns the offset up to which it knows the log, -1 when there is none to be believed."""
        path = directory / FILE_NAME
        found = read_checked(fs, path, Snapshot) if fs.exists(path) else None
        if found is None:
            return -1
        self._saved = True
        if found.next_offset > end_offset:
            log.warning("%s: is ahead of the log, which has lost its end: not believed", path)
            return -1
        self.known = {producer.id: producer for producer in found.producers}
        self.aborted = found.aborted
        self._open = {producer.id: producer.open_from for producer in found.producers if producer.open_from >= 0}
        return found.next_offset

    def replay(self, headers: Iterable[tuple[BatchHeader, int]], from_offset: int, steady_ms: int) -> None:
        """Add batches of the log: their headers, and the kind of those that are control batches."""
        for header, kind in headers:
            if header.base_offset >= from_offset:
                self.committed(header, steady_ms, kind)


def _note(producer: Producer, header: BatchHeader, base_offset: int) -> None:
    if header.producer_epoch > producer.epoch:
        producer.epoch, producer.batches = header.producer_epoch, []
    if header.base_sequence >= 0:
        last = (header.base_sequence + header.last_offset_delta) % SEQUENCES
        sent = Sent(header.base_sequence, last, base_offset, base_offset + header.last_offset_delta + 1)
        producer.batches = [*producer.batches[-BATCHES_KEPT + 1:], sent]


def _out_of_order(producer_id: int, got: int, expected: int) -> Refusal:
    return Refusal(Reason.CONFLICT, f"sequence {got} of producer {producer_id}, expected {expected}",
                   fault=Fault.SEQUENCE)


