"""Who consumes amq.rabbitmq.reply-to on a channel: answers come to it past log and queues. See replies.py."""
from __future__ import annotations

from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.window import Window
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.replies import Deliver

_DELIVER = b"\x00\x3c\x00\x3c"


class Asker:
    """tag: of its consumer. name: what stands in reply-to for it."""

    __slots__ = ("_line", "_window", "name", "tag")

    def __init__(self, line: Line, window: Window, tag: str) -> None:
        self._line = line
        self._window = window
        self.tag = tag
        self.name = line.peer.broker.replies.open(self._deliverer)

    def _deliverer(self, name: str) -> Deliver:
        def deliver(properties: bytes, body: bytes) -> None:
            line, peer = self._line, self._line.peer
            if peer.closed or line.closing:
                return
            broker = peer.broker
            if peer.stream.buffered_bytes() > broker.settings.write_buffer_high_bytes * 4:
                broker.counters.dropped["slow requester"] += 1          # nothing is kept for it anywhere
                return
            payload = b"".join((
                _DELIVER, pack_short(self.tag), self._window.next_tag().to_bytes(8, "big"), b"\x00", b"\x00",
                pack_short(name)))
            peer.write(frames.method_frame(line.number, payload) + frames.content_frames(
                line.number, properties, body, peer.frame_max))
            broker.counters.delivered += 1

        return deliver

    def close(self) -> None:
        self._line.peer.broker.replies.close(self.name)
