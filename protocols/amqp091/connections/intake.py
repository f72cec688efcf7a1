"""What a connection has read, cut into frames, in bounded pieces: the rest is put back when its turn is over.

Frames that are like the ones before them (messages that differ in their bodies, acks one behind the other) are taken
many at a time, without being cut.
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.channels.repeats import Repeats
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import basic
from protocols.amqp091.connections.openchannels import OpenChannels
from protocols.amqp091.methods.settling import take_acks

LOOK_EVERY = 64             # frames between two questions whether the turn is over


class Intake:
    """One per connection. frame: what to do with a frame, and the data that it stands in."""

    __slots__ = ("_channels", "_cutter", "_frame", "_peer", "repeats")

    def __init__(self, peer: Peer, channels: OpenChannels, frame: Callable[[frames.Frame, bytes], None]) -> None:
        self._peer = peer
        self._channels = channels
        self._frame = frame
        self._cutter = frames.Cutter(peer.frame_max)
        self.repeats = Repeats(peer.broker.declared.topology)

    def join(self, data: bytes) -> bytes | None:
        """With what was kept of the last read; None: that is not a frame yet."""
        return self._cutter.join(data)

    def keep(self, data: bytes, needed: int) -> None:
        self._cutter.keep(data, needed)

    def read(self, data: bytes, position: int) -> None:
        """All frames from position on, until the end, or until the connection waits or ends. Raises HardError."""
        count, look_at = 0, LOOK_EVERY
        cut, peer = self._cutter, self._peer
        cut.frame_max = peer.frame_max
        while not peer.closed:
            if peer.held or (count >= look_at and peer.stream.over()):
                if position < len(data):
                    peer.broker.counters.bytes_in -= len(data) - position
                    peer.stream.put_back(data[position:])
                break
            if count >= look_at:
                look_at = count + LOOK_EVERY
            taken, position = self._take_run(data, position)
            if taken:
                count += taken
                continue
            count += 1
            found = cut.next(data, position)
            if isinstance(found, int):
                if position < len(data):
                    cut.keep(data[position:], found)
                break
            position = found.end + 1
            self._frame(found, data)
            cut.frame_max = peer.frame_max          # it may have been agreed on just now
        self.repeats.read_ends()

    def _take_run(self, data: bytes, position: int) -> tuple[int, int]:
        """How many frames were taken at once, and where the next one is."""
        if data.startswith(basic.ACK_SIZED, position + 3) and data[position] == frames.METHOD:
            channel = self._channels.get(data[position + 1] << 8 | data[position + 2])
            if channel is None or channel.closing or channel.assembly.waits:
                return 0, position
            return take_acks(channel, data, position)
        return self.repeats.take(data, position)
