"""The open group of a partition: events that wait for the next commit, and the tickets of those that are not durable.

Used by partition.py on the loop.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from routing.event import Event
from routing.log.producing.raw import RawBatch, Run
from routing.log.records.batch import BATCH_BYTES, BATCH_BYTES_MAX
from routing.log.records.encode import Encoder
from routing.ticket import Ticket


class OpenGroup:
    __slots__ = ("_encoder", "_tickets", "_waiting", "compact")

    def __init__(self, *, compact: bool) -> None:
        self.compact = compact
        self._encoder = Encoder()
        self._waiting: list[list[Event] | RawBatch] = []
        self._tickets: deque[tuple[int, int, Ticket]] = deque()     # offset after its events, cost in bytes, ticket

    def __bool__(self) -> bool:
        """True when something waits for a commit."""
        return bool(self._waiting)

    def add(self, events: list[Event]) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, list):
            last += events
        else:
            self._waiting.append(events[:])

    def add_raw(self, batch: RawBatch) -> None:
        self._waiting.append(batch)

    def forget(self) -> Iterator[None]:
        """See Encoder.forget()."""
        return self._encoder.forget()

    def owe(self, end_offset: int, cost: int, ticket: Ticket) -> None:
        """The ticket is done when everything below end_offset is durable. cost: bytes that it holds in memory."""
        self._tickets.append((end_offset, cost, ticket))

    def next_batch(self, *, first_in_group: bool) -> tuple[bytes, Run]:
        """Take the next batch off the group."""
        waiting = self._waiting[0]
        if isinstance(waiting, RawBatch):
            del self._waiting[0]
            return waiting.placed(first_in_group=first_in_group), waiting
        # What is appended together to a compacted stream becomes durable together: one batch, up to 64 MiB.
        bytes_max = BATCH_BYTES_MAX // 2 if self.compact else BATCH_BYTES
        data, after = self._encoder.encode(
            waiting, first_in_group=first_in_group, bytes_max=bytes_max, tombstones=self.compact
        )
        if after == len(waiting):
            del self._waiting[0]
            return data, waiting
        self._waiting[0] = waiting[after:]
        return data, waiting[:after]

    def paid(self, end_offset: int) -> tuple[list[Ticket], int]:
        """The tickets that are done now, and what they cost."""
        done: list[Ticket] = []
        total = 0
        while self._tickets and self._tickets[0][0] <= end_offset:
            _, cost, ticket = self._tickets.popleft()
            total += cost
            done.append(ticket)
        return done, total

    def clear(self) -> tuple[list[Ticket], int]:
        """Give up everything. Returns the tickets and what they cost."""
        tickets = [ticket for _, _, ticket in self._tickets]
        cost = sum(cost for _, cost, _ in self._tickets)
        self._tickets.clear()
        self._waiting.clear()
        return tickets, cost
