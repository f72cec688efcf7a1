"""The book of managed documents: what is in force, what was before, what is being drafted. Durable, one per node.

    $security/0, compacted by topic:   doc/KIND/NAME → Stored      revision/NUMBER → Revision (revisions.py)
                                       draft/NAME → Draft          conflict/KIND/NAME → Conflict
                                       horizon → ms

All that one apply writes is one batch: it is on disk as a whole or not at all, and counts only then.

That a document was deleted is remembered for TOMBSTONES_KEPT_MS, so that no other node brings it back. The horizon is
the latest deletion that was forgotten: a document that comes from elsewhere, is unknown here and is older than that may
be one of those, so it is not taken.
"""
from __future__ import annotations

import hashlib
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.administration.documents import Body, Key, Stored
from mesh.administration.revisions import Revision, Revisions, Step
from mesh.administration.versions import Conflict
from protocols.scheduling.tickets import durable
from routing.event import Event
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.errors import Refusal
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

STREAM: Final = "$security"
SCAN_STEP: Final = 1_000
DOCUMENTS_MAX: Final = 20_000           # that are there, …
TOMBSTONES_MAX: Final = 20_000          # … and that were deleted, which other nodes have to be told of
TOMBSTONES_KEPT_MS: Final = 90 * 86_400_000     # longer than a site is cut off
FORGOTTEN_AT_ONCE: Final = 1_000        # tombstones; then others have their turn
DRAFTS_MAX: Final = 100
CHANGES_MAX: Final = 1_000              # of one draft
VALUE_BYTES_MAX: Final = 512 * 1024     # of one draft, document or revision
CONFLICTS_KEPT: Final = 200


class Change(msgspec.Struct, frozen=True):
    """What is to become of a document. body None: delete it.  version: the one that its author has seen, "": none."""

    kind: str
    name: str
    body: Body | None
    version: str = ""

    @property
    def key(self) -> Key:
        return self.kind, self.name


class Draft(msgspec.Struct, frozen=True):
    """Changes that nobody has applied yet. shadow: it runs beside the rules in force, and differences are counted."""

    name: str
    changes: tuple[Change, ...]
    author: str
    time_ms: int
    reason: str = ""
    shadow: bool = False
    simulated_ms: int | None = None


class BookRefused(Exception):
    """The disk would not take it, so nothing was changed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class Book:
    """Loop thread only. Reads see what is on disk."""

    def __init__(self, partition: Partition, request_turn: Callable[[], None]) -> None:
        self.documents: dict[Key, Stored] = {}
        self.keys: list[Key] = []               # of the documents, in order
        self.ranks: dict[Key, tuple[int, str, str]] = {}        # Stored.rank of each
        self.marks: dict[Key, int] = {}         # of each document: other versions have other ones; see giving.py
        self.revisions = Revisions(self._value)
        self.horizon_ms = 0                     # of deletions that were forgotten
        self.drafts: dict[str, Draft] = {}
        self.conflicts: dict[Key, Conflict] = {}
        self.alive_count = 0
        self._partition = partition
        self._request_turn = request_turn
        self._load()

    def _load(self) -> None:
        found: dict[str, tuple[bytes, int]] = {}
        offset = self._partition.start_offset
        while offset < self._partition.end_offset:
            scanned = self._partition.scan(offset, lambda _: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
            for event in scanned.events:
                found.pop(event.topic, None)
                if event.payload:
                    found[event.topic] = event.payload, event.offset
            offset = scanned.next_offset
        for place, (payload, at) in sorted(found.items(), key=_in_order):
            self._take(place, payload, at)

    def _value(self, offset: int) -> bytes | None:
        event = self._partition.event(offset)
        return event.payload if event is not None else None

    def _take(self, place: str, payload: bytes, offset: int) -> None:
        """One value of the log. What cannot be read is reported and passed over: it must not keep a node down."""
        what = place.partition("/")[0]
        try:
            if what == "doc":
                stored = msgspec.msgpack.decode(payload, type=Stored)
                self._put(stored)
            elif what == "revision":
                self.revisions.add(msgspec.msgpack.decode(payload, type=Revision), offset, len(payload))
            elif what == "horizon":
                self.horizon_ms = msgspec.msgpack.decode(payload, type=int)
            elif what == "draft":
                draft = msgspec.msgpack.decode(payload, type=Draft)
                self.drafts[draft.name] = draft
            elif what == "conflict":
                conflict = msgspec.msgpack.decode(payload, type=Conflict)
                self.conflicts[conflict.kept.key] = conflict
        except msgspec.MsgspecError as error:
            log.error("stored %s cannot be read and is left alone: %s", place, error)

    def _put(self, stored: Stored) -> None:
        key = stored.key
        before = self.documents.get(key)
        if before is None:
            insort(self.keys, key)
        self.alive_count += (stored.body is not None) - (before is not None and before.body is not None)
        self.documents[key] = stored
        self.ranks[key] = rank = stored.rank
        self.marks[key] = mark_of(key, rank)

    @property
    def revision(self) -> int:
        """The number of the last apply."""
        return self.revisions.last

    @property
    def tombstone_count(self) -> int:
        return len(self.documents) - self.alive_count

    def current(self, key: Key) -> Stored | None:
        """None: there is none, and there never was."""
        return self.documents.get(key)

    def version_of(self, key: Key) -> str:
        """What a change of it has to name; "" where there is no document (any more)."""
        stored = self.documents.get(key)
        return stored.version if stored is not None and stored.body is not None else ""

    def alive(self, kind: str = "") -> Iterator[Stored]:
        """Documents that are not deleted."""
        return iter([stored for stored in self.documents.values()
                     if stored.body is not None and kind in ("", stored.kind)])

    # -- changes ----------------------------------------------------------------------------------------------

    async def apply(self, steps: tuple[Step, ...], conflicts: Iterable[Conflict], *, author: str, reason: str,
                    time_ms: int, source: str = "", draft: str = "") -> Revision:
        """Store a revision with its documents; draft: the one that it was, which goes. Raises BookRefused."""
        revision = Revision(self.revision + 1, time_ms, author, reason, steps, source)
        conflicts = list(conflicts)
        values: dict[str, Any] = {f"doc/{step.after.kind}/{step.after.name}": step.after for step in steps}
        encoded = msgspec.msgpack.encode(revision)
        values[f"revision/{revision.number}"] = msgspec.Raw(encoded)
        values.update({f"conflict/{one.kept.kind}/{one.kept.name}": one for one in conflicts})
        old = self.revisions.too_old(len(encoded))
        values.update({f"revision/{number}": None for number in old})
        if draft in self.drafts:
            values[f"draft/{draft}"] = None
        settled = [step.key for step in steps if self._settles(step.after, source)]
        values.update({f"conflict/{kind}/{name}": None for kind, name in settled})
        for conflict in self._too_many(len(conflicts)):
            values.setdefault(f"conflict/{conflict[0]}/{conflict[1]}", None)
            settled.append(conflict)
        events = await self._store(values)
        for number in old:
            self.revisions.forget(number)
        self.revisions.add(revision, events[f"revision/{revision.number}"].offset, len(encoded))
        self.drafts.pop(draft, None)
        for step in steps:
            self._put(step.after)
        for key in settled:                     # somebody has looked at it and said what it should be
            self.conflicts.pop(key, None)
        self.conflicts.update({one.kept.key: one for one in conflicts})
        return revision

    def _settles(self, after: Stored, source: str) -> bool:
        """Whoever made this version knew of both sides of the conflict, and said what it should be."""
        conflict = self.conflicts.get(after.key)
        if conflict is None:
            return False
        lost = conflict.gave_way
        return not source or (after.rank > conflict.kept.rank and after.seen.get(lost.node, 0) >= lost.number)

    def _too_many(self, more: int) -> list[Key]:
        count = max(len(self.conflicts) + more - CONFLICTS_KEPT, 0)
        return sorted(self.conflicts, key=lambda key: self.conflicts[key].time_ms)[:count]

    async def forget_deleted(self, now_ms: int) -> int:
        """Some of the tombstones that are old, or too many; the oldest first. Returns how many. Raises BookRefused."""
        over = self.tombstone_count - TOMBSTONES_MAX
        deleted = sorted((stored for stored in self.documents.values() if stored.body is None),
                         key=lambda stored: stored.time_ms)
        due = [stored for number, stored in enumerate(deleted[:FORGOTTEN_AT_ONCE])
               if number < over or stored.time_ms <= now_ms - TOMBSTONES_KEPT_MS]
        if not due:
            return 0
        horizon_ms = max(self.horizon_ms, min(due[-1].time_ms, now_ms))         # a clock may have been ahead
        values: dict[str, Any] = {f"doc/{one.kind}/{one.name}": None for one in due}
        await self._store({**values, "horizon": horizon_ms})
        self.horizon_ms = horizon_ms
        for stored in due:
            key = stored.key
            del self.documents[key], self.ranks[key], self.marks[key]
            del self.keys[bisect_left(self.keys, key)]
        return len(due)

    def may_be_forgotten(self, theirs: Stored) -> bool:
        """It is unknown here, and so old that it may have been deleted and that forgotten; or it is that deletion."""
        return bool(self.horizon_ms) and theirs.key not in self.documents and theirs.time_ms <= self.horizon_ms

    async def put_draft(self, draft: Draft) -> None:
        """Raises BookRefused."""
        await self._store({f"draft/{draft.name}": draft})
        self.drafts[draft.name] = draft

    async def drop_draft(self, name: str) -> None:
        """Raises BookRefused."""
        await self._store({f"draft/{name}": None})
        self.drafts.pop(name, None)

    async def settle(self, key: Key) -> None:
        """Somebody has looked at a conflict. Raises BookRefused."""
        await self._store({f"conflict/{key[0]}/{key[1]}": None})
        self.conflicts.pop(key, None)

    async def _store(self, values: Mapping[str, Any]) -> dict[str, Event]:
        """All of them, or none. None deletes."""
        events = {place: Event(topic=place, payload=b"" if value is None else msgspec.msgpack.encode(value))
                  for place, value in values.items()}
        ticket = Ticket(list(events.values()))
        self._partition.append(list(events.values()), ticket)
        ticket.part_done()
        self._request_turn()
        await durable(ticket)
        if ticket.refusals:
            raise BookRefused(next(iter(ticket.refusals.values())))
        return events


def _in_order(found: tuple[str, tuple[bytes, int]]) -> tuple[str, int]:
    """Documents by their places, so that keys come about in order; revisions as they were made."""
    place, (_, offset) = found
    return ("revision", offset) if place.startswith("revision/") else (place, 0)


def mark_of(key: Key, rank: tuple[int, str, str]) -> int:
    """128 bits of a version."""
    text = repr((key, rank)).encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")
