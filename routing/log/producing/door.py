"""The door of one partition for batches of Kafka producers: check, ask, append, in the order in which they came.

    submit ── small: checked at once ───────────────────────────┐
       └───── large, or behind one: queue ── checker thread ──► let in ── producer table ── open group

A batch that is large, or that may become so when it is opened, is checked on a thread, and those behind it wait: the
loop never works on one batch for long, and order holds. What waits here counts to the bytes that wait for the disk.

Called by partition.py, on the loop.
"""
from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from routing.errors import Fault, Reason, Refusal
from routing.log.opening import INLINE_EXPANDED_BYTES
from routing.log.producing.producers import ProducerTable, Sent
from routing.log.producing.raw import (
    INLINE_RECORDS,
    Checked,
    ChecksumError,
    CodecError,
    ExpandsTooMuch,
    RawBatch,
    Terms,
    TooLarge,
    check,
    may_check_inline,
    without_own_headers,
)
from routing.log.records.batch import BatchError
from routing.log.records.decode import Decoder
from routing.log.records.origins import Came
from routing.ticket import Part, Ticket

log = logging.getLogger(__name__)

# Who decides, on the loop, whether a checked batch may come in: its topics, a Refusal, or the topics that its records
# may go on naming, when headers of the node's own must be renamed first.
Verdict = Counter[str] | Refusal | frozenset[str]
Ask = Callable[[Checked], Verdict]


class Owner(Protocol):
    """What the door needs of the store."""

    pending_bytes: int

    def check(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...
    def kick(self) -> None: ...
    def answer(self, ticket: Ticket) -> None: ...


class Log(Protocol):
    """What the door needs of its partition."""

    decoder: Decoder
    producers: ProducerTable
    next_offset: int
    high_watermark: int

    def refusal(self) -> Refusal | None: ...
    def append_checked(self, batch: RawBatch, ticket: Ticket) -> None: ...
    def owe(self, end_offset: int, ticket: Ticket) -> None: ...


class _Waiting:
    """A batch on its way in."""

    __slots__ = ("ask", "batch", "came", "checked", "cost", "part", "ready", "refusal", "terms", "ticket")

    def __init__(self, batch: bytes, terms: Terms, ask: Ask, part: Part, ticket: Ticket, came: Came | None) -> None:
        self.batch = batch
        self.came = came
        self.cost = len(batch)              # bytes that it counts for while it waits
        self.terms = terms
        self.ask = ask
        self.part = part
        self.ticket = ticket
        self.checked: Checked | None = None
        self.refusal: Refusal | None = None
        self.ready = False

    def check(self) -> None:
        """On any thread."""
        try:
            self.checked = check(self.batch, self.terms)
        except BatchError as error:
            self.refusal = _refusal(error)
        except Exception:
            log.exception("a fault of ours while checking a batch")
            self.refusal = Refusal(Reason.PAYLOAD_INVALID, "record batch: internal error", fault=Fault.RECORD)
        self.ready = True

    def rename(self, allowed: frozenset[str]) -> None:
        """On any thread."""
        assert self.checked is not None
        try:
            self.batch = without_own_headers(self.checked, allowed.__contains__)
            self.checked = check(self.batch, self.terms)
        except BatchError as error:
            self.refusal = _refusal(error)
        self.ready = True


class RawDoor:
    __slots__ = ("_owner", "_partition", "_queue")

    def __init__(self, partition: Log, owner: Owner) -> None:
        self._partition = partition
        self._owner = owner
        self._queue: deque[_Waiting] = deque()

    def submit(self, batch: bytes, terms: Terms, ask: Ask, ticket: Ticket, came: Came | None = None) -> Part:
        """Take a batch in. The answer is a part of the ticket, complete when the ticket is. came: from another node."""
        partition = self._partition
        ticket.waiting += 1
        part = Part(partition, -1, 0)
        ticket.parts = [*ticket.parts, part]
        waiting = _Waiting(batch, terms, ask, part, ticket, came)
        waiting.refusal = partition.refusal()
        if waiting.refusal is not None:
            self._answer(waiting, waiting.refusal)
        elif not self._queue and may_check_inline(batch):
            self._check_inline(waiting)
        else:
            self._enqueue(waiting, waiting.check)
        return part

    def _check_inline(self, waiting: _Waiting) -> None:
        terms = waiting.terms
        try:
            small = Terms(terms.batch_bytes_max, terms.record_bytes_max, terms.headers_max,
                          min(INLINE_EXPANDED_BYTES, terms.expanded_bytes_max), terms.keyed, terms.topic_of)
            waiting.checked = check(waiting.batch, small)
        except ExpandsTooMuch as error:
            if small.expanded_bytes_max == terms.expanded_bytes_max:
                self._answer(waiting, _refusal(error))
            else:
                self._enqueue(waiting, waiting.check)           # a thread may open it as far as the setting goes
            return
        except BatchError as error:
            self._answer(waiting, _refusal(error))
            return
        waiting.ready = True
        self._let_in(waiting)

    def _enqueue(self, waiting: _Waiting, work: Callable[[], None], *, first: bool = False) -> None:
        owner = self._owner
        if first:
            self._queue.appendleft(waiting)
        else:
            self._queue.append(waiting)
        owner.pending_bytes += waiting.cost

        def run() -> None:
            work()
            owner.on_loop(self._drain)

        waiting.ready = False
        owner.check(run)

    def _drain(self) -> None:
        owner = self._owner
        while self._queue and self._queue[0].ready:
            waiting = self._queue.popleft()
            owner.pending_bytes -= waiting.cost
            self._let_in(waiting)
        owner.kick()

    def _let_in(self, waiting: _Waiting) -> None:
        partition = self._partition
        refusal = waiting.refusal or partition.refusal()
        if refusal is not None or waiting.checked is None:
            self._answer(waiting, refusal)
            return
        verdict = waiting.ask(waiting.checked)
        if isinstance(verdict, frozenset):
            named = verdict
            if waiting.checked.records > INLINE_RECORDS or waiting.checked.plain_bytes > INLINE_EXPANDED_BYTES:
                self._enqueue(waiting, lambda: waiting.rename(named), first=True)
                return
            waiting.rename(named)
            if waiting.refusal is not None:
                self._answer(waiting, waiting.refusal)
                return
            verdict = waiting.ask(waiting.checked)
            assert not isinstance(verdict, frozenset), "every header of the node's own was renamed"
        if isinstance(verdict, Refusal):
            self._answer(waiting, verdict)
            return
        self._append(waiting, waiting.checked, verdict)

    def _append(self, waiting: _Waiting, checked: Checked, topics: Counter[str]) -> None:
        partition = self._partition
        header = checked.header
        counts = header.producer_id >= 0 and waiting.came is None       # ids of other nodes mean nothing here
        if counts:
            known = partition.producers.judge(header)
            if isinstance(known, Refusal):
                self._answer(waiting, known)
                return
            if isinstance(known, Sent):                 # a repeat: it is answered when the first one is
                waiting.part.base_offset = known.base_offset
                waiting.part.count = known.next_offset - known.base_offset
                waiting.part.repeat = True
                if known.next_offset <= partition.high_watermark:
                    self._answer(waiting, None)
                else:
                    partition.owe(known.next_offset, waiting.ticket)
                return
        waiting.part.base_offset = base_offset = partition.next_offset
        waiting.part.count = checked.records
        raw = RawBatch(checked.data, header, base_offset, topics, partition.decoder,
                       plain_bytes=checked.plain_bytes, came=waiting.came)
        if counts:
            partition.producers.queued(header, base_offset)
        partition.append_checked(raw, waiting.ticket)

    def _answer(self, waiting: _Waiting, refusal: Refusal | None) -> None:
        """Done with the batch, but never within submit()."""
        waiting.part.refusal = refusal
        self._owner.answer(waiting.ticket)


def _refusal(error: BatchError) -> Refusal:
    text = f"record batch: {error}"
    if isinstance(error, ChecksumError):
        return Refusal(Reason.PAYLOAD_INVALID, text, fault=Fault.CHECKSUM)
    if isinstance(error, CodecError):
        return Refusal(Reason.PAYLOAD_INVALID, text, fault=Fault.CODEC)
    if isinstance(error, (TooLarge, ExpandsTooMuch)):
        return Refusal(Reason.PAYLOAD_TOO_LARGE, text, fault=Fault.TOO_LARGE)
    return Refusal(Reason.PAYLOAD_INVALID, text, fault=Fault.RECORD)
