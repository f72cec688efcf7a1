"""RetainedCursor: what of the retained events is still to be sent for one subscription. A place, not a list.

    offsets of the retained partition   since ─────────── live_from ─────────── until
                                          whatever stands   only what came by a
                                          in the table      snapshot of a node

The table is walked in the order of topics. What was published since the subscription came live, so it is passed over:
nobody gets an event twice, nor an older one behind a newer one. All of it is numbers and one text, so it can be stored
with a session and goes on after a restart.
"""
from __future__ import annotations

from routing.retained.topic_index import SEPARATOR, key_of


class RetainedCursor:
    __slots__ = ("live_from", "pattern", "place", "sequence", "since", "until")

    def __init__(self, pattern: str, since: int, until: int, live_from: int, sequence: int,
                 place: str | None = "") -> None:
        """until: -1, fixed when it begins. sequence: as live_from, for what is in memory only. place None: the end."""
        self.pattern = pattern
        self.since = since
        self.until = until
        self.live_from = live_from
        self.sequence = sequence
        self.place = place

    @property
    def done(self) -> bool:
        return self.place is None

    def skip(self, topic: str) -> None:
        """Go on behind a topic."""
        self.place = key_of(topic) + SEPARATOR

    def back_to(self, topic: str) -> None:
        """Go on with a topic, which was taken and not used."""
        self.place = key_of(topic)
