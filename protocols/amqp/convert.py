"""AMQP 1.0 messages <-> Events. Knows no other protocol; docs/amqp10.md has the table of fields.

An event that came by AMQP 1.0 carries its sections as they came (Properties.native), but for what changes on the way:
the header, and the delivery annotations, which are for the next hop only. Where the body is one run of bytes it is the
payload and is not kept twice.

    native data = flags · priority · offset (4) · bare message and footer, without the payload when flags say so
                                                 ▲ at offset in it the payload is put back
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

import msgspec

from protocols.amqp.codec.composite import build, encode_composite
from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.decode import TooManyValues, decode
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import (
    ABSENT,
    DATA,
    NO_BODY,
    VALUE,
    Header,
    MessageProperties,
    Sections,
    bodies,
    inner,
    list_of,
    map_of,
    split,
)
from protocols.amqp.codec.types import Array, Described, Symbol, Timestamp, ULong, Value
from routing.cursors.delivery import Delivery
from routing.event import Event, Headers, HeaderValue, Native, Properties

NATIVE = "amqp10"
SOURCE, TARGET = "event", "amqp10"
PRIORITY_MAX = 9                # of an Event
UINT_MAX = 0xFFFFFFFF
KEY_ANNOTATION = Symbol("x-opt-partition-key")
_KEY_BYTES = KEY_ANNOTATION.encode()
_TOPIC = Symbol("x-opt-topic")
_OFFSET = Symbol("x-stream-offset")
_NOTES, _ANNOTATIONS = b"\x00\x53\x71", b"\x00\x53\x72"
_PAYLOAD_OUT, _DURABLE, _HAS_PRIORITY, _HAS_TTL, _FIRST = 1, 2, 4, 8, 16
_HEAD = struct.Struct(">BBI")
_BYTES_OR_TEXT = frozenset((0xA0, 0xB0, 0xA1, 0xB1))
DURABLE_HEADER = b"\x00\x53\x70\xc0\x02\x01\x41"
_TEXT_TYPE = "text/plain; charset=utf-8"

Lost = Callable[[str, str, str], None]
Marks = Callable[[Event], "dict[Value, Value]"]
ReplyTo = Callable[[str, "dict[Value, Value]"], str | None]


class Like(msgspec.Struct, frozen=True):
    """What messages that begin with the same bytes and are as long come to: all but their payloads, which end them."""

    start: bytes
    size: int
    settled: bool
    qos: int
    key: bytes | None
    headers: Headers
    properties: Properties


class Incoming(msgspec.Struct):
    """What a message says of itself, beside what becomes of it as an event. like: None when the next may differ."""

    event: Event
    user_id: bytes | None = None
    to: str | None = None
    like: Like | None = None

    def is_of(self, user: str) -> bool:
        """Its user-id, if it has one, is who has logged in. Where nobody does, nobody can be somebody else."""
        return self.user_id is None or user == "anonymous" or self.user_id == user.encode()


def read(data: bytes, *, publisher: str, settled: bool, now_ms: int, topic_of: ReplyTo) -> Incoming:
    """A message without topic yet. topic_of: an address and the annotations → a topic. Raises DecodeFault."""
    sections = split(data)
    header = _header_of(data, sections)
    found = list_of(data, sections.properties)
    size = len(found)
    annotations: dict[Value, Value] = {}
    key: bytes | None = None
    delivery_time = None
    if sections.message_annotations != ABSENT:
        start, stop = sections.message_annotations
        if data.find(b"x-opt-", start, stop) >= 0:
            annotations = map_of(data, sections.message_annotations)
            if _KEY_BYTES in annotations or KEY_ANNOTATION in annotations:
                key = key_of(annotations)
            delivery_time = _delivery_time(annotations, now_ms)
    headers = headers_of(data, sections) if sections.application_properties != ABSENT else ()
    expires_at_ms = None
    if header.ttl is not None:
        expires_at_ms = now_ms + header.ttl
    elif size > 8 and isinstance(found[8], int):
        expires_at_ms = int(found[8])
    reply_to = found[4] if size > 4 else None
    content_type = found[6] if size > 6 else None
    payload, native = _native(data, sections, header)
    properties = Properties(
        expires_at_ms=expires_at_ms,
        content_type=str(content_type) if content_type is not None else None,
        reply_to=topic_of(reply_to, annotations) if isinstance(reply_to, str) else None,
        correlation=_id(found[5]) if size > 5 else None,
        message_id=_id(found[0]) if size else None,
        priority=min(header.priority, PRIORITY_MAX) if header.priority is not None else None,
        payload_is_text=sections.kind == VALUE and data[sections.value[0]] in (0xA1, 0xB1),
        native=Native(NATIVE, native),
        deliver_at_ms=delivery_time,
    )
    qos = 0 if settled and not header.durable else 1
    event = Event("", payload, qos, publisher, key, headers, properties)
    user_id = found[1] if size > 1 else None
    to = found[2] if size > 2 else None
    like = None
    if expires_at_ms is None and delivery_time is None and user_id is None and payload and data.endswith(payload):
        like = Like(data[:len(data) - len(payload)], len(data), settled, qos, key, headers, properties)
    return Incoming(
        event, user_id if isinstance(user_id, bytes) else None, to if isinstance(to, str) else None, like)


_DURABLE_ONLY, _EMPTY = Header(True), Header()


def _header_of(data: bytes, sections: Sections) -> Header:
    start, stop = sections.header
    if stop - start <= 1:                               # none, or an empty list
        return _EMPTY
    if data[start:stop] == b"\xc0\x02\x01\x41":
        return _DURABLE_ONLY
    return build(Header, list_of(data, sections.header))


def _native(data: bytes, sections: Sections, header: Header) -> tuple[bytes, bytes]:
    """The payload for everybody, and what is kept for AMQP 1.0."""
    flags = _DURABLE if header.durable else 0
    if header.priority is not None:
        flags |= _HAS_PRIORITY
    if header.ttl is not None:
        flags |= _HAS_TTL
    if header.first_acquirer:
        flags |= _FIRST
    value = sections.value
    priority = header.priority or 0
    bare = sections.bare
    if value != ABSENT and data[value[0]] in _BYTES_OR_TEXT:
        start, stop = inner(data, value)
        kept = _HEAD.pack(flags | _PAYLOAD_OUT, priority, start - bare)
        return data[start:stop], kept + data[bare:start] + data[stop:]
    return _payload(data, sections), _HEAD.pack(flags, priority, 0) + data[bare:]


def _payload(data: bytes, sections: Sections) -> bytes:
    """For others, of a body that is no single run of bytes: JSON, or the bytes of all data sections; nothing
    where JSON cannot say it, or it has more than VALUES_MAX items."""
    if sections.kind == NO_BODY:
        return b""
    try:
        found = bodies(data, sections)
    except TooManyValues:
        return b""
    if sections.kind == DATA:
        return b"".join(found)
    try:
        return msgspec.json.encode(_plain(found[0] if len(found) == 1 else found))
    except (TypeError, ValueError, UnicodeEncodeError):
        return b""


def _plain(value: Value) -> object:
    """A value in terms of JSON."""
    if isinstance(value, dict):
        return {key if type(key) is str else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Array):
        return [_plain(item) for item in value.items]
    if isinstance(value, Described):
        return _plain(value.value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _id(value: Value) -> bytes | str | int | None:
    if isinstance(value, (str, bytes)) or value is None:
        return value
    return int(value) if isinstance(value, int) else str(value)


def key_of(annotations: dict[Value, Value]) -> bytes | None:
    """The partition key."""
    value = annotations.get(KEY_ANNOTATION)
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "replace") if value is not None else None


def _delivery_time(annotations: dict[Value, Value], now_ms: int) -> int | None:
    """x-opt-delivery-time, x-opt-scheduled-enqueue-time: when; x-opt-delivery-delay: in how many ms.

    Source: Qpid JMS, Artemis; Azure Service Bus
    """
    at = annotations.get("x-opt-delivery-time")
    if at is None:
        at = annotations.get("x-opt-scheduled-enqueue-time")
    if isinstance(at, int) and not isinstance(at, bool):
        return int(at)
    delay = annotations.get("x-opt-delivery-delay")
    if isinstance(delay, int) and not isinstance(delay, bool):
        return now_ms + int(delay)
    return None


def headers_of(data: bytes, sections: Sections) -> Headers:
    """Application properties for everybody: what only AMQP has becomes text."""
    return tuple([(str(name), _header(value)) for name, value in map_of(data, sections.application_properties).items()])


def _header(value: Value) -> HeaderValue:
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is bytes or kind is int or kind is float:
        return value                                    # type: ignore[no-any-return]  # one of these it is
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, (str, UUID)):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    return msgspec.json.encode(_plain(value)).decode()


# -- out --------------------------------------------------------------------------------------------------------------

def outward(event: Event, delivery_count: int, now_ms: int, lost: Lost, address_of: Callable[[str], str], *,
            named: bool = False, notes: Marks | None = None, marks: Marks | None = None,
            counted: bool = False) -> bytes:
    """The encoded message. delivery_count: how often its delivery has failed. named: one without message annotations
    gets its topic as such, since RabbitMQ's clients count on there being some. notes: what goes along as delivery
    annotations; marks: as message annotations beside those it has. counted: a delivery-count of 0 is told, too.
    """
    properties = event.properties
    native = properties.native if properties is not None else None
    if native is not None and native.kind == NATIVE and len(native.data) >= _HEAD.size:
        data = native.data
        flags, priority, offset = _HEAD.unpack_from(data)
        if flags == _DURABLE | _PAYLOAD_OUT and not delivery_count and not counted:
            start = DURABLE_HEADER
        else:
            start = _header_section(event, flags, priority, delivery_count, now_ms, counted)
        if notes is not None:
            start += _NOTES + encode(notes(event))
        if marks is not None:
            cut = _HEAD.size + (offset if flags & _PAYLOAD_OUT else 0)
            bare = data[_HEAD.size:cut] + (event.payload if flags & _PAYLOAD_OUT else b"") + data[cut:]
            return start + _marked(bare, marks(event))
        if named and data[_HEAD.size:_HEAD.size + 3] != b"\x00\x53\x72":
            start += _names(event)
        if flags & _PAYLOAD_OUT:
            cut = _HEAD.size + offset
            return b"".join((start, data[_HEAD.size:cut], event.payload, data[cut:]))
        return start + data[_HEAD.size:]
    return _foreign(event, delivery_count, now_ms, lost, address_of, named=named, notes=notes, marks=marks,
                    counted=counted)


def outward_all(deliveries: list[Delivery], now_ms: int, lost: Lost, address_of: Callable[[str], str], *,
                named: bool = False, notes: Marks | None = None, marks: Marks | None = None,
                counted: bool = False) -> list[bytes]:
    """outward() of each. Those that came as alike (Like) have their properties in common, so they go out alike."""
    made: list[bytes] = []
    known: Properties | None = None
    around: tuple[bytes, bytes] | None = None
    simple = not (named or counted) and notes is None and marks is None
    for delivery in deliveries:
        event = delivery.event
        if delivery.attempts == 1 and event.properties is known and known is not None and simple:
            if around is None:
                around = _around(known)
            if around is not None:
                made.append(around[0] + event.payload + around[1])
                continue
        known, around = event.properties, None
        made.append(outward(event, delivery.attempts - 1, now_ms, lost, address_of, named=named, notes=notes,
                            marks=marks, counted=counted))
    return made


def _around(properties: Properties) -> tuple[bytes, bytes] | None:
    """What stands before and behind the payload; None: that is not all."""
    native = properties.native
    if native is None or native.kind != NATIVE or len(native.data) < _HEAD.size:
        return None
    data = native.data
    flags, _, offset = _HEAD.unpack_from(data)
    if flags != _DURABLE | _PAYLOAD_OUT:
        return None
    cut = _HEAD.size + offset
    return DURABLE_HEADER + data[_HEAD.size:cut], data[cut:]


def topic_note(event: Event) -> dict[Value, Value]:
    """For a reader whose filter has wildcards: x-opt-topic, whatever the sender wrote in to."""
    return {_TOPIC: event.topic}


def offset_mark(event: Event) -> dict[Value, Value]:
    """For a reader of a stream: x-stream-offset, as RabbitMQ's clients look for it there."""
    return {_OFFSET: event.offset}


def _names(event: Event) -> bytes:
    return _ANNOTATIONS + encode({Symbol("x-routing-key"): event.topic})


def _marked(bare: bytes, marks: dict[Value, Value]) -> bytes:
    """A message without header, with more annotations."""
    start, stop = split(bare, ordered=False).message_annotations
    found = map_of(bare, (start, stop)) if stop else {}
    return _ANNOTATIONS + encode({**found, **marks}) + bare[stop:]


def _header_section(event: Event, flags: int, priority: int, delivery_count: int, now_ms: int, counted: bool) -> bytes:
    header = Header(
        durable=True if flags & _DURABLE else None, priority=priority if flags & _HAS_PRIORITY else None,
        ttl=_ttl(event, now_ms) if flags & _HAS_TTL else None,
        first_acquirer=True if flags & _FIRST and not delivery_count else None,
        delivery_count=delivery_count if counted else delivery_count or None)
    return encode_composite(header) if header != _NO_HEADER else b""


_NO_HEADER = Header()


def _ttl(event: Event, now_ms: int) -> int | None:
    """What is left of its time to live.                                                      Source: §3.2.1"""
    properties = event.properties
    if properties is None or properties.expires_at_ms is None:
        return None
    return min(max(properties.expires_at_ms - now_ms, 0), UINT_MAX)


def _foreign(event: Event, delivery_count: int, now_ms: int, lost: Lost, address_of: Callable[[str], str],
             *, named: bool, notes: Marks | None, marks: Marks | None, counted: bool) -> bytes:
    """An event that came by another protocol."""
    found = event.properties if event.properties is not None else Properties()
    header = Header(durable=True if event.guaranteed else None, priority=found.priority, ttl=_ttl(event, now_ms),
                    delivery_count=delivery_count if counted else delivery_count or None)
    content_type = found.content_type
    if content_type is not None and not content_type.isascii():
        lost(SOURCE, TARGET, "content type that is not ASCII")
        content_type = None
    if content_type is None and found.payload_is_text:
        content_type = _TEXT_TYPE
    properties = MessageProperties(
        message_id=_outward_id(found.message_id), to=address_of(event.topic),
        reply_to=address_of(found.reply_to) if found.reply_to is not None else None,
        correlation_id=_outward_id(found.correlation), content_type=content_type,
        creation_time=Timestamp(event.timestamp_ms) if event.timestamp_ms else None)
    parts = [encode_composite(header) if header != _NO_HEADER else b""]
    if notes is not None:
        parts.append(_NOTES + encode(notes(event)))
    annotations: dict[Value, Value] = {}
    if event.key is not None:
        annotations[KEY_ANNOTATION] = _text_or_bytes(event.key)
    if marks is not None:
        annotations |= marks(event)
    if annotations:
        parts.append(_ANNOTATIONS + encode(annotations))
    elif named:
        parts.append(_names(event))
    parts.append(encode_composite(properties))
    if event.headers:
        parts.append(b"\x00\x53\x74" + encode(_application_properties(event.headers, lost)))
    parts.append(b"\x00\x53\x75" + encode(event.payload))
    return b"".join(parts)


def _outward_id(value: bytes | str | int | None) -> Value:
    if isinstance(value, int):
        return ULong(value) if 0 <= value < 1 << 64 else str(value)
    return value


def _text_or_bytes(key: bytes) -> str | bytes:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key


def _application_properties(headers: Headers, lost: Lost) -> dict[Value, Value]:
    made: dict[Value, Value] = {}
    for name, value in headers:
        if name in made:
            lost(SOURCE, TARGET, "repeated header")
        if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
            lost(SOURCE, TARGET, "header type to text")
            made[name] = str(value)
        else:
            made[name] = value
    return made


def value_of(data: bytes) -> Value:
    """The only amqp-value of a message, for coordinators and management. Raises DecodeFault."""
    sections = split(data)
    if sections.kind != VALUE or sections.value == ABSENT:
        raise DecodeFault("a message whose body is no single value")
    return decode(data, *sections.value)[0]
