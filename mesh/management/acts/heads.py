"""Signed heads of the audit trail: how many records there are, and the hash of the last one, by the node's key.

    $audit-heads/0   {"count", "head", "key", "node", "signature", "time_ms"}      canonical JSON

A chain alone can be made anew from any record on, or cut at its end. A head says what it was: kept elsewhere (`meshgate
audit head`), it proves that even against who has the data directory with its key. One is signed with the first record
after a pause, then once a second while there are more, and when the node stops.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.identity.node_key import NodeKey, is_signed
from mesh.management.acts.chain import Broken
from routing.errors import ConfigError
from routing.event import Event
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition

logger = logging.getLogger(__name__)

STREAM: Final = "$audit-heads"
EVERY_S: Final = 1.0


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """count: records from the first one that there ever was, so the last one has the offset count - 1."""

    count: int
    head: str
    key: str
    node: str
    time_ms: int
    signature: str = ""

    def signed_bytes(self) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self, signature=""), order="sorted")


class Heads:
    """One per node. Loop thread only."""

    def __init__(self, partition: Partition, key: NodeKey, node: str, clock_ms: Callable[[], int],
                 clock_s: Callable[[], float], request_turn: Callable[[], None]) -> None:
        self._partition = partition
        self._key = key
        self._node = node
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self._request_turn = request_turn
        self._due_s = 0.0
        self._unsigned: tuple[int, str] | None = None

    def moved(self, count: int, head: str) -> None:
        """There are more records, on disk."""
        self._unsigned = count, head
        self.tick()

    def tick(self) -> None:
        now_s = self._clock_s()
        if self._unsigned is not None and now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            try:
                self._write(self.sign(*self._unsigned))
            except (ConfigError, OSError) as error:
                logger.error("the audit trail is not signed: %s", error)
            self._unsigned = None

    def stop(self) -> None:
        self._due_s = 0.0
        self.tick()

    def sign(self, count: int, head: str) -> Head:
        found = Head(count, head, self._key.public, self._node, self._clock_ms())
        return msgspec.structs.replace(found, signature=self._key.sign(found.signed_bytes()))

    def _write(self, head: Head) -> None:
        """A disk that does not take it: the next one says more."""
        events = [Event(topic="head", payload=msgspec.json.encode(head, order="sorted"))]
        ticket = Ticket(events)
        self._partition.append(events, ticket)
        ticket.part_done()
        self._request_turn()


def heads_problem(heads: Iterable[bytes], digests: Callable[[int], str | None], end: int,
                  key: str) -> tuple[int, Broken | None]:
    """Do signed heads fit the records?  digests(offset): hash of a record, None: it is not there (any more).

    end: the offset after the last record.  key: that must have signed them, "" for that of the first one.
    Returns how many fit.
    """
    count = 0
    for number, payload in enumerate(heads):
        found = head_of(payload)
        if found is None:
            return count, Broken(number, "this is no signed head")
        key = key or found.key
        if found.key != key or not is_signed(key, found.signature, found.signed_bytes()):
            return count, Broken(number, "a head is not signed by the node's key")
        problem = head_problem(found, digests, end)
        if problem is not None:
            return count, problem
        count += 1
    return count, None


def head_problem(head: Head, digests: Callable[[int], str | None], end: int) -> Broken | None:
    if head.count > end:
        return Broken(end, f"the tail is cut: a signed head says that there were {head.count} records")
    digest = digests(head.count - 1)
    if digest is not None and digest != head.head:
        return Broken(head.count - 1, "this record is not the one that the node signed")
    return None


def head_of(payload: bytes) -> Head | None:
    try:
        return msgspec.json.decode(payload, type=Head)
    except msgspec.MsgspecError:
        return None


def as_values(head: Head) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(head, order="sorted"), type=dict[str, Any])
