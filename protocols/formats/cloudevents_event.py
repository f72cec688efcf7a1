"""CloudEvent ↔ Event: the one canonical form, and what a reader who asked for CloudEvents gets of any event. No I/O.

Canonical form: the attribute `x` is the event header `ce_x`, datacontenttype is the event's content type, and the data
is the payload. That is the CloudEvents binding of Kafka, so the log on disk holds CloudEvents as any Kafka tool reads
them. Each protocol writes its own binding from it: `ce-x` fields or JSON on HTTP, user property `x` on MQTT 5.

An event whose content type is application/cloudevents+json (an MQTT publisher that uses the structured mode) stays
byte for byte what it is; a reader of CloudEvents gets what is in it all the same.

Some attributes stand for a property of the Event, both ways; what a client said itself always wins:

    meshgatetopic   topic (never stored: the event has it)     expirytime      expiry, RFC 3339
    partitionkey    key                                        correlationid   correlation, where it is text
    meshgatereplyto reply to                                   traceparent, tracestate   headers of that name
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from protocols.formats.cloudevents import (
    SPECVERSION,
    CloudEvent,
    CloudEventError,
    Value,
    check_attributes,
    is_name,
    is_structured,
    is_text,
    parse_json,
    value_text,
)
from protocols.formats.event_json import parse_rfc3339, rfc3339
from protocols.formats.location import event_id
from routing.errors import TopicError
from routing.event import Event, Headers, HeaderValue, Properties
from routing.topic import check_topic

PREFIX = "ce_"                              # Kafka protocol binding §3.2.3
VERSION_HEADER = PREFIX + "specversion"
TOPIC_ATTRIBUTE = "meshgatetopic"
OUR_OWN = frozenset((TOPIC_ATTRIBUTE, "meshgatetoken", "meshgateattempt"))      # about a delivery: never stored
REPLY_ATTRIBUTE = "meshgatereplyto"
PLAIN_TYPE = "meshgate.event"               # type of an event that was not published as a CloudEvent
TRACE = ("traceparent", "tracestate")       # distributed tracing extension
SOURCE, TARGET = "event", "cloudevents"     # names for the translation ledger
MQTT_PLAIN_PREFIX = "meshgate-header-"      # an ordinary header whose name an attribute of the same event has

Lost = Callable[[str, str, str], None]      # routing.publishing.ledger.Ledger.lost(source, target, field)


# -- inward ----------------------------------------------------------------------------------------------------------

def topic_of(event: CloudEvent) -> str | None:
    """The topic that an event asks for, unchecked. None: it does not say."""
    found = event.attributes.get(TOPIC_ATTRIBUTE)
    return None if found is None else value_text(found)


def event_headers(event: CloudEvent) -> tuple[tuple[str, HeaderValue], ...]:
    """The attributes as headers of an Event."""
    return tuple((PREFIX + name, value) for name, value in event.attributes.items() if name not in OUR_OWN)


def make_event(found: CloudEvent, topic: str) -> Event:
    """A guaranteed Event of a CloudEvent. Raises CloudEventError: an attribute that stands for a property is wrong."""
    expires = found.attributes.get("expirytime")
    expires_at_ms = None
    if expires is not None:
        expires_at_ms = parse_rfc3339(value_text(expires))
        if expires_at_ms is None:
            raise CloudEventError("expirytime is an RFC 3339 time with a zone")
    key = found.attributes.get("partitionkey")
    correlation = found.attributes.get("correlationid")
    reply_to = found.attributes.get(REPLY_ATTRIBUTE)
    if reply_to is not None:
        try:
            check_topic(value_text(reply_to))
        except TopicError as error:
            raise CloudEventError(f"{REPLY_ATTRIBUTE}: {error}") from None
    properties = Properties(
        expires_at_ms=expires_at_ms, content_type=found.content_type,
        correlation=None if correlation is None else value_text(correlation),
        reply_to=None if reply_to is None else value_text(reply_to), payload_is_text=found.is_text)
    return Event(
        topic, found.data or b"", 1, key=None if key is None else value_text(key).encode(),
        headers=event_headers(found), properties=properties if properties != _NONE else None)


_NONE = Properties()


# -- outward ---------------------------------------------------------------------------------------------------------

def is_cloud_event(event: Event) -> bool:
    """True when it was published as a CloudEvent in the canonical form."""
    return any(name == VERSION_HEADER for name, _ in event.headers)


def attributes_of(event: Event) -> CloudEvent | None:
    """What its publisher said, and no data; None when it was not published as a CloudEvent."""
    content_type = None if event.properties is None else event.properties.content_type
    found = _attributes(event.headers, content_type)
    return None if found is None else CloudEvent(found, content_type)


def cloud_event(event: Event, epoch: str, lost: Lost) -> CloudEvent:
    """Any event as a CloudEvent. epoch: of the node's log; with the place in it, it makes up source and id where the
    publisher gave none. lost: told about fields that a CloudEvent has no place for.
    """
    content_type = None if event.properties is None else event.properties.content_type
    if is_structured(content_type):
        try:
            inner = parse_json(event.payload)
            said = {name: value for name, value in inner.attributes.items() if name not in OUR_OWN}
            return CloudEvent({**said, TOPIC_ATTRIBUTE: event.topic}, inner.content_type, inner.data, inner.is_text)
        except CloudEventError:
            pass                                # what calls itself so and is not: data like any other
    attributes = _attributes(event.headers, content_type) or _made_up(event, epoch)
    attributes[TOPIC_ATTRIBUTE] = event.topic
    for name, value in _derived(event, lost):
        attributes.setdefault(name, value)
    is_plain_text = event.properties is not None and event.properties.payload_is_text
    return CloudEvent(attributes, content_type, event.payload or None, is_plain_text)


def _attributes(headers: Headers, content_type: str | None) -> dict[str, Value] | None:
    """The attributes in the headers, None when they do not make a CloudEvent (a Kafka producer may write anything)."""
    found: dict[str, Value] = {}
    for name, value in headers:
        if name.startswith(PREFIX):
            attribute = name[len(PREFIX):]
            if attribute in OUR_OWN:
                continue
            if attribute in found:
                return None
            try:
                found[attribute] = _value(value)
            except ValueError:
                return None
    if not found:
        return None
    try:
        check_attributes(found, content_type)
    except CloudEventError:
        return None
    return found


def _value(value: HeaderValue) -> Value:
    """Raises ValueError: bytes that are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode()                   # Kafka headers are bytes
    if value is None:
        return ""
    return value if isinstance(value, (str, int)) else str(value)


def _made_up(event: Event, epoch: str) -> dict[str, Value]:
    """source and id: unique for ever, since offsets are never used again and a new log has a new epoch."""
    if event.partition is not None:
        made_id = event_id(event.partition.stream, event.partition.index, event.offset)
    else:
        made_id = secrets.token_hex(16)         # never stored: the same event may come under another id
    found: dict[str, Value] = {
        "specversion": SPECVERSION, "id": made_id, "source": f"urn:meshgate:log:{epoch}", "type": PLAIN_TYPE,
    }
    if is_text(event.topic):
        found["subject"] = event.topic
    if event.timestamp_ms:
        found["time"] = rfc3339(event.timestamp_ms)
    return found


def _derived(event: Event, lost: Lost) -> Iterable[tuple[str, Value]]:
    if event.key is not None:
        text = _text_of(event.key)
        if text is None:
            lost(SOURCE, TARGET, "key")
        else:
            yield "partitionkey", text
    for name, value in event.headers:
        if name in TRACE and isinstance(value, str):
            yield name, value
        elif not name.startswith(PREFIX):
            lost(SOURCE, TARGET, "header")
    properties = event.properties
    if properties is None:
        return
    if properties.expires_at_ms is not None:
        yield "expirytime", rfc3339(properties.expires_at_ms)
    if properties.correlation is not None:
        text = _text_of(properties.correlation)
        if text is None:
            lost(SOURCE, TARGET, "correlation")
        else:
            yield "correlationid", text
    if properties.reply_to is not None and is_text(properties.reply_to):
        yield REPLY_ATTRIBUTE, properties.reply_to
    for name, left_out in (("message id", properties.message_id), ("priority", properties.priority)):
        if left_out is not None:
            lost(SOURCE, TARGET, name)


def _text_of(value: bytes | str | int) -> str | None:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    text = str(value)
    return text if text and is_text(text) else None


# -- MQTT 5: user properties ------------------------------------------------------------------------------------------

def take_user_properties(headers: Headers, content_type: str | None) -> Headers:
    """Headers as an MQTT 5 publisher named them → the canonical form, when they are a CloudEvent in binary mode; else
    the headers as they came, because anybody may call a user property "specversion".

    Source: MQTT protocol binding §3.1. Names that no attribute may have stay ordinary headers; order is kept.
    """
    found: dict[str, Value] = {}
    for name, value in headers:
        if is_name(name):
            if name in found or isinstance(value, (bytes, float)) or value is None:
                return headers
            found[name] = value
    try:
        check_attributes(found, content_type)
    except CloudEventError:
        return headers
    return tuple(_taken(name, value) for name, value in headers if name not in OUR_OWN)


def _taken(name: str, value: HeaderValue) -> tuple[str, HeaderValue]:
    if is_name(name):
        return PREFIX + name, value
    plain = name.removeprefix(MQTT_PLAIN_PREFIX)
    return (plain, value) if plain != name and is_name(plain) else (name, value)


def give_user_properties(headers: Headers) -> Headers:
    """The other way: `ce_x` → `x`. Call it for events that is_cloud_event() says yes to."""
    names = {name for name, _ in headers}
    return tuple(_given(name, value, names) for name, value in headers)


def _given(name: str, value: HeaderValue, names: set[str]) -> tuple[str, HeaderValue]:
    if name.startswith(PREFIX) and is_name(name[len(PREFIX):]):
        return name[len(PREFIX):], value
    is_trace = name in TRACE and PREFIX + name not in names
    return (MQTT_PLAIN_PREFIX + name, value) if is_name(name) and not is_trace else (name, value)
