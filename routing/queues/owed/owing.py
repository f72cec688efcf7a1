"""Owing: what queues have not settled of the older part of a partition (an Owed of routing/log/kept).

Made by debts.py on the loop, then asked on the keeper thread, so everything in it stands still or may change without
harm.
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from routing.event import Event
from routing.filters.filter_trie import FilterTrie

Takes = Callable[[Event], bool]


class Want(msgspec.Struct, frozen=True, eq=False):
    """What one queue still has to read by one of its filters.

    position: it has read up to here. done: offsets from there on that are settled already. takes: does one of these
    say yes, the event is its own; None: the filter is enough.
    """

    position: int
    done: frozenset[int]
    takes: tuple[Takes, ...] | None


class Owing:
    """below: offsets from there on are not asked for."""

    def __init__(self, below: int) -> None:
        self.below = below
        self.patterns: dict[str, None] = {}
        self._offsets: set[int] = set()
        self._sorted: list[int] | None = None
        self._wants = FilterTrie()

    def add_offsets(self, offsets: Iterable[int]) -> None:
        """These are owed, whatever they are."""
        below = self.below
        self._offsets.update([offset for offset in offsets if offset < below])
        self._sorted = None

    def add_want(self, pattern: str, want: Want) -> None:
        self.patterns[pattern] = None
        self._wants.add(pattern, want)

    @property
    def is_empty(self) -> bool:
        return not self._offsets and not self.patterns

    # -- asked on the keeper thread ---------------------------------------------------------------------------

    def may_want(self, topic: str) -> bool:
        return bool(self.patterns) and bool(self._wants.match(topic))

    def takes(self, event: Event) -> bool:
        """Some queue still wants this event of a topic that may be wanted."""
        offset = event.offset
        for want in self._wants.match(event.topic):
            if offset >= want.position and offset not in want.done and (
                    want.takes is None or any(takes(event) for takes in want.takes)):
                return True
        return False

    def between(self, start: int, end: int) -> list[int]:
        """The offsets in [start, end) that are owed whatever they are, in order."""
        if self._sorted is None:
            self._sorted = sorted(self._offsets)
        return self._sorted[bisect_left(self._sorted, start):bisect_left(self._sorted, end)]
