"""AMQP 0-9-1 messages <-> Events. Knows no other protocol; docs/amqp.md has the table of fields.

An event that came by AMQP carries its exchange, routing key and properties as they came (Properties.native), so that
it leaves by AMQP byte for byte. What others can read of it is taken out beside that.

    native data = short string exchange · short string routing key · flags and values of the content header
"""
from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.codec.properties import Content, encode_properties
from protocols.amqp091.codec.tables import Table, Value
from protocols.amqp091.topology.names import TOPIC_EXCHANGE, key_of
from routing.event import Event, Headers, HeaderValue, Native, Properties

NATIVE = "amqp091"
SOURCE = "event"
TARGET = "amqp"
EXPIRATION_MAX_MS = 0xFFFFFFFF
SHORT_MAX = 255
NAME_BYTES_MAX = 255            # of a field of a table
DURABLE = 2

Lost = Callable[[str, str, str], None]


def event_of(topic: str, exchange: str, key: str, raw: bytes, content: Content, body: bytes, publisher: str,
             confirmed: bool, now_ms: int) -> Event:
    """The Event of a message. Raises SoftError 406 for an expiration that is none."""
    expires_at_ms: int | None = None
    if content.expiration is not None:
        expires_at_ms = now_ms + expiration_ms(content.expiration)
    headers: Headers = ()
    event_key: bytes | None = None
    if content.headers:
        headers, event_key = _headers_of(content.headers)
    reply_to = content.reply_to
    properties = Properties(
        expires_at_ms=expires_at_ms,
        content_type=content.content_type if isinstance(content.content_type, str) else None,
        reply_to=reply_to if isinstance(reply_to, str) else None,
        correlation=content.correlation_id,
        message_id=content.message_id,
        priority=content.priority,
        native=Native(NATIVE, pack_short(exchange) + pack_short(key) + raw),
    )
    qos = 1 if confirmed or content.delivery_mode == DURABLE else 0
    return Event(topic, body, qos, publisher, event_key, headers, properties)


def expiration_ms(text: str | bytes) -> int:
    value = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= EXPIRATION_MAX_MS):
        raise SoftError(PRECONDITION_FAILED, f"invalid expiration '{value[:40]}': no number of milliseconds", (60, 40))
    return int(value)


def _headers_of(table: Table) -> tuple[Headers, bytes | None]:
    """Header values for everybody: what only AMQP has becomes text."""
    found: list[tuple[str, HeaderValue]] = []
    key: bytes | None = None
    for name, value in table.items():
        if name == "meshgate-key" and isinstance(value, (str, bytes)):
            key = value.encode() if isinstance(value, str) else value
        elif isinstance(value, (list, dict)):
            found.append((name, msgspec.json.encode(_plain(value), enc_hook=str).decode("utf-8", "replace")))
        elif isinstance(value, Decimal):
            found.append((name, str(value)))
        elif isinstance(value, int) and not isinstance(value, bool):
            found.append((name, int(value)))
        else:
            found.append((name, value))
    return tuple(found), key


def _plain(value: Value) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return str(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def native_parts(event: Event) -> tuple[bytes, bytes, bytes] | None:
    """(exchange, routing key, properties) as they came, both names as packed short strings. None: not by AMQP."""
    properties = event.properties
    native = properties.native if properties is not None else None
    if native is None or native.kind != NATIVE:
        return None
    data = native.data
    size = len(data)
    after_exchange = 1 + data[0] if size else size
    after_key = after_exchange + 1 + data[after_exchange] if after_exchange < size else size
    if after_key + 2 > size:                            # of another node, and not as we write it
        return None
    return data[:after_exchange], data[after_exchange:after_key], data[after_key:]


def outward(event: Event, now_ms: int, lost: Lost) -> tuple[bytes, bytes, bytes]:
    """The same for any event: one from elsewhere comes from amq.topic."""
    parts = native_parts(event)
    if parts is not None:
        return parts
    key = key_of(event.topic)
    if len(key.encode("utf-8", "replace")) > SHORT_MAX:
        lost(SOURCE, TARGET, "topic cut to 255 bytes")
    return pack_short(TOPIC_EXCHANGE), pack_short(key), encode_properties(_content_of(event, now_ms, lost))


def _content_of(event: Event, now_ms: int, lost: Lost) -> Content:
    content = Content(delivery_mode=DURABLE if event.guaranteed else 1)
    found = event.properties
    if found is not None:
        content.content_type = _short(found.content_type, "content type", lost)
        content.reply_to = _short(found.reply_to, "reply to", lost)
        if found.expires_at_ms is not None:
            content.expiration = str(max(found.expires_at_ms - now_ms, 0))
        content.priority = found.priority
        content.correlation_id = _id(found.correlation, "correlation", lost)
        content.message_id = _id(found.message_id, "message id", lost)
    headers: Table = {}
    for name, value in event.headers:
        if name in headers:
            lost(SOURCE, TARGET, "repeated header")
        if len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX:
            lost(SOURCE, TARGET, "header name over 255 bytes")
        elif isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
            lost(SOURCE, TARGET, "header type to text")
            headers[name] = str(value)
        else:
            headers[name] = value
    if event.key is not None:
        headers["meshgate-key"] = event.key
    if headers:
        content.headers = headers
    if event.timestamp_ms:
        content.timestamp = event.timestamp_ms // 1000
    return content


def _short(text: str | None, what: str, lost: Lost) -> str | None:
    if text is not None and len(text.encode("utf-8", "replace")) > SHORT_MAX:
        lost(SOURCE, TARGET, what)
        return None
    return text


def _id(value: bytes | str | int | None, what: str, lost: Lost) -> bytes | str | None:
    if isinstance(value, int):
        value = str(value)
        lost(SOURCE, TARGET, what + " type to text")
    if value is not None and len(value if isinstance(value, bytes) else value.encode("utf-8", "replace")) > SHORT_MAX:
        lost(SOURCE, TARGET, what)
        return None
    return value
