"""Bindings of one queue: filter, predicate, and from which offset to which they hold in each partition.

    bind ── since ─────────── events that are the queue's ─────────── until ── unbind

Unbinding takes nothing away that was routed, and binding again starts anew. A binding that has ended stays until the
queue has read everything before its end.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from routing.event import Event
from routing.queues.predicates import Predicate

if TYPE_CHECKING:
    from routing.log.partition import Partition

Key: TypeAlias = tuple[str, Predicate | None]


class Binding(msgspec.Struct):
    """since, until: first offset that is the queue's, and the first that is not any more. A partition that since does
    not name came later and counts from its start; until None: it holds. native: of the protocol, only kept.
    """

    pattern: str
    predicate: Predicate | None = None
    native: bytes = b""
    since: dict[Partition, int] = {}
    until: dict[Partition, int] | None = None
    number: int = -1                        # of what is stored of it

    @property
    def key(self) -> Key:
        return self.pattern, self.predicate

    def takes_new(self, event: Event) -> bool:
        """Would it take this event if it were published now?"""
        return self.until is None and (self.predicate is None or self.predicate.matches(event))

    def takes(self, event: Event) -> bool:
        """The filter is known to match."""
        partition = event.partition
        if partition is None:                           # no stream captures it
            return self.takes_new(event)
        if self.until is not None and event.offset >= self.until.get(partition, 0):
            return False
        if self.since and event.offset < self.since.get(partition, 0):
            return False
        return self.predicate is None or self.predicate.matches(event)


class Bindings:
    """Owned by its Queue; asked by its consumer's Interest."""

    __slots__ = ("_by_pattern", "_special", "ended", "live")

    def __init__(self) -> None:
        self.live: dict[Key, Binding] = {}
        self.ended: list[Binding] = []
        self._by_pattern: dict[str, list[Binding]] = {}
        self._special: dict[Key, None] = {}             # live ones that ask more than the topic

    def __len__(self) -> int:
        return len(self.live) + len(self.ended)

    def __iter__(self) -> Iterator[Binding]:
        yield from self.live.values()
        yield from self.ended

    @property
    def needed(self) -> bool:
        """The topic alone does not say whether an event is the queue's."""
        return bool(self.ended or self._special)

    @property
    def is_waiting(self) -> bool:
        """Some have ended, or begun, at a place that was not read up to when it was last looked."""
        return bool(self.ended) or any(self.live[key].since for key in self._special)

    def add(self, binding: Binding) -> None:
        """As it is: an ended one, too."""
        if binding.until is None:
            self.live[binding.key] = binding
            if binding.since or binding.predicate is not None:
                self._special[binding.key] = None
        else:
            self.ended.append(binding)
        self._by_pattern.setdefault(binding.pattern, []).append(binding)

    def end(self, key: Key, until: dict[Partition, int]) -> Binding | None:
        """It holds no longer than up to there. None: there is none."""
        binding = self.live.pop(key, None)
        if binding is not None:
            binding.until = until
            self.ended.append(binding)
            self._special.pop(key, None)
        return binding

    def refused(self, partition: Partition) -> list[Binding]:
        """What waited for the disk there does not come: none counts from, or to, behind it. Returns those that did."""
        end, found = partition.high_watermark, []
        for binding in self:
            places = [place for place in (binding.since, binding.until or {}) if place.get(partition, 0) > end]
            for place in places:
                place[partition] = end
            if places:
                found.append(binding)
        return found

    def drop_passed(self, has_passed: Callable[[dict[Partition, int]], bool]) -> list[Binding]:
        """Forget what has ended and was read to its end. Returns those."""
        gone = [binding for binding in self.ended if has_passed(binding.until or {})]
        for binding in gone:
            self.ended.remove(binding)
            others = self._by_pattern[binding.pattern]
            others.remove(binding)
            if not others:
                del self._by_pattern[binding.pattern]
        for key in [key for key in self._special if self.live[key].since and has_passed(self.live[key].since)]:
            self.live[key].since = {}
            if key[1] is None:
                del self._special[key]
        return gone

    def takers(self, pattern: str) -> tuple[Callable[[Event], bool], ...] | None:
        """What the bindings of a filter that were committed say of an event, for another thread, too. None: yes."""
        bindings = self._by_pattern.get(pattern)
        return tuple(binding.takes for binding in bindings) if bindings is not None else None

    def has(self, pattern: str) -> bool:
        """Is there any binding of this filter, one that has ended included?"""
        return pattern in self._by_pattern

    def is_live(self, pattern: str) -> bool:
        return any(binding.until is None for binding in self._by_pattern.get(pattern, ()))

    def take_new(self, event: Event, patterns: Iterable[str]) -> bool:
        """As take(), of an event that is not published yet."""
        for pattern in patterns:
            bindings = self._by_pattern.get(pattern)
            if bindings is None or any(binding.takes_new(event) for binding in bindings):
                return True
        return False

    def take(self, event: Event, patterns: Iterable[str]) -> bool:
        """Is this event the queue's? patterns: its filters that match the topic."""
        for pattern in patterns:
            bindings = self._by_pattern.get(pattern)
            if bindings is None:                        # its own topic, which was never bound
                return True
            for binding in bindings:
                if binding.takes(event):
                    return True
        return False
