"""basic.deliver with its content, for one consumer: messages that are alike share all but tag and body.

    method frame: …, consumer tag │ delivery tag, redelivered │ exchange, key │ header frame, head of body │ body
    ◄────────── before ──────────►                            ◄────────────── after ──────────────────────►
"""
from __future__ import annotations

from struct import Struct

from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.line import Line
from protocols.amqp091.codec.frames import BODY, METHOD, OVERHEAD_BYTES, content_frames, content_head
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.convert import NATIVE
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.streamqueue import StreamReading
from routing.cursors.delivery import Delivery

_DELIVER = b"\x00\x3c\x00\x3c"
_HEAD = Struct(">BHI")
_END = b"\xce"
_TAG_SIZES = 8 + 1          # tag and redelivered
_TAG = Struct(">QB")


class Envelopes:
    """line, queue, tag: of the consumer."""

    __slots__ = ("_after", "_before", "_body_bytes", "_line", "_native", "_queue", "_tag_bytes")

    def __init__(self, line: Line, queue: Queue | StreamReading, tag: str) -> None:
        self._line = line
        self._queue = queue
        self._tag_bytes = pack_short(tag)
        self._native: bytes | None = None       # exchange, key and properties of the last one, as they came
        self._body_bytes = -1                   # of it
        self._before = self._after = b""

    def put(self, parts: list[bytes], tag: int, delivery: Delivery) -> None:
        """Append the frames of a delivery."""
        event = delivery.event
        payload = event.payload
        again = delivery.attempts > 1
        native = event.properties.native if event.properties is not None else None
        if native is not None and native.kind == NATIVE and not (
                self._queue.is_stream or (again and self._queue.is_quorum)):
            if native.data != self._native or len(payload) != self._body_bytes:
                self._prepare(native.data, delivery)
            if self._native is not None:
                parts += (self._before, _TAG.pack(tag, again), self._after, payload, _END)
                return
        broker, number = self._line.peer.broker, self._line.number
        exchange, key, raw = outgoing.parts(
            event, delivery, self._queue, broker.router.clock_ms(), broker.router.ledger.lost)
        before, after = self._frames(number, exchange, key)
        parts += (before, _TAG.pack(tag, again), after,
                  content_frames(number, raw, payload, self._line.peer.frame_max))

    def _frames(self, number: int, exchange: bytes, key: bytes) -> tuple[bytes, bytes]:
        """The method frame before and behind tag and redelivered."""
        start = _DELIVER + self._tag_bytes
        size = len(start) + _TAG_SIZES + len(exchange) + len(key)
        return _HEAD.pack(METHOD, number, size) + start, exchange + key + _END

    def _prepare(self, native: bytes, delivery: Delivery) -> None:
        """Remember what those that follow will share, unless they have no body or one of several frames."""
        line, event = self._line, delivery.event
        size = len(event.payload)
        self._native = None
        if not size or size > line.peer.frame_max - OVERHEAD_BYTES:
            return
        broker = line.peer.broker
        exchange, key, raw = outgoing.parts(
            event, delivery, self._queue, broker.router.clock_ms(), broker.router.ledger.lost)
        self._before, after = self._frames(line.number, exchange, key)
        self._after = b"".join((after, content_head(line.number, raw, size), _HEAD.pack(BODY, line.number, size)))
        self._native, self._body_bytes = native, size
