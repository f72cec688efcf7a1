"""Messages that begin as the last one did, byte for byte: the same but for their bodies. The way of a busy publisher.

    method frame: exchange, key │ header frame: size of the body, properties │ head of the body frame │ body │ 0xCE
    ◄────────────────────────── head, as before ─────────────────────────────────────────────────────►

What the last one came to (Plain) holds for these as well, until something is declared, bound or deleted: nothing of
their frames has to be looked at but their ends.
"""
from __future__ import annotations

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec.frames import BODY, FRAME_END, METHOD, Frame
from protocols.amqp091.topology.topology import Plain, Topology
from routing.event import Event
from routing.settings import Limits

HEAD_BYTES_MAX = 1024       # of a head that is remembered
RUN_MAX = 64                # messages between two questions whether the turn is over


class Repeats:
    """One per connection."""

    __slots__ = ("_begin", "_body_bytes", "_channel", "_frames", "_head", "_limits", "_plain", "_topology", "_version")

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._head = b""                        # of the last one, b"": there is none to compare with
        self._body_bytes = 0
        self._channel: Channel | None = None
        self._plain: Plain | None = None
        self._version = -1                      # of the topology
        self._limits: Limits | None = None
        self._begin = -1                        # where in the current read the last method frame began
        self._frames = 0                        # that have followed it

    def frame(self, channel: Channel, frame: Frame, data: bytes, plain: Plain | None) -> None:
        """A frame that was looked at; plain: what the message came to that it has completed."""
        if frame.type == METHOD:
            self._begin, self._frames = frame.position - 7, 0
            self._channel = channel
            self._head = b""
            return
        self._frames += 1
        if plain is None or frame.type != BODY or self._frames != 2 or channel is not self._channel:
            return
        size = frame.end - frame.position
        if self._begin < 0 or not size or frame.position - self._begin > HEAD_BYTES_MAX:
            return
        self._head = data[self._begin:frame.position]
        self._body_bytes = size
        self._plain = plain
        self._version = self._topology.version
        self._limits = channel.peer.broker.router.limits

    def read_ends(self) -> None:
        """What has begun in this read and goes on in the next one is not remembered."""
        self._begin = -1

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Messages from position on that are like the last one. Returns how many, and where the next frame is."""
        head = self._head
        if not head or not data.startswith(head, position):
            return 0, position
        channel, plain = self._channel, self._plain
        assert channel is not None and plain is not None
        if (self._version != self._topology.version or channel.closing or channel.transaction is not None
                or channel.assembly.waits or self._limits is not channel.peer.broker.router.limits):
            self._head = b""
            return 0, position
        topic, properties, client_id = plain.topic, plain.properties, channel.peer.client_id
        qos = 1 if plain.durable or channel.confirms.on else 0
        head_bytes, body_bytes = len(head), self._body_bytes
        events: list[Event] = []
        available = len(data)
        while len(events) < RUN_MAX:
            end = position + head_bytes + body_bytes
            if end >= available or data[end] != FRAME_END:
                break
            events.append(Event(topic, data[position + head_bytes:end], qos, client_id, None, (), properties))
            position = end + 1
            if not data.startswith(head, position):
                break
        if events:
            channel.publishing.add_run(channel.confirms, events)
        return len(events), position
