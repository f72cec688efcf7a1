"""Ticket: the promise that the events of one publish call are durable."""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from routing.errors import Refusal
from routing.event import Event

log = logging.getLogger(__name__)


class Part(msgspec.Struct):
    """A batch that was appended raw: its place, and why it is not in the log, if it is not.

    Final when the ticket is done.
    """

    partition: Any
    base_offset: int                    # -1: it has none (yet)
    count: int                          # of records
    refusal: Refusal | None = None
    repeat: bool = False                # an idempotent producer had sent it before: it is in the log once, there


class Ticket:
    """Completes once, on the event loop, after the group commit of every partition that the events went to.

    refusals maps the index of an event in the published list to the reason why it is not in the log; events
    without an entry there are durable (or were routed, where no stream captures them). parts says the same of batches
    that were appended raw, whose events nobody may have looked at.
    """

    __slots__ = ("_callbacks", "events", "parts", "refusals", "waiting")

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.refusals: dict[int, Refusal] = {}
        self.parts: list[Part] | tuple[()] = ()
        self.waiting = 1        # partitions whose commit is outstanding, and the publish call until it returns
        self._callbacks: list[Callable[[Ticket], None]] = []

    @property
    def done(self) -> bool:
        return self.waiting == 0

    def on_done(self, callback: Callable[[Ticket], None]) -> None:
        """Call callback(ticket) when the ticket completes; at once if it has."""
        if self.waiting == 0:
            callback(self)
        else:
            self._callbacks.append(callback)

    def part_done(self) -> None:
        """One partition has committed its share. Called by the log, on the loop."""
        self.waiting -= 1
        if self.waiting == 0:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:                       # what waits behind it has nothing to do with it
                    log.exception("a fault of ours while answering a publisher")

    def part_failed(self, partition: Any, refusal: Refusal) -> None:
        """One partition could not store its share: its events are refused, but those that an earlier commit took."""
        for index, event in enumerate(self.events):
            if event.partition is partition and not 0 <= event.offset < partition.high_watermark:
                self.refusals.setdefault(index, refusal)
        for part in self.parts:
            if part.partition is partition and not 0 <= part.base_offset <= partition.high_watermark - part.count:
                part.base_offset, part.refusal = -1, part.refusal or refusal
        self.part_done()


def when_all(tickets: Sequence[Ticket], done: Callable[[Refusal | None], None]) -> None:
    """Call done with the first refusal when all are done, at once where there are none."""
    left = len(tickets) + 1
    first: Refusal | None = None

    def one(ticket: Ticket | None) -> None:
        nonlocal left, first
        left -= 1
        if ticket is not None and first is None:
            first = next(iter(ticket.refusals.values()), None)
        if not left:
            done(first)

    for ticket in tickets:
        ticket.on_done(one)
    one(None)


def done_ticket(refusal: Refusal | None = None) -> Ticket:
    """One for which there is nothing to wait: it is refused, or there was nothing to do."""
    ticket = Ticket(())
    if refusal is not None:
        ticket.refusals[0] = refusal
    ticket.part_done()
    return ticket
