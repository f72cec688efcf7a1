"""What is stored of a step that is decided and not done: the events to publish, and the deliveries that they settle.

    together/<id>/<n>       part n: a RecordBatch as in the log, and, in part 0, the settled places

All parts are put in one turn, so they are one batch of the state table: there all at once. The id is random; each event
is published under the dedupe id <id>/<number>, so doing a step again does nothing twice.
"""
from __future__ import annotations

from collections.abc import Iterator

import msgspec

from routing.event import Event, Properties
from routing.log.records.batch import batch_at
from routing.log.records.decode import Decoder
from routing.log.records.encode import Encoder
from routing.log.records.verdicts import Verdicts
from routing.state import StateTable
from routing.ticket import Ticket

PREFIX = "together/"
PART_BYTES = 1024 * 1024        # of one value

Place = tuple[str, str, int, int]       # consumer, stream, partition, offset

_NO_PROPERTIES = Properties()


class Part(msgspec.Struct, array_like=True):
    batch: bytes
    settled: list[Place] = []


class Intents:
    """Writes and reads them."""

    def __init__(self, state: StateTable) -> None:
        self._state = state
        self._counts: dict[str, int] = {}               # id → parts

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, intent: str) -> bool:
        return intent in self._counts

    def put(self, intent: str, events: list[Event], settled: list[Place]) -> Ticket:
        """events: marked by mark(). The ticket is done when the step is decided. It replaces what was put before."""
        encoder = Encoder()
        left = [msgspec.structs.replace(event, partition=None, offset=number) for number, event in enumerate(events)]
        number = 0
        while left or not number:
            data, count = encoder.encode(left, first_in_group=True, bytes_max=PART_BYTES) if left else (b"", 0)
            part = Part(data, settled if not number else [])
            ticket = self._state.put(f"{PREFIX}{intent}/{number}", msgspec.msgpack.encode(part))
            left, number = left[count:], number + 1
        for former in range(number, self._counts.get(intent, 0)):
            self._state.delete(f"{PREFIX}{intent}/{former}")
        self._counts[intent] = number
        return ticket

    def drop(self, intent: str) -> None:
        for number in range(self._counts.pop(intent, 0)):
            self._state.delete(f"{PREFIX}{intent}/{number}")

    def read(self) -> Iterator[tuple[str, list[Event], list[Place]]]:
        """Those that were decided and not done, in no order. Called once, at the start."""
        found: dict[str, dict[int, Part]] = {}
        for key, part in self._state.decoded(PREFIX, Part, "part of a transaction"):
            intent, _, place = key.rpartition("/")
            found.setdefault(intent, {})[int(place)] = part
        for intent, parts in found.items():
            self._counts[intent] = max(parts) + 1
            events: list[Event] = []
            settled: list[Place] = []
            for number in sorted(parts):
                settled += parts[number].settled
                _decode(parts[number].batch, events)
            yield intent, events, settled


def mark(intent: str, events: list[Event]) -> list[Event]:
    """Copies that are published once, however often."""
    return [msgspec.structs.replace(event, partition=None, offset=-1, properties=msgspec.structs.replace(
        event.properties or _NO_PROPERTIES, dedupe_id=f"{intent}/{number}"))
        for number, event in enumerate(events)]


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
