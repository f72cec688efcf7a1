"""How far an outward route has come: the text that is committed beside its group's offset, in its transactions. Pure.

    {"epoch": "3f0c…", "places": [["events", "<incarnation>", 0, 1234], …]}     stream, its incarnation, partition, next

A note of another log (its data directory was wiped), or of a stream that was deleted and made anew, says nothing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from routing.event import Event

NOTE_BYTES_MAX = 4_000          # Kafka's offset.metadata.max.bytes is 4096


class NoteTooLong(ValueError):
    """More partitions than a note can hold."""


class _Stored(msgspec.Struct):
    epoch: str
    places: list[tuple[str, str, int, int]]


class Note:
    """Of one route."""

    def __init__(self, epoch: str, incarnation: Callable[[str], str]) -> None:
        """incarnation: of the stream of that name."""
        self._epoch = epoch
        self._incarnation = incarnation
        self._next: dict[tuple[str, str, int], int] = {}
        self.count = 0                                  # what the group's offset says; it only rises

    def read(self, text: str) -> None:
        """Take what is committed."""
        self._next = {}
        try:
            stored = msgspec.json.decode(text, type=_Stored) if text else None
        except msgspec.MsgspecError:
            stored = None                               # somebody else's, or a tool has set the offset
        if stored is not None and stored.epoch == self._epoch:
            self._next = {(stream, incarnation, index): place for stream, incarnation, index, place in stored.places}
        self.count = sum(self._next.values())

    def has(self, event: Event) -> bool:
        """It is in the cluster. Of a delayed one that cannot be told: others overtook it."""
        delayed = event.properties is not None and event.properties.deliver_at_ms is not None
        key = self._key(event)
        return not delayed and key is not None and event.offset < self._next.get(key, 0)

    def after(self, events: Iterable[Event]) -> str:
        """The text when these have been sent, too. Raises NoteTooLong."""
        places = dict(self._next)
        for event in events:
            key = self._key(event)
            if key is not None:
                places[key] = max(places.get(key, 0), event.offset + 1)
        text = msgspec.json.encode(_Stored(self._epoch, [(*key, place) for key, place in places.items()]))
        if len(text) > NOTE_BYTES_MAX:
            raise NoteTooLong(f"{len(places)} partitions are more than a transactional route can note; name fewer "
                              "streams, or set delivery to idempotent")
        self.count = sum(places.values())
        return text.decode()

    def _key(self, event: Event) -> tuple[str, str, int] | None:
        """None: it is in no stream."""
        partition = event.partition
        if partition is None or partition.index < 0:
            return None
        return partition.stream, self._incarnation(partition.stream), partition.index
