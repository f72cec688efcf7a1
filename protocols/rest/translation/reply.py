"""Event → header fields of an HTTP answer: the same names that a publish request has (convert.py). Sans-IO.

What HTTP cannot carry in a field is reported, not bent: bytes, and text with control characters in it.
"""
from __future__ import annotations

import string

from protocols.formats.cloudevents import http_fields
from protocols.formats.cloudevents_event import PREFIX as CE_PREFIX
from protocols.formats.cloudevents_event import attributes_of, is_cloud_event
from routing.event import Event, HeaderValue

# RFC 9110 §5.6.2 without upper case, which HTTP does not keep, and without %, which marks what is encoded
_NAME = frozenset(string.ascii_lowercase + string.digits + "!#$&'*+-.^_`|~")


def reply_fields(event: Event) -> tuple[list[tuple[str, str]], list[str]]:
    """Fields, and the names of what is lost."""
    fields: list[tuple[str, str]] = []
    lost: list[str] = []

    def add(name: str, value: HeaderValue, what: str) -> None:
        text = _text(value)
        if text is not None:
            fields.append((name, text))
        elif value is not None:
            lost.append(what)

    properties = event.properties
    content_type = properties.content_type if properties is not None else None
    add("Content-Type", content_type or "application/octet-stream", "content type")
    if event.key is not None:
        add("Meshgate-Key", _decoded(event.key), "key")
    if properties is not None:
        add("Meshgate-Correlation-Id", _decoded(properties.correlation), "correlation")
        add("Meshgate-Message-Id", _decoded(properties.message_id), "message id")
        add("Meshgate-Reply-To", properties.reply_to, "reply to")
        add("Meshgate-Priority", properties.priority, "priority")
    headers = event.headers
    if is_cloud_event(event):                   # their binary mode: ce-id, not Meshgate-Header-ce_id
        found = attributes_of(event)
        if found is not None:
            fields += http_fields(found)
            headers = tuple((name, value) for name, value in headers if not name.startswith(CE_PREFIX))
    for name, value in headers:
        if name in ("traceparent", "tracestate"):
            add(name, value, f"header {name}")
        elif value is None:
            lost.append("header null")
        else:
            add(f"Meshgate-Header-{_name(name)}", value, "header bytes" if isinstance(value, bytes) else "header text")
    if not any(name == "Content-Type" for name, _ in fields):
        fields.append(("Content-Type", "application/octet-stream"))
    return fields, lost


def _decoded(value: bytes | str | int | None) -> HeaderValue:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _text(value: HeaderValue) -> str | None:
    """None: HTTP has no place for it (hostile.md row 79)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, bytes):
        return None
    text = str(value)
    fits = all(char >= " " and char != "\x7f" for char in text) and text == text.strip(" \t")
    return text if fits else None


def _name(name: str) -> str:
    return "".join(
        char if char in _NAME else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name)
