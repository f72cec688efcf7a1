"""RetainedTree: topic → retained event or what is left of its removal, in memory, with lookup by filter.

A removal is kept for a while, as an event without payload, so that an older event of another node does not bring the
topic back. It is not counted and not handed out.
"""
from __future__ import annotations

from collections.abc import Iterator

from routing.event import Event, event_size_bytes
from routing.retained.topic_index import SEPARATOR, TopicIndex, key_of
from routing.topic import is_wildcard

REMOVALS_KEPT = 10_000
STEP = 256


class RetainedTree:
    """Bounded by the caller, who looks at count and size_bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self.sequence = 0                       # rises with every change
        self._entries: dict[str, Event] = {}    # by key of topic_index
        self._index = TopicIndex()
        self._removals: dict[str, None] = {}    # keys, the oldest first
        self._loose: dict[str, int] = {}        # sequence of those that have no offset: they are in memory only

    def get(self, topic: str) -> Event | None:
        event = self._entries.get(key_of(topic))
        return event if event is not None and event.payload else None

    def entry(self, topic: str) -> Event | None:
        """As get(), or the removal (without payload)."""
        return self._entries.get(key_of(topic))

    def set(self, event: Event) -> Event | None:
        """Keep an event or a removal. Returns the entry that stood there before."""
        key = key_of(event.topic)
        before = self._entries.get(key)
        if before is None:
            self._index.add(key)
        else:
            self._leave(key, before)
        self._entries[key] = event
        self.sequence += 1
        if event.offset < 0:
            self._loose[key] = self.sequence
        if event.payload:
            self.count += 1
            self.size_bytes += event_size_bytes(event)
        else:
            self._removals[key] = None
            if len(self._removals) > REMOVALS_KEPT:
                self._drop(next(iter(self._removals)))
        return before

    def put_back(self, topic: str, event: Event | None) -> None:
        """Undo: this stands under the topic again, None: nothing."""
        if event is not None:
            self.set(event)
        else:
            self.remove(topic)

    def remove(self, topic: str) -> None:
        """Forget the topic altogether."""
        key = key_of(topic)
        if key in self._entries:
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._leave(key, self._entries.pop(key))
        self._index.remove(key)

    def _leave(self, key: str, event: Event) -> None:
        self._loose.pop(key, None)
        if event.payload:
            self.count -= 1
            self.size_bytes -= event_size_bytes(event)
        else:
            self._removals.pop(key, None)

    def sequence_of(self, event: Event) -> int | None:
        """Of one that is in memory only; None: it is not, or it is not in the tree."""
        return self._loose.get(key_of(event.topic))

    # -- lookup -----------------------------------------------------------------------------------------------

    def find(self, pattern: str, place: str, events_max: int, looks_max: int) -> tuple[list[Event], str | None]:
        """Entries that the filter matches from a place on, removals too; and where to go on. See TopicIndex.find."""
        if not is_wildcard(pattern):
            event = self.entry(pattern) if key_of(pattern) >= place else None
            return ([event] if event is not None else []), None
        keys, onward = self._index.find(pattern, place, events_max, looks_max)
        entries = self._entries
        return [entries[key] for key in keys], onward

    def match(self, pattern: str) -> Iterator[Event]:
        """Retained events whose topic the filter matches, in order. The tree may change meanwhile."""
        place: str | None = ""
        while place is not None:
            entries, place = self.find(pattern, place, STEP, STEP)
            for event in entries:
                if event.payload:
                    yield event

    @staticmethod
    def place(event: Event) -> str:
        """Where an entry stands."""
        return key_of(event.topic)

    @staticmethod
    def behind(event: Event) -> str:
        """The place right behind an entry."""
        return key_of(event.topic) + SEPARATOR
