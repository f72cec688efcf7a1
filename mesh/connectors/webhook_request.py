"""An event as the request of a webhook: header fields and body, in one of four formats. Pure.

    raw                      the payload, as it is; the rest in Meshgate- fields, the same as a publish has them
    json                     the JSON that SSE and WebSocket show
    cloudevents              CloudEvents binary mode: ce- fields, the data is the body
    cloudevents-structured   CloudEvents JSON

Nothing in an event can end a header line: control characters are percent-encoded. (hostile.md row 79)
"""
from __future__ import annotations

import string
from collections.abc import Callable
from zlib import crc32

from protocols.formats.cloudevents import JSON_CONTENT_TYPE, build_json, http_fields
from protocols.formats.cloudevents_event import cloud_event
from protocols.formats.event_json import event_json, rfc3339
from routing.event import Event, HeaderValue, Properties

FIELD_CHARS_MAX = 8_000             # aiohttp and others read lines of 8,190 bytes
FIELDS_MAX = 100
_NAME_SAFE = frozenset(string.ascii_lowercase + string.digits + "-._~")
_NO_PROPERTIES = Properties()

Lost = Callable[[str, str, str], None]


class Request:
    """What goes out, but for the signature."""

    __slots__ = ("body", "fields", "message_id")

    def __init__(self, message_id: str, fields: dict[str, str], body: bytes) -> None:
        self.message_id = message_id
        self.fields = fields
        self.body = body


def message_id_of(event: Event, epoch: str) -> str:
    """The same for every attempt and every webhook of this node, and no other event's."""
    partition = event.partition
    place = f"{partition.stream}-{partition.index}-{event.offset}" if partition is not None else f"live-{id(event):x}"
    return f"msg_{crc32(epoch.encode()):08x}-{place}"


def make_request(event: Event, form: str, epoch: str, now_ms: int, lost: Lost) -> Request:
    """lost: told about fields that the format has no place for (routing.publishing.ledger.Ledger.lost)."""
    message_id = message_id_of(event, epoch)
    if form == "json":
        return Request(message_id, {"Content-Type": "application/json"}, event_json(event))
    if form == "cloudevents-structured":
        return Request(message_id, {"Content-Type": JSON_CONTENT_TYPE}, build_json(cloud_event(event, epoch, lost)))
    if form == "cloudevents":
        made = cloud_event(event, epoch, lost)
        fields = dict(http_fields(made))
        fields["Content-Type"] = _text(made.content_type or "application/octet-stream")
        return Request(message_id, fields, made.data or b"")
    return Request(message_id, _raw_fields(event, now_ms, lost), event.payload)


def _raw_fields(event: Event, now_ms: int, lost: Lost) -> dict[str, str]:
    properties = event.properties or _NO_PROPERTIES
    fields = {
        "Content-Type": _text(properties.content_type or "application/octet-stream"),
        "Webhook-Topic": _text(event.topic), "Webhook-Time": rfc3339(event.timestamp_ms),
    }
    if event.key is not None:
        fields["Meshgate-Key"] = _text(event.key)
    if properties.expires_at_ms is not None:
        fields["Meshgate-TTL"] = str(max(properties.expires_at_ms - now_ms, 0))
    if properties.priority is not None:
        fields["Meshgate-Priority"] = str(properties.priority)
    for name, identifier in (("Correlation-Id", properties.correlation), ("Reply-To", properties.reply_to),
                             ("Message-Id", properties.message_id)):
        if identifier is not None:
            fields[f"Meshgate-{name}"] = _text(identifier)
    for header, value in event.headers:
        field = f"Meshgate-Header-{_name(header)}"
        if field in fields or len(fields) >= FIELDS_MAX:
            lost("event", "webhook", "repeated headers" if field in fields else "headers")
            continue
        fields[field] = _text(value)
    for field, text in list(fields.items()):
        if len(text) > FIELD_CHARS_MAX or len(field) > FIELD_CHARS_MAX:
            lost("event", "webhook", "long headers")
            del fields[field]
    return fields


def _name(header: str) -> str:
    """A header's name as part of a field's: what HTTP does not keep is percent-encoded, capitals too."""
    return "".join(
        char if char in _NAME_SAFE else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))
        for char in header)


def _text(value: HeaderValue) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, bool):
        value = "true" if value else "false"
    text = "" if value is None else str(value)
    if text.isprintable():
        return text.encode("utf-8", "replace").decode()
    return "".join(
        char if ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0 and not 0xD800 <= ord(char) < 0xE000
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace")) for char in text)
