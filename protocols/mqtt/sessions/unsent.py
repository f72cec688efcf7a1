"""What clients have not taken of live events: one bound for all sockets, of which each gets a part of what the others
leave; and the frames of large events, made once for all who get them in a turn. Sans-IO.

A socket that has taken everything is never asked about. One that has not is written to while it holds no more than its
part. So one slow client has all the room it ever had; a thousand that read nothing get 64 KiB each and not 1 MiB, and
whoever holds most loses first.
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.transport.wire import ByteChannel
from routing.event import Event

PART = 0.25         # of what the others leave: with so much for each, n sockets hold n/(n + 4) of the bound at most


class Unsent:
    __slots__ = ("_bytes_max", "_each_max", "_of", "total")

    def __init__(self, bytes_max: int, each_max: int) -> None:
        """bytes_max: of all sockets together. each_max: of one, whatever room there is."""
        self.total = 0
        self._bytes_max = bytes_max
        self._each_max = each_max
        self._of: dict[ByteChannel, int] = {}

    def __len__(self) -> int:
        return len(self._of)

    def takes(self, channel: ByteChannel, held: int) -> bool:
        """May more be written to a socket that holds so many bytes, above 0?"""
        others = self.total - self._of.get(channel, 0)
        self._of[channel] = held
        self.total = others + held
        return held <= min(self._each_max, PART * (self._bytes_max - others))

    def forget(self, channel: ByteChannel) -> None:
        """It is gone, or has taken everything."""
        self.total -= self._of.pop(channel, 0)

    def look_again(self) -> None:
        """Sockets go on by themselves. Called every tick."""
        for channel in list(self._of):
            held = channel.buffered_bytes()
            if held:
                self.total += held - self._of[channel]
                self._of[channel] = held
            else:
                self.forget(channel)


class LargeFrames:
    """Encoded QoS 0 PUBLISHes of this turn whose payload is too large to be kept with the event."""

    __slots__ = ("_call_soon", "_frames")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._frames: dict[tuple[int, bool], tuple[Event, bytes]] = {}

    def frame(self, event: Event, v5: bool, head: bytes) -> bytes:
        """head: what stands before the payload; the same for all clients of a version."""
        if not self._frames:
            self._call_soon(self._frames.clear)
        key = (id(event), v5)
        found = self._frames.get(key)
        if found is None:
            found = self._frames[key] = (event, head + event.payload)       # the event, so that its id stays its own
        return found[1]
