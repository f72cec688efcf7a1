"""The audit trail: who did what, from where, why, with which outcome. Append-only; each is chained to the one before.

    _audit/0   record n:  {"time_ms", "user", …, "previous": SHA-256 of the payload of record n-1, ""  of the first}

A record is the canonical JSON of its fields (names sorted, no blanks), so that anybody can prove the chain from a copy
of the log: `meshgate audit verify`. An act waits until its record is on disk: what is not written down is not done.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.management.acts.chain import digest
from routing.event import Event
from routing.rights.policy import Identity
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.errors import Refusal
    from routing.router import Router

STREAM: Final = "$audit"
TEXT_CHARACTERS_MAX: Final = 500        # of a reason or target; the rest is cut
LISTED_MAX: Final = 10_000              # records that the table shows, the newest
SCAN_STEP: Final = 512

_encoder = msgspec.json.Encoder(order="sorted", enc_hook=str)


class AuditRefused(Exception):
    """The record could not be stored, so the act is not done."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class Audit:
    """One per node. Loop thread only."""

    def __init__(self, router: Router, clock_ms: Callable[[], int]) -> None:
        self._router = router
        self._clock_ms = clock_ms
        self._partition = router.streams.open_internal(STREAM, compact=False)
        self._head = self._last_hash()

    def _last_hash(self) -> str:
        end = self._partition.end_offset
        last = self._partition.event(end - 1) if end > self._partition.start_offset else None
        return digest(last.payload) if last is not None else ""

    async def record(self, identity: Identity, act: str, target: str, *, outcome: str = "done", reason: str = "",
                     before: object = None, after: object = None, via: str = "api") -> int:
        """Write a record and wait for the disk. Returns its id. Raises AuditRefused."""
        values = {
            "time_ms": self._clock_ms(), "user": identity.user, "roles": list(identity.roles), "via": via,
            "address": identity.address, "act": act, "target": target[:TEXT_CHARACTERS_MAX], "outcome": outcome,
            "reason": reason[:TEXT_CHARACTERS_MAX], "before": before, "after": after, "previous": self._head,
        }
        payload = _encoder.encode(values)
        event = Event(topic=act, payload=payload)
        before_head, self._head = self._head, digest(payload)
        ticket = Ticket([event])
        self._partition.append([event], ticket)
        ticket.part_done()
        self._router.request_turn()
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket.on_done(lambda _: None if stored.done() else stored.set_result(None))
        await stored
        if ticket.refusals:
            if self._head == digest(payload):
                self._head = before_head
            raise AuditRefused(ticket.refusals[0])
        return event.offset

    def rows(self) -> Iterator[dict[str, Any]]:
        """The newest records, oldest first, each with its id."""
        partition = self._partition
        offset = max(partition.start_offset, partition.end_offset - LISTED_MAX)
        while offset < partition.end_offset:
            found = partition.scan(offset, lambda _: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
            for event in found.events:
                yield {"id": event.offset, **msgspec.json.decode(event.payload, type=dict[str, Any])}
            offset = max(found.next_offset, offset + 1)
