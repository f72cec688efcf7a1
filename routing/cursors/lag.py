"""How far a consumer is behind, in events and in seconds."""
from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from routing.cursors.counting import Counting
    from routing.cursors.cursor import Cursor
    from routing.filters.interest import Interest


class Lag(msgspec.Struct, frozen=True):
    """events: matching events not acked. seconds: age of the first of them, 0 when there is none.

    exact False: more of the log is still to be counted; then both are what is known so far.
    """

    events: int
    seconds: float
    exact: bool = True

    @property
    def state(self) -> str:
        """As answers say it."""
        return "exact" if self.exact else "counting"


def lag_of(interest: Interest, cursors: Collection[Cursor], counting: Counting, now_ms: int) -> Lag:
    """Whatever is not known yet is counted from now on: ask again."""
    unknown = []
    for cursor in cursors:
        if cursor.behind:
            cursor.backlog.check(cursor.position)
            if not cursor.backlog.is_known:
                unknown.append(cursor)
    if unknown:
        counting.ask(interest, unknown)
    events = 0
    exact = True
    stamps = []
    for cursor in cursors:
        events += cursor.held()
        first = cursor.first_unacked()
        if first is not None:
            stamps.append(first.timestamp_ms)
        if cursor.behind:
            backlog = cursor.backlog
            events += backlog.events
            exact = exact and (backlog.exact and (first is not None or backlog.is_known))
            if first is None and backlog.events and backlog.first_ms is not None:
                stamps.append(backlog.first_ms)
        if cursor.ahead:
            events -= sum(offset >= cursor.position for offset in cursor.ahead)
    events = max(events, 0)
    return Lag(events, max(now_ms - min(stamps), 0) / 1000 if events and stamps else 0.0, exact)
