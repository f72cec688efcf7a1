"""What leaves with a content: the parts of a delivery, with what the queue has to add, and a returned message."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091 import convert
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.codec.properties import decode_properties, encode_properties
from protocols.amqp091.codec.tables import Long, encode_value, with_field
from routing.cursors.delivery import Delivery
from routing.event import Event

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from protocols.amqp091.topology.streamqueue import StreamReading

_RETURN = b"\x00\x3c\x00\x32"


def parts(event: Event, delivery: Delivery, queue: Queue | StreamReading, now_ms: int,
          lost: convert.Lost) -> tuple[bytes, bytes, bytes]:
    """(exchange, routing key, properties): packed short strings, and flags with values."""
    exchange, key, raw = convert.outward(event, now_ms, lost)
    if queue.is_stream:
        raw = _with_header(raw, "x-stream-offset", event.offset)
    elif queue.is_quorum and delivery.attempts > 1:
        raw = _with_header(raw, "x-delivery-count", delivery.attempts - 1)
    return exchange, key, raw


def _with_header(raw: bytes, name: str, value: int) -> bytes:
    content = decode_properties(raw)
    content.raw_headers = with_field(content.raw_headers, name, encode_value(Long(value)))
    return encode_properties(content)


def return_frames(channel: int, code: int, text: str, exchange: str, key: str, properties: bytes, body: bytes,
                  frame_max: int) -> bytes:
    """basic.return with its content."""
    payload = b"".join((_RETURN, code.to_bytes(2, "big"), pack_short(text), pack_short(exchange), pack_short(key)))
    return frames.method_frame(channel, payload) + frames.content_frames(channel, properties, body, frame_max)
