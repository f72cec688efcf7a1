"""Feed: what another node reads from one of our partitions. The light sister of Consumer.

A Consumer keeps for every event whether it was acked; a Feed does not need to, because the reader keeps the cursor
itself, in its own log, and asks again from there. So a Feed is soft state: a position, and a call when there is more.
It gives out own events only: each node exports what was first stored on it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.event import Event

if TYPE_CHECKING:
    from routing.log.partition import Partition


END = 1 << 62


class HasFeeds(Protocol):
    """The router: it calls committed() of those that stand here."""

    feeds: dict[Partition, dict[Feed, None]]


class Feed:
    """A reader of one partition for another node. Loop thread only."""

    __slots__ = ("_router", "_wake", "_wants", "partition", "position")

    def __init__(self, router: HasFeeds, partition: Partition, position: int, wants: Callable[[str], bool],
                 wake: Callable[[], None]) -> None:
        """position: the first offset to look at. wants(topic): asked once per topic and take().

        wake() is called, once per commit, when something was committed and the feed had nothing left.
        """
        self.partition = partition
        self.position = position
        self._router = router
        self._wants = wants
        self._wake = wake
        router.feeds.setdefault(partition, {})[self] = None

    @property
    def at_tail(self) -> bool:
        """Nothing committed is left to look at."""
        return self.position >= self.partition.end_offset

    def take(self, *, max_events: int, max_bytes: int, max_scanned: int, until: int = END) -> tuple[list[Event], int]:
        """The next own events of a wanted topic, in order, and the next offset, where the position stands then.

        max_bytes counts payloads; at least one event is taken, if there is one. Nothing at or behind until. Raises
        StorageError when the log cannot be read for the moment (Cold: before the disk was asked); the position is then
        as it was.
        """
        found = self.partition.scan(self.position, self._wants, max_events=max_events, max_scanned=max_scanned,
                                    may_wait=True)
        next_offset = min(found.next_offset, until)
        events: list[Event] = []
        size = 0
        for event in found.events:
            if event.offset >= until:
                break
            if event.origin is not None:
                continue
            size += len(event.payload)
            if size > max_bytes and events:
                next_offset = event.offset
                break
            events.append(event)
        self.position = next_offset
        return events, next_offset

    def committed(self) -> None:
        """Called by the router when the partition has grown; by then the position stood at the old end or before."""
        self._wake()

    def close(self) -> None:
        feeds = self._router.feeds.get(self.partition)
        if feeds is not None:
            feeds.pop(self, None)
            if not feeds:
                del self._router.feeds[self.partition]
