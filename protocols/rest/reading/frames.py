"""Frames: the text of an event in a stream of server-sent events, made once for all readers that write the same.

    id: <position of the reader behind the event>
    data: <the event>

The id says where the whole reader stands, so each reader has its own; but readers of one partition that started at
about the same time (location.START_STEP_S) have the same one behind the same event, and that is most readers of most
nodes. They share a group. Used by sse.py and reader.py.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from protocols.formats.encoded_events import CACHE_BYTES_MAX, EncodedEvents

if TYPE_CHECKING:
    from protocols.formats.location import PositionWriter
    from routing.event import Event
    from routing.log.partition import Partition


class Group:
    """Of the readers of one partition whose positions have the same head. Lives as long as one of them."""

    __slots__ = ("__weakref__", "_frames", "kept")

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.kept: dict[int, bytes] = {}    # by offset

    def of(self, event: Event, position: PositionWriter) -> bytes:
        """The frame of an event of the partition."""
        found = self.kept.get(event.offset)
        if found is None:
            found = frame(position.text_at(event.offset + 1), self._frames.lines.of(event))
            self._frames.keep(self, event.offset, found)
        return found


class Frames:
    """Of all readers of one encoding. Starts afresh when it is full; holds no event."""

    def __init__(self, encode: Callable[[Event], bytes]) -> None:
        """encode: an event as one line."""
        self.lines = EncodedEvents(encode)
        self._groups: WeakValueDictionary[tuple[Partition, bytes], Group] = WeakValueDictionary()
        self._size = 0                      # of what groups keep, or kept that are gone

    def group(self, partition: Partition, position: PositionWriter) -> Group:
        key = (partition, position.head)
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Group(self)
        return found

    def keep(self, group: Group, offset: int, data: bytes) -> None:
        if not self.lines.sharing:              # there is one reader only
            return
        self._size += len(data)
        if self._size > CACHE_BYTES_MAX:
            self.clear()
            self._size = len(data)
        group.kept[offset] = data

    def clear(self) -> None:
        self.lines.clear()
        for group in list(self._groups.values()):
            group.kept.clear()
        self._size = 0


def frame(position: str, line: bytes) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (position.encode("ascii"), line)
