"""FlowFilters: what one flow wants, in versions, so that no batch is taken that was looked at in another way.

    asked ──(the origin says from where it counts)──► fresh ──(the origin is told so)──► counts ──► gone

Every change is a new version, which the next Pull tells. A batch says under which version it was looked at; is_stale()
says whether it may be taken in spite of an older one. See flow.py for the rules that this keeps.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mesh.replication.bodies import BodyDecoder
from mesh.replication.caches import CacheMemory
from mesh.replication.filters import History, Selection
from mesh.replication.messages import BY_TIME, Batch, Want
from routing.event import Event, OriginPartition
from routing.topic import filters_intersect

CLOCK_MS: Final = 1_000


class Ask(msgspec.Struct):
    """A filter whose first offset the origin is asked for, since a version of the flow's filters."""

    want: Want
    version: int


class Fresh(msgspec.Struct, frozen=True):
    """A filter that was resolved a moment ago: asked in one version, told back to the origin in a later one."""

    since: int
    asked: int
    told: int


def is_earlier(want: Want, asked: Want) -> bool:
    """By more than clocks are compared to."""
    return want.since == asked.since == BY_TIME and want.since_ms + CLOCK_MS < asked.since_ms


class FlowFilters:
    """Owned by its Flow. floor and expected: of the flow, at the time of the call."""

    def __init__(self, origin: OriginPartition, number: int, asks: list[Want], excludes: list[Want],
                 memory: CacheMemory) -> None:
        """asks: of a back-fill, where they are fixed and have an end. memory: of the caches of all flows."""
        self.history = History()
        self.excludes = excludes
        self.only: tuple[str, ...] = ()
        self.version = 1
        self.taken_version = 0                  # of the last batch that was taken
        self._origin = origin
        self._number = number
        self._prefix = ""                       # put before every topic of the origin
        self._asks = {want.filter: Ask(want, 1) for want in asks}
        self._fresh: dict[str, Fresh] = {}
        self._gone: list[tuple[int, Want]] = []         # (version without it, want): batches under way may have it
        self._memory = memory
        self._selection = Selection((), memory=memory)
        self._decoder = BodyDecoder(origin, number, self._selection, memory=memory)

    @property
    def has_asks(self) -> bool:
        return bool(self._asks)

    def is_asking(self, pattern: str) -> bool:
        """The origin has not said yet from where the filter counts."""
        return pattern in self._asks

    def forget_asks(self) -> None:
        self._asks.clear()

    def wants(self, floor: int) -> list[Want]:
        """For a Pull."""
        return [*self.history.counting(floor), *(ask.want for ask in self._asks.values())]

    def stop(self) -> int:
        return self._selection.stop()

    # -- changes ----------------------------------------------------------------------------------------------

    def ask(self, desired: dict[str, Want]) -> bool:
        """Want these too, and of those that were only asked for no others. True when that is a new version."""
        counting = self.history.open()
        new = [want for pattern, want in desired.items() if pattern not in counting and (
            pattern not in self._asks or is_earlier(want, self._asks[pattern].want))]
        old = [pattern for pattern in self._asks if pattern not in desired]
        if not new and not old:
            return False
        self.version += 1
        for want in new:
            self._asks[want.filter] = Ask(want, self.version)
        for pattern in old:
            del self._asks[pattern]
        return True

    def unwanted(self, desired: dict[str, Want], expected: int) -> tuple[list[str], bool]:
        """Filters that can be closed at `expected`; and whether others must wait for those that take their place."""
        counting = self.history.open()
        closing = [pattern for pattern in counting if pattern not in desired]
        ready = [
            pattern for pattern in closing
            if all(counting.get(other, expected + 1) <= expected
                   for other in desired if filters_intersect(pattern, other))
        ]
        return ready, len(ready) < len(closing)

    def close(self, patterns: list[str], expected: int) -> None:
        """They count up to `expected`."""
        counting = self.history.open()
        self.version += 1
        for pattern in patterns:
            self._gone.append((self.version, Want(pattern, counting[pattern])))
            self._fresh.pop(pattern, None)
            self.history.close(pattern, expected)

    def limit(self, only: tuple[str, ...], prefix: str) -> bool:
        """False: nothing has changed."""
        if (only, prefix) == (self.only, self._prefix):
            return False
        self.version += only != self.only
        self.only, self._prefix = only, prefix
        return True

    def rebuild(self, floor: int) -> None:
        """After any change: what is wanted, and what may come."""
        self.let_go()
        wants = self.history.counting(floor)
        self._selection = Selection(wants, self.excludes, (self.only,) if self.only else (), self._memory)
        asked = Selection([*wants, *(want for _, want in self._gone)], self.excludes, memory=self._memory)
        self._decoder = BodyDecoder(self._origin, self._number, asked, self._prefix, self._memory)

    def let_go(self) -> None:
        """Forget what is cached."""
        self._selection.let_go()
        self._decoder.let_go()

    # -- batches ----------------------------------------------------------------------------------------------

    def is_first(self, batch: Batch, resolved: dict[str, int]) -> bool:
        """Does the batch say where everything begins?"""
        return (
            batch.version == self.version and bool(self._asks) and all(pattern in resolved for pattern in self._asks)
            and all(since >= batch.start for since in resolved.values()))

    def is_stale(self, batch: Batch, resolved: dict[str, int]) -> bool:
        """True when the batch was looked at without a filter that counts there."""
        for pattern, fresh in self._fresh.items():
            if batch.version >= fresh.told:
                continue
            if batch.version >= fresh.asked:
                if resolved.get(pattern) != fresh.since:
                    return True
            elif batch.next > fresh.since:
                return True
        return any(
            ask.version <= batch.version and pattern not in resolved for pattern, ask in self._asks.items())

    def answered(self, version: int) -> list[str]:
        """Filters that a batch of this version resolves."""
        return [pattern for pattern, ask in self._asks.items() if ask.version <= version]

    def resolve(self, patterns: list[str], resolved: dict[str, int]) -> list[Want]:
        """The origin has said from where they count. Returns them as they were asked for."""
        self.version += 1
        asked = []
        for pattern in patterns:
            ask = self._asks.pop(pattern)
            asked.append(ask.want)
            self.history.add(pattern, resolved[pattern], ask.want.until)
            self._fresh[pattern] = Fresh(resolved[pattern], ask.version, self.version)
        return asked

    def wants_topic(self, offset: int) -> Callable[[str], bool]:
        """Is a topic, as it is at the origin, wanted from this offset on?"""
        selection = self._selection
        return lambda topic: selection.wants_event(topic, offset)

    def decode(self, batch: Batch) -> list[Event]:
        """The events that are wanted. Raises BadBody."""
        events = self._decoder.decode(batch.body, batch.start, batch.next)
        if self._gone or self.only:
            skip = len(self._prefix)
            wants = self._selection.wants_event
            events = [event for event in events if wants(event.topic[skip:], event.origin_offset)]
        return events

    def taken(self, version: int, floor: int) -> None:
        """A batch of this version was taken: those of older versions are out of date from here on."""
        self.taken_version = version
        if self._fresh:
            self._fresh = {pattern: fresh for pattern, fresh in self._fresh.items() if fresh.told > version}
        if self._gone and any(gone <= version for gone, _ in self._gone):
            self._gone = [(gone, want) for gone, want in self._gone if gone > version]
            self.rebuild(floor)
