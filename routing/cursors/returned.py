"""Returned: deliveries of one cursor that came back and are to go out again, by offset, the first one at hand.

A heap beside a dictionary: taking the first out of 50,000 costs the same as out of ten. What takes too much memory is
kept without its payload (bare) and read from the log again when its turn comes.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.keys import key_hash

if TYPE_CHECKING:
    from routing.cursors.delivery import Delivery
    from routing.event import Event

STALE_MAX = 256             # places of the heap that nothing stands at any more, beside as many as there are others
EVENT_BYTES = 300           # of one event beside its payload


class Listener(Protocol):
    def arrived(self, offset: int) -> None: ...


class Returned(dict[int, "Delivery"]):
    """offset → delivery, whose attempts is that of the next time."""

    __slots__ = ("_heap", "_keys", "bytes", "listeners")

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0                          # of payloads
        self.listeners: list[Listener] = []     # hear of what comes here, and of what is ready before its turn
        self._heap: list[int] = []
        self._keys: Counter[int] = Counter()    # hash of key → how many of them

    def __setitem__(self, offset: int, delivery: Delivery) -> None:
        known = self.get(offset)
        if known is not None:
            self._gone(known)
        else:
            heappush(self._heap, offset)
        super().__setitem__(offset, delivery)
        self.bytes += len(delivery.event.payload)
        self._keys[key_hash(delivery.event)] += 1
        if self.listeners:
            self.tell(offset)
        if len(self._heap) > 2 * len(self) + STALE_MAX:
            self._heap = list(self)
            heapify(self._heap)

    def tell(self, offset: int) -> None:
        for listener in self.listeners:
            listener.arrived(offset)

    def __delitem__(self, offset: int) -> None:
        self._gone(self[offset])
        super().__delitem__(offset)

    def take(self, offset: int) -> Delivery | None:
        """Take one out, None when it is not there."""
        delivery = super().pop(offset, None)
        if delivery is not None:
            self._gone(delivery)
        return delivery

    def clear(self) -> None:
        super().clear()
        self._heap.clear()
        self._keys.clear()
        self.bytes = 0

    def _gone(self, delivery: Delivery) -> None:
        self.bytes -= len(delivery.event.payload)
        digest = key_hash(delivery.event)
        left = self._keys[digest] - 1
        if left:
            self._keys[digest] = left
        else:
            del self._keys[digest]

    def has_key(self, digest: int) -> bool:
        """Does an event of a key with this hash wait here?"""
        return digest in self._keys

    def first(self) -> Delivery | None:
        """The one with the smallest offset."""
        heap = self._heap
        while heap and heap[0] not in self:
            heappop(heap)
        return self[heap[0]] if heap else None

    def in_order(self) -> Generator[Delivery, None, None]:
        """All of them, the smallest offset first, each once; they may be taken out, and others come, meanwhile."""
        seen: list[int] = []
        heap = self._heap
        try:
            while heap:
                offset = heappop(heap)
                if seen and offset <= seen[-1]:         # a second entry, or it came back just now
                    if offset != seen[-1]:
                        seen.insert(0, offset)
                    continue
                delivery = self.get(offset)
                if delivery is not None:
                    seen.append(offset)
                    yield delivery
                    if heap is not self._heap:          # made anew meanwhile
                        return
        finally:
            if heap is self._heap:
                for offset in seen:
                    if offset in self:
                        heappush(heap, offset)


def bare(event: Event) -> Event:
    """The event without what takes memory: to be read from the log again."""
    return msgspec.structs.replace(event, payload=b"", headers=(), properties=None, mqtt4_frame=None, mqtt5_frame=None)
