"""What is stored of a step that is decided and not done: the events to publish, and the deliveries that they settle.

    together/<name>/<n>     part n: a RecordBatch as in the log, and, in part 0, the settled places and how many parts

Parts are made one at a time, since they may be many megabytes. Part 0 is put when all others are on disk: with it the
step is decided, and parts without it count for nothing. The name is random; each event is published under the dedupe
id <step>/<number>, so doing a step again does nothing twice.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import msgspec

from routing.errors import Refusal
from routing.event import Event, Properties
from routing.log.records.batch import batch_at
from routing.log.records.decode import Decoder
from routing.log.records.encode import Encoder
from routing.log.records.verdicts import Verdicts
from routing.state import StateTable
from routing.ticket import Ticket, when_all

PREFIX = "together/"
PART_BYTES = 1024 * 1024        # of one value,
PART_EVENTS = 500               # and events in it: some 2 ms

Place = tuple[str, str, int, int]       # consumer, stream, partition, offset

_NO_PROPERTIES = Properties()


class Part(msgspec.Struct, array_like=True):
    batch: bytes
    settled: list[Place] = []
    count: int = 0                      # of all parts, in part 0. An earlier version put all of them at once: 0


class Intents:
    """Writes and reads them."""

    def __init__(self, state: StateTable) -> None:
        self._state = state
        self._stored: dict[str, tuple[str, int]] = {}       # step → the name that it is stored under, and its parts

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, intent: str) -> bool:
        return intent in self._stored

    def put(self, intent: str, events: list[Event], settled: list[Place],
            decided: Callable[[Refusal | None], None]) -> Iterator[None]:
        """Work in pieces. events: marked by mark(). decided is called when it is on disk, or could not be stored."""
        name = secrets.token_hex(8)
        encoder = Encoder()
        parts: list[bytes] = []
        at = 0
        while at < len(events) or not parts:
            piece = [msgspec.structs.replace(event, partition=None, offset=number)
                     for number, event in enumerate(events[at:at + PART_EVENTS], at)]
            data, count = encoder.encode(piece, first_in_group=True, bytes_max=PART_BYTES) if piece else (b"", 0)
            parts.append(data)
            at += count
            yield
        head = msgspec.msgpack.encode(Part(parts[0], settled, len(parts)))
        self._stored.setdefault(intent, (name, len(parts)))
        tickets: list[Ticket] = []
        for number in range(1, len(parts)):
            tickets.append(self._state.put(f"{PREFIX}{name}/{number}", msgspec.msgpack.encode(Part(parts[number]))))
            yield
        when_all(tickets, lambda refusal: self._put_head(intent, name, len(parts), head, refusal, decided))

    def _put_head(self, intent: str, name: str, count: int, head: bytes, refusal: Refusal | None,
                  decided: Callable[[Refusal | None], None]) -> None:
        def put(ticket: Ticket) -> None:
            found = next(iter(ticket.refusals.values()), None)
            if found is not None or intent not in self._stored:     # it is over meanwhile
                self._delete(name, count)
            elif self._stored[intent][0] != name:                   # it takes the place of what was stored before
                self._delete(*self._stored[intent])
                self._stored[intent] = name, count
            decided(found)

        if refusal is None:
            self._state.put(f"{PREFIX}{name}/0", head).on_done(put)
        else:
            self._delete(name, count)
            decided(refusal)

    def drop(self, intent: str) -> None:
        stored = self._stored.pop(intent, None)
        if stored is not None:
            self._delete(*stored)

    def _delete(self, name: str, count: int) -> None:
        for number in range(count):
            if self._state.get(f"{PREFIX}{name}/{number}") is not None:
                self._state.delete(f"{PREFIX}{name}/{number}")

    def read(self) -> Iterator[tuple[str, list[Event], list[Place]]]:
        """Those that were decided and not done, in no order. Called once, at the start."""
        found: dict[str, dict[int, Part]] = {}
        for key, part in self._state.decoded(PREFIX, Part, "part of a transaction"):
            name, _, place = key.rpartition("/")
            found.setdefault(name, {})[int(place)] = part
        for name, parts in found.items():
            if 0 not in parts or len(parts) < parts[0].count:       # it was never decided
                self._delete(name, max(parts) + 1)
                continue
            self._stored[name] = name, max(parts) + 1
            events: list[Event] = []
            settled: list[Place] = []
            for number in sorted(parts):
                settled += parts[number].settled
                _decode(parts[number].batch, events)
            yield name, events, settled


def mark(intent: str, number: int, event: Event) -> Event:
    """A copy that is published once, however often."""
    properties = msgspec.structs.replace(event.properties or _NO_PROPERTIES, dedupe_id=f"{intent}/{number}")
    return msgspec.structs.replace(event, partition=None, offset=-1, properties=properties)


def _decode(batch: bytes, events: list[Event]) -> None:
    header = batch_at(batch, 0) if batch else None
    if header is None:
        return
    found: list[Event] = []
    decoder = Decoder(None, lambda key: "")
    decoder.events(batch, 0, header, 0, Verdicts(lambda topic: True), {}, found, 1 << 62)
    for event in found:
        event.offset = -1
    events += found
