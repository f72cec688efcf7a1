"""Encoded events that the readers of one endpoint share, so that each event is encoded once for all of them.

Used by rest/reader.py and websocket/json/subscription.py. Starts afresh when it is full; holds no event.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.event import Event

if TYPE_CHECKING:
    from routing.log.partition import Partition

CACHE_BYTES_MAX = 1024 * 1024


class EncodedEvents:
    """Of one encoding. What no stream captures has no place in the log and is encoded each time."""

    def __init__(self, encode: Callable[[Event], bytes]) -> None:
        self.sharing = False            # worth it only with several readers
        self._encode = encode
        self._kept: dict[tuple[Partition, int], bytes] = {}
        self._size = 0

    def of(self, event: Event) -> bytes:
        if not self.sharing or event.partition is None:
            return self._encode(event)
        key = (event.partition, event.offset)
        found = self._kept.get(key)
        if found is None:
            found = self._encode(event)
            self._size += len(found)
            if self._size > CACHE_BYTES_MAX:
                self._kept.clear()
                self._size = len(found)
            self._kept[key] = found
        return found

    def clear(self) -> None:
        self._kept.clear()
        self._size = 0
