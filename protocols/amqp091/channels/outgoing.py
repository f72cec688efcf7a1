"""What a delivery looks like on the wire: exchange, routing key and properties, with what the queue has to add."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091 import convert
from protocols.amqp091.codec.properties import decode_properties, encode_properties
from protocols.amqp091.codec.tables import Long, encode_value, with_field
from routing.cursors.cursor import Delivery
from routing.event import Event

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue


def parts(event: Event, delivery: Delivery, queue: Queue, now_ms: int,
          lost: convert.Lost) -> tuple[bytes, bytes, bytes]:
    """(exchange, routing key, properties): packed short strings, and flags with values."""
    exchange, key, raw = convert.outward(event, now_ms, lost)
    if queue.is_quorum and delivery.attempts > 1:
        raw = _with_header(raw, "x-delivery-count", delivery.attempts - 1)
    return exchange, key, raw


def _with_header(raw: bytes, name: str, value: int) -> bytes:
    content = decode_properties(raw)
    content.raw_headers = with_field(content.raw_headers, name, encode_value(Long(value)))
    return encode_properties(content)
