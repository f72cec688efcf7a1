"""Event → JSON, the one form in which SSE, WebSocket and webhooks show an event: docs/rest.md has the list. Sans-IO.

Text where the bytes are UTF-8, else base64 under another name; headers keep order, repeats and types.
"""
from __future__ import annotations

import base64
import math
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from protocols.formats.location import event_id
from routing.event import Event, Headers, HeaderValue, Properties


class EventJson(msgspec.Struct, omit_defaults=True):
    """One event. Text where the bytes are UTF-8, else base64 under another name."""

    topic: str
    time: str                                   # RFC 3339, UTC, ms: when the node stored it
    id: str | None = None                       # these four are absent when no stream captures the topic
    stream: str | None = None
    partition: int | None = None
    offset: int | None = None
    payload: str | None = None
    payload_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: list[tuple[str, object]] = []      # order and repeats kept; bytes as {"base64": "…"}
    content_type: str | None = None
    reply_to: str | None = None
    correlation_id: str | int | None = None
    correlation_id_base64: str | None = None
    message_id: str | int | None = None
    message_id_base64: str | None = None
    priority: int | None = None
    expires: str | None = None                  # RFC 3339
    retain: bool = False


_encoder = msgspec.json.Encoder()


def event_json(event: Event) -> bytes:
    """The event as one line of JSON."""
    return _encoder.encode(event_shown(event))


def event_shown(event: Event) -> EventJson:
    shown = EventJson(event.topic, rfc3339(event.timestamp_ms))
    if event.partition is not None:
        shown.stream, shown.partition, shown.offset = event.partition.stream, event.partition.index, event.offset
        shown.id = event_id(shown.stream, shown.partition, shown.offset)
    shown.payload, shown.payload_base64 = _text_or_base64(event.payload)
    if event.key is not None:
        shown.key, shown.key_base64 = _text_or_base64(event.key)
    if event.headers:
        shown.headers = json_headers(event.headers)
    shown.retain = event.retain
    if event.properties is not None:
        _show_properties(shown, event.properties)
    return shown


def _show_properties(shown: EventJson, properties: Properties) -> None:
    shown.content_type = properties.content_type
    shown.reply_to = properties.reply_to
    shown.priority = properties.priority
    if properties.expires_at_ms is not None:
        shown.expires = rfc3339(properties.expires_at_ms)
    if isinstance(properties.correlation, bytes):
        shown.correlation_id, shown.correlation_id_base64 = _text_or_base64(properties.correlation)
    else:
        shown.correlation_id = properties.correlation
    if isinstance(properties.message_id, bytes):
        shown.message_id, shown.message_id_base64 = _text_or_base64(properties.message_id)
    else:
        shown.message_id = properties.message_id


def json_headers(headers: Headers) -> list[tuple[str, object]]:
    return [(name, _json_value(value)) for name, value in headers]


def _json_value(value: HeaderValue) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)                       # JSON has no such numbers
    if isinstance(value, int) and not -2**63 <= value < 2**64:
        return str(value)
    return value


def _text_or_base64(data: bytes) -> tuple[str | None, str | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode("ascii")


def rfc3339(time_ms: int) -> str:
    """UTC with milliseconds. Beyond year 9999 the largest time that RFC 3339 can say."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    """Events of the same second are many, and strftime is slow."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59"


def parse_rfc3339(text: str) -> int | None:
    """Milliseconds since 1970, or None. A zone is required, so that nobody has to guess.     Source: RFC 3339 §5.6"""
    if len(text) > 40 or len(text) < 20 or text[10] not in "Tt ":
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
