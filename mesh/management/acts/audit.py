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

from mesh.identity.node_key import NodeKey
from mesh.management.acts.call import Call, Endpoint, Values
from mesh.management.acts.chain import digest
from mesh.management.acts.heads import STREAM as HEADS_STREAM
from mesh.management.acts.heads import Head, Heads, as_values
from protocols.scheduling.tickets import durable
from routing.event import Event
from routing.rights.policy import Action, Identity
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

    def __init__(self, router: Router, clock_ms: Callable[[], int], key: NodeKey, node: str) -> None:
        self._router = router
        self._clock_ms = clock_ms
        self._partition = router.streams.open_internal(STREAM, compact=False)
        self._head = self._last_hash()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[int]] = set()
        self.heads = Heads(router.streams.open_internal(HEADS_STREAM, compact=False), key, node, clock_ms,
                           router.clock_s, router.request_turn)
        if self._partition.end_offset:      # the node was killed before the last one was signed
            self.heads.moved(self._partition.end_offset, self._head)

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
            "reason": reason[:TEXT_CHARACTERS_MAX], "before": before, "after": after,
        }
        task = asyncio.get_running_loop().create_task(self._append(act, values))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)       # who asked may go; what is under way is finished

    async def _append(self, act: str, values: dict[str, Any]) -> int:
        """One at a time: none is chained to one that the disk then refuses."""
        async with self._turn:
            event = Event(topic=act, payload=_encoder.encode({**values, "previous": self._head}))
            ticket = Ticket([event])
            self._partition.append([event], ticket)
            ticket.part_done()
            self._router.request_turn()
            await durable(ticket)
            if ticket.refusals:
                raise AuditRefused(ticket.refusals[0])
            self._head = digest(event.payload)
            self.heads.moved(event.offset + 1, self._head)
            return event.offset

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("GET", "audit/head", Action.AUDIT, "The signed head of the audit trail, to be kept elsewhere.",
                         self._answer_head)]

    async def _answer_head(self, call: Call) -> Values:
        return as_values(self.signed_head())

    def signed_head(self) -> Head:
        """Of what is on disk now."""
        return self.heads.sign(self._partition.end_offset, self._head)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The newest records, oldest first, each with its id."""
        partition = self._partition
        offset = max(partition.start_offset, partition.end_offset - LISTED_MAX)
        while offset < partition.end_offset:
            found = partition.scan(offset, lambda _: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
            for event in found.events:
                yield {"id": event.offset, **msgspec.json.decode(event.payload, type=dict[str, Any])}
            offset = max(found.next_offset, offset + 1)
