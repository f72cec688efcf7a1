"""HTTP → Event: header fields of a publish request to an Event. Sans-IO. The way back is formats/event_json.py.

Fields (translation.md): Meshgate-Key, -TTL, -Retain, -Correlation-Id, -Reply-To, -Message-Id, -Priority, -Guaranteed,
-Header-<name>, Content-Type, Idempotency-Key, traceparent, tracestate. A Meshgate- field that is not known is an error,
so that a misspelt one is not ignored in silence. Field names have no case in HTTP: a header's name is taken in lower
case, and percent-encoding brings any other character through (Meshgate-Header-%52egion is "Region").

Content-Type: curl -d says application/x-www-form-urlencoded of every body, and nobody means it. It is believed of a
body that is a form (name=value&…), and of no other; see for_body().
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from protocols.formats.cloudevents import media_type
from protocols.rest.prefer import preferences
from protocols.rest.problems import Problem
from protocols.web.fields import members_of
from routing.errors import TopicError
from routing.event import Event, HeaderValue, Properties
from routing.topic import check_topic

FORM = "application/x-www-form-urlencoded"
TTL_MS_MAX = 10**15             # some 30,000 years; keeps the sum with the clock within 63 bits
ID_BYTES_MAX = 1_024            # message and correlation ids; they are kept in the dedupe window
_FORM_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-._~!'()+%=&"
_HEADER_PREFIX = "meshgate-header-"
_TRUTH = {"true": True, "1": True, "?1": True, "false": False, "0": False, "?0": False}     # ?1: RFC 9651 §3.3.6


class PublishFields(msgspec.Struct):
    """What the header fields of one publish request say."""

    key: bytes | None = None
    retain: bool = False
    guaranteed: bool = True
    ttl_ms: int | None = None
    content_type: str | None = None
    reply_to: str | None = None
    correlation: str | None = None
    message_id: str | None = None
    idempotency_key: str | None = None
    priority: int | None = None
    respond_async: bool = False
    headers: list[tuple[str, HeaderValue]] = []
    cloud: list[tuple[str, str]] = []           # ce-* fields: a CloudEvent in binary mode, see cloud.py

    @property
    def says_form(self) -> bool:
        """What these fields mean depends on the body."""
        return self.content_type is not None and media_type(self.content_type) == FORM

    def for_body(self, body: bytes) -> PublishFields:
        """These, but for a content type that is not that of the body."""
        return self if not self.says_form or _is_form(body) else msgspec.structs.replace(self, content_type=None)

    def event(self, topic: str, payload: bytes, now_ms: int) -> Event:
        """now_ms: wall clock, from which the TTL counts."""
        return Event(
            topic, payload, 1 if self.guaranteed else 0, key=self.key, headers=tuple(self.headers),
            properties=self.for_body(payload).properties(now_ms), retain=self.retain,
        )

    def properties(self, now_ms: int) -> Properties | None:
        if (
            self.content_type is None and self.ttl_ms is None and self.message_id is None and self.reply_to is None
            and self.correlation is None and self.priority is None and self.idempotency_key is None
        ):
            return None
        return Properties(
            expires_at_ms=None if self.ttl_ms is None else now_ms + self.ttl_ms, content_type=self.content_type,
            reply_to=self.reply_to, correlation=self.correlation, message_id=self.message_id, priority=self.priority,
            dedupe_id=self.idempotency_key,
        )


def publish_fields(items: Iterable[tuple[str, str]]) -> PublishFields:
    """Read the header fields of a publish request. items: as aiohttp gives them. Raises Problem (400)."""
    fields = PublishFields(headers=[], cloud=[])
    seen: set[str] = set()
    for name, value in items:
        lowered = name.lower()
        setter = _SETTERS.get(lowered)
        if setter is not None:
            if lowered in seen and lowered not in _LISTS:
                raise _bad(f"{name} stands in the request more than once")
            seen.add(lowered)
            setter(fields, value)
        elif lowered.startswith("ce-"):
            fields.cloud.append((lowered, value))
        elif lowered.startswith("meshgate-"):
            if not lowered.startswith(_HEADER_PREFIX):
                raise _bad(f"{name} is not a field of Meshgate; see docs/rest.md for the list")
            fields.headers.append((_header_name(lowered[len(_HEADER_PREFIX):]), _text(name, value)))
    return fields


def _bad(detail: str) -> Problem:
    return Problem(400, "header-invalid", detail)


def _text(name: str, value: str) -> str:
    """aiohttp decodes UTF-8 with surrogate escapes; what did not decode is refused here."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _bad(f"{name} is not UTF-8") from None
    return value


def _header_name(raw: str) -> str:
    name = percent_decoded(raw) if "%" in raw else raw
    if not name:
        raise _bad("Meshgate-Header- needs a name behind it")
    return name


def percent_decoded(raw: str) -> str:
    """Undo percent-encoding (RFC 3986 §2.1), strictly. Raises Problem: a lone %, or bytes that are not UTF-8."""
    head, *rest = raw.split("%")
    try:
        data = bytearray(head.encode())
        for part in rest:
            code, tail = part[:2], part[2:]
            if len(code) != 2 or not code.isascii() or not code.isalnum():
                raise ValueError
            data.append(int(code, 16))
            data += tail.encode()
        return data.decode()
    except ValueError:
        raise Problem(400, "encoding-invalid", "percent-encoding is broken, or it is not UTF-8") from None


def filter_of(raw: str) -> str:
    """A topic filter in a path or a query. A + that is a whole level is the wildcard, any other one a space, as HTML
    forms write it (no valid filter has a + there). Raises Problem (400).
    """
    levels = raw.replace("%2f", "/").replace("%2F", "/").split("/")
    return "/".join(level if level == "+" else percent_decoded(level.replace("+", " ")) for level in levels)


def _set_key(fields: PublishFields, value: str) -> None:
    fields.key = value.encode("utf-8", "surrogateescape")       # a key is bytes: whatever HTTP lets through


def _set_retain(fields: PublishFields, value: str) -> None:
    fields.retain = _boolean("Meshgate-Retain", value)


def _set_guaranteed(fields: PublishFields, value: str) -> None:
    fields.guaranteed = _boolean("Meshgate-Guaranteed", value)


def _set_ttl(fields: PublishFields, value: str) -> None:
    fields.ttl_ms = _number("Meshgate-TTL", value, TTL_MS_MAX)


def _set_priority(fields: PublishFields, value: str) -> None:
    fields.priority = _number("Meshgate-Priority", value, 9)


def _set_content_type(fields: PublishFields, value: str) -> None:
    fields.content_type = _text("Content-Type", value) or None


def _set_reply_to(fields: PublishFields, value: str) -> None:
    try:
        check_topic(_text("Meshgate-Reply-To", value))
    except TopicError as error:
        raise _bad(f"Meshgate-Reply-To: {error}") from None
    fields.reply_to = value


def _set_correlation(fields: PublishFields, value: str) -> None:
    fields.correlation = _identifier("Meshgate-Correlation-Id", value)


def _set_message_id(fields: PublishFields, value: str) -> None:
    fields.message_id = _identifier("Meshgate-Message-Id", value)


def _set_idempotency_key(fields: PublishFields, value: str) -> None:
    """A structured-field string ("…") or the bare text. Source: draft-ietf-httpapi-idempotency-key-header §2.1"""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    fields.idempotency_key = _identifier("Idempotency-Key", value)


def _set_prefer(fields: PublishFields, value: str) -> None:
    fields.respond_async = fields.respond_async or preferences(members_of(value)).respond_async


def _set_traceparent(fields: PublishFields, value: str) -> None:
    fields.headers.append(("traceparent", _text("traceparent", value)))


def _set_tracestate(fields: PublishFields, value: str) -> None:
    """All its lines are one list.                                                   Source: W3C Trace Context §3.3.1"""
    text = _text("tracestate", value)
    for at, (name, before) in enumerate(fields.headers):
        if name == "tracestate" and isinstance(before, str):
            fields.headers[at] = name, f"{before},{text}"
            return
    fields.headers.append(("tracestate", text))


def _is_form(body: bytes) -> bool:
    """name=value pairs of the characters that need no encoding, and of what is encoded.   Source: URL Standard §5.2"""
    return b"=" in body.rstrip(b"=") and not body.translate(None, _FORM_BYTES)


def _boolean(name: str, value: str) -> bool:
    found = _TRUTH.get(value.lower())
    if found is None:
        raise _bad(f"{name} is true or false")
    return found


def _number(name: str, value: str, largest: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 16 or int(value) > largest:
        raise _bad(f"{name} is a number from 0 to {largest}")
    return int(value)


def _identifier(name: str, value: str) -> str:
    text = _text(name, value)
    if not text or len(text.encode()) > ID_BYTES_MAX:
        raise _bad(f"{name} has 1 to {ID_BYTES_MAX} bytes")
    return text


_SETTERS: dict[str, Callable[[PublishFields, str], None]] = {
    "content-type": _set_content_type,
    "idempotency-key": _set_idempotency_key,
    "meshgate-correlation-id": _set_correlation,
    "meshgate-guaranteed": _set_guaranteed,
    "meshgate-key": _set_key,
    "meshgate-message-id": _set_message_id,
    "meshgate-priority": _set_priority,
    "meshgate-reply-to": _set_reply_to,
    "meshgate-retain": _set_retain,
    "meshgate-ttl": _set_ttl,
    "prefer": _set_prefer,
    "traceparent": _set_traceparent,            # W3C Trace Context; travels as an event header
    "tracestate": _set_tracestate,
}
_LISTS = frozenset(("prefer", "tracestate"))    # may stand in several lines: RFC 9110 §5.3, RFC 7240 §2
