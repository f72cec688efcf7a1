"""Letters: dead letters that were on disk when the node went away, and whose originals may not have been acked yet.

The copy is durable first and the original acked then, so a kill in between brings the original again. It is given up
again, and what is there already is not published a second time. Only letters of the last seconds before the end of the
log can be such; a redrive, a seek or a new consumer of that name makes what it left behind count as new.
"""
from __future__ import annotations

from routing.event import Event

RECENT_MS = 5_000           # before the newest record of the partition: acks are stored within a quarter of a second
LETTERS_MAX = 100_000       # of all consumers


class Letters:
    """One per registry."""

    def __init__(self) -> None:
        self._by_consumer: dict[str, set[tuple[str, str]]] = {}        # → place of the original, topic of the letter
        self._count = 0

    def note(self, event: Event, newest_ms: int) -> None:
        """A dead letter of the tail of the log. newest_ms: time of the last record of its partition."""
        letter = event.properties.dead_letter if event.properties is not None else None
        if letter is None or event.timestamp_ms < newest_ms - RECENT_MS or self._count >= LETTERS_MAX:
            return
        self._by_consumer.setdefault(letter.consumer, set()).add((letter.event_id, event.topic))
        self._count += 1

    def take(self, consumer: str, place: str, topic: str) -> bool:
        """True, once, when this letter is there."""
        found = self._by_consumer.get(consumer)
        if not found or (place, topic) not in found:
            return False
        found.discard((place, topic))
        return True

    def forget(self, consumer: str, place: str | None = None) -> None:
        """What this consumer, or at this place, gives up from now on is new."""
        if place is None:
            self._by_consumer.pop(consumer, None)
        elif consumer in self._by_consumer:
            found = self._by_consumer[consumer]
            found -= {one for one in found if one[0] == place}
