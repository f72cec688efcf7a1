"""StateTable: small durable state (consumers, sessions) in one internal compacted partition.

All puts of one loop turn land in one RecordBatch, so they become durable together or not at all. Keys are text such
as "consumer/billing"; the newest value of a key wins; an empty value is a deletion.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from routing.errors import Reason, Refusal
from routing.event import Event
from routing.ticket import Ticket, done_ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.log.partition import Partition

T = TypeVar("T")

log = logging.getLogger(__name__)

STATE_STREAM = "$state"
VALUE_BYTES_MAX = 4 * 1024 * 1024       # of one value; what grows with what a client does is stored in parts
RETRY_S = 1.0                           # between two attempts to store what was refused


class StateTable:
    """A durable dictionary. Reads see a put at once; its ticket completes when the put is on disk."""

    def __init__(self, partition: Partition, schedule: Callable[[], None]) -> None:
        """schedule: called when something waits for flush(), so that the router ends its turn."""
        self._partition = partition
        self._schedule = schedule
        self._heads: dict[str, dict[str, bytes]] = {}       # what keys have before their first slash → key → value
        self._waiting: dict[str, bytes] = {}
        self._refused: dict[str, bytes] = {}
        self._retry_due_s = 0.0
        self._ticket: Ticket | None = None
        self._last: Ticket | None = None    # of the last flush
        self._under_way = 0                 # flushes that have not been answered
        self._load()

    def _load(self) -> None:
        """An event without a key is stored under its topic, which is the key here."""
        for raw, value in self._partition.newest().items():
            key = raw.decode()
            self._heads.setdefault(key.partition("/")[0], {})[key] = value

    def _set(self, key: str, value: bytes) -> None:
        """value: empty to forget the key."""
        values = self._heads.setdefault(key.partition("/")[0], {})
        if value:
            values[key] = value
        else:
            values.pop(key, None)

    def get(self, key: str) -> bytes | None:
        values = self._heads.get(key.partition("/")[0])
        return None if values is None else values.get(key)

    def items(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All with that prefix, which has a slash in it. Costs those that are alike before it."""
        values = self._heads.get(prefix.partition("/")[0], {})
        return iter([(key, value) for key, value in values.items() if key.startswith(prefix)])

    def decoded(self, prefix: str, type: type[T], what: str) -> Iterator[tuple[str, T]]:
        """Values under a prefix, written as MessagePack of a type, with the rest of their keys.

        One that cannot be read is reported as what it is of, left alone, and passed over: it must not keep a node down.
        """
        for key, value in self.items(prefix):
            found = decode_stored(key, value, type, what)
            if found is not None:
                yield key.removeprefix(prefix), found

    def read(self, key: str, type: type[T], what: str) -> T | None:
        """One such value. None: there is none, or it cannot be read."""
        value = self.get(key)
        return decode_stored(key, value, type, what) if value is not None else None

    def put(self, key: str, value: bytes) -> Ticket:
        """value must not be empty. Puts of one turn coalesce: the last value of a key is the one that is written.

        One above VALUE_BYTES_MAX is refused, by a ticket that is done, and changes nothing.
        """
        assert value
        if len(value) > VALUE_BYTES_MAX:
            log.error("state %s: %d bytes, at most %d are stored; the old one stays", key, len(value), VALUE_BYTES_MAX)
            return done_ticket(Refusal(Reason.QUOTA_EXCEEDED, f"at most {VALUE_BYTES_MAX} bytes are stored"))
        self._set(key, value)
        return self._queue(key, value)

    def delete(self, key: str) -> Ticket:
        self._set(key, b"")
        return self._queue(key, b"")

    def _queue(self, key: str, value: bytes) -> Ticket:
        self._waiting[key] = value
        if self._ticket is None:
            self._ticket = Ticket(())
            self._schedule()
        return self._ticket

    def flush(self) -> None:
        """Append what waits as one batch. Called by the router at the end of a turn, before the group commit."""
        ticket = self._ticket
        if ticket is None:
            return
        events = [Event(topic=key, payload=value) for key, value in self._waiting.items()]
        ticket.events = events
        written, self._waiting = self._waiting, {}
        self._ticket, self._last = None, ticket
        self._partition.append(events, ticket)
        self._under_way += 1
        ticket.part_done()                  # all parts are known now
        ticket.on_done(lambda done: self._answered(done, written))

    def _answered(self, ticket: Ticket, written: dict[str, bytes]) -> None:
        """What the disk would not take is tried again. What could not be encoded never could be: it is given up."""
        self._under_way -= 1
        if any(refusal.reason is Reason.PAYLOAD_INVALID for refusal in ticket.refusals.values()):
            log.error("state cannot be stored and is given up: %s", ", ".join(list(written)[:10]))
        elif ticket.refusals:
            self._refused.update(written)

    def when_stored(self, call: Callable[[], None]) -> None:
        """Call once everything that was put until now is on disk, or refused: maybe at once."""
        ticket = self._ticket or self._last
        if ticket is None:
            call()
        else:
            ticket.on_done(lambda done: call())

    @property
    def is_settled(self) -> bool:
        """Everything that was put is on disk, but for what was put in this turn."""
        return not self._under_way and not self._refused

    def retry(self, now_s: float) -> None:
        """Queue again what was refused, such as by a full disk, unless there is something newer. Called every tick."""
        if not self._refused or now_s < self._retry_due_s:
            return
        self._retry_due_s = now_s + RETRY_S
        refused, self._refused = self._refused, {}
        for key, value in refused.items():
            if key not in self._waiting and (self.get(key) or b"") == value:
                self._queue(key, value)


def decode_stored(key: str, value: bytes, type: type[T], what: str) -> T | None:
    """None: it cannot be read, which is reported."""
    try:
        return msgspec.msgpack.decode(value, type=type)
    except msgspec.MsgspecError as error:
        log.error("stored %s %s cannot be read and is left alone: %s", what, key, error)
        return None
