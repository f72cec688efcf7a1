"""Content properties of AMQP 0-9-1: the flags and values of a content header <-> a Content.

What came in goes out again byte for byte: raw is kept with the event, and the values are read beside it for those who
speak another protocol. Source: AMQP 0-9-1 §4.2.6.1, class basic.

    flags  15 content-type · 14 content-encoding · 13 headers · 12 delivery-mode · 11 priority
           10 correlation-id · 9 reply-to · 8 expiration · 7 message-id · 6 timestamp · 5 type · 4 user-id
           3 app-id · 2 cluster-id · 0 more flags follow
"""
from __future__ import annotations

import msgspec

from protocols.amqp091.codec.codes import FRAME_ERROR, SYNTAX_ERROR, HardError
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.codec.tables import Table, decode_table, encode_table

EMPTY = b"\x00\x00"
HEADERS_FLAG, EXPIRATION_FLAG = 1 << 13, 1 << 8
_NAMES = {
    15: "content_type", 14: "content_encoding", 13: "headers", 12: "delivery_mode", 11: "priority",
    10: "correlation_id", 9: "reply_to", 8: "expiration", 7: "message_id", 6: "timestamp", 5: "type", 4: "user_id",
    3: "app_id", 2: "cluster_id",
}
_WIDTHS = {12: 1, 11: 1, 6: 8}
_MORE, _UNKNOWN = 1, 2


class Content(msgspec.Struct):
    """Properties of a message. Texts that are not UTF-8 stay bytes."""

    content_type: str | bytes | None = None
    content_encoding: str | bytes | None = None
    headers: Table | None = None
    delivery_mode: int | None = None            # 2: durable
    priority: int | None = None
    correlation_id: str | bytes | None = None
    reply_to: str | bytes | None = None
    expiration: str | bytes | None = None       # ms, as text
    message_id: str | bytes | None = None
    timestamp: int | None = None                # seconds since 1970
    type: str | bytes | None = None
    user_id: str | bytes | None = None
    app_id: str | bytes | None = None
    cluster_id: str | bytes | None = None
    raw_headers: bytes | None = None            # the table as it came; goes out before headers

    @property
    def varies(self) -> bool:
        """Something in it is of this message alone, or has to be looked at each time."""
        return (self.headers is not None or self.expiration is not None or self.user_id is not None
                or self.reply_to is not None or self.correlation_id is not None or self.message_id is not None
                or self.timestamp is not None)


def decode_properties(data: bytes, position: int = 0, end: int | None = None) -> Content:
    """data: flags and values. Raises HardError 501, 502."""
    end = len(data) if end is None else end
    content = Content()
    if position + 2 > end:
        raise HardError(FRAME_ERROR, "a content header is cut off")
    flags = data[position] << 8 | data[position + 1]
    position += 2
    if flags & (_MORE | _UNKNOWN):
        raise HardError(SYNTAX_ERROR, "unknown properties in a content header")
    for bit, name in _NAMES.items():
        if not flags >> bit & 1:
            continue
        width = _WIDTHS.get(bit)
        if width is not None:
            if position + width > end:
                raise HardError(SYNTAX_ERROR, "a content header is cut off")
            setattr(content, name, int.from_bytes(data[position:position + width], "big"))
            position += width
        elif bit == 13:
            start = position
            content.headers, position = decode_table(data, position, end)
            content.raw_headers = data[start:position]
        else:
            if position >= end or (stop := position + 1 + data[position]) > end:
                raise HardError(SYNTAX_ERROR, "a content header is cut off")
            raw = data[position + 1:stop]
            try:
                setattr(content, name, raw.decode())
            except UnicodeDecodeError:
                setattr(content, name, raw)
            position = stop
    if position != end:
        raise HardError(SYNTAX_ERROR, "a content header is longer than its properties")
    return content


def encode_properties(content: Content) -> bytes:
    flags = 0
    parts = [b""]
    for bit, name in _NAMES.items():
        value = getattr(content, name)
        if bit == 13 and content.raw_headers is not None:
            value = content.raw_headers
        if value is None:
            continue
        flags |= 1 << bit
        width = _WIDTHS.get(bit)
        if width is not None:
            parts.append(value.to_bytes(width, "big"))
        elif bit == 13:
            parts.append(value if isinstance(value, bytes) else encode_table(value))
        elif isinstance(value, bytes):
            parts.append(bytes((len(value),)) + value)
        else:
            parts.append(pack_short(value))
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)
