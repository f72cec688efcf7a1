"""A message as its sections, which are found without looking into them. AMQP 1.0 §3.2. Sans-IO.

    header · delivery annotations · message annotations · properties · application properties · body · footer
                                    └────────────── the bare message ──────────────────────┘
    body: any number of data sections, or of sequences, or one value; JMS sends none at all for a message without body
"""
from __future__ import annotations

from typing import ClassVar, NamedTuple

from protocols.amqp.codec.composite import Composite, register
from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.decode import VALUES_MAX, Left, decode, extent, skip, skip_plain
from protocols.amqp.codec.hot import fields
from protocols.amqp.codec.types import Symbol, Value

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, SEQUENCE, VALUE, FOOTER = range(0x75, 0x79)
NO_BODY = 0
SECTIONS_MAX = 5_000        # of one message: 10 ms
_MAPS = frozenset((0x45, 0xC1, 0xD1))
_NAMES: dict[Value, int] = {
    Symbol(f"amqp:{name}"): code for name, code in (
        ("header:list", HEADER), ("delivery-annotations:map", DELIVERY_ANNOTATIONS),
        ("message-annotations:map", MESSAGE_ANNOTATIONS), ("properties:list", PROPERTIES),
        ("application-properties:map", APPLICATION_PROPERTIES), ("data:binary", DATA),
        ("amqp-sequence:list", SEQUENCE), ("amqp-value:*", VALUE), ("footer:map", FOOTER))
}
Span = tuple[int, int]
ABSENT: Span = (0, 0)


class Header(Composite):
    code: ClassVar[int] = HEADER
    name: ClassVar[str] = "amqp:header:list"
    wire: ClassVar[str] = "boolean ubyte uint boolean uint"
    durable: bool | None = None
    priority: int | None = None
    ttl: int | None = None                          # ms
    first_acquirer: bool | None = None
    delivery_count: int | None = None


class MessageProperties(Composite):
    code: ClassVar[int] = PROPERTIES
    name: ClassVar[str] = "amqp:properties:list"
    wire: ClassVar[str] = "id binary address string address id symbol symbol timestamp timestamp string uint string"
    message_id: Value = None
    user_id: bytes | None = None
    to: str | None = None
    subject: str | None = None
    reply_to: str | None = None
    correlation_id: Value = None
    content_type: str | None = None
    content_encoding: str | None = None
    absolute_expiry_time: int | None = None
    creation_time: int | None = None
    group_id: str | None = None
    group_sequence: int | None = None
    reply_to_group_id: str | None = None


register((Header, MessageProperties))


class Sections(NamedTuple):
    """Where the value of each section stands in the message, from its constructor on; ABSENT: it has none.

    bare: where the message begins without header and delivery annotations. body: where its first section begins, and
    where the last one ends. kind: DATA, SEQUENCE, VALUE or NO_BODY; value: of its only section, ABSENT when there are
    several.
    """

    header: Span
    message_annotations: Span
    properties: Span
    application_properties: Span
    bare: int
    kind: int
    body: Span
    value: Span


def split(data: bytes, *, ordered: bool = True) -> Sections:
    """Raises DecodeFault: a section that is none, twice, or not in its place, where that counts."""
    header = annotations = properties = application = value = body = ABSENT
    bare = -1
    kind = NO_BODY
    position, end, before, count = 0, len(data), 0, 0
    while position < end:
        start = position
        count += 1
        if count > SECTIONS_MAX:
            raise DecodeFault(f"a message of more than {SECTIONS_MAX} sections")
        if data[position:position + 2] == b"\x00\x53" and position + 2 < end:
            code = data[position + 2]
            position += 3
        else:
            code, position = _descriptor(data, position, end)
        if not HEADER <= code <= FOOTER or (ordered and (
                code < before or (code == before and code not in (DATA, SEQUENCE)))):
            raise DecodeFault("the sections of a message are not in their order")
        if DATA <= code <= VALUE and DATA <= before <= VALUE and code != before:
            raise DecodeFault("a message with two kinds of body")
        stop = skip(data, position, end)
        if code >= MESSAGE_ANNOTATIONS and bare < 0:
            bare = start
        if code == HEADER:
            header = position, stop
        elif code == MESSAGE_ANNOTATIONS:
            annotations = position, stop
        elif code == PROPERTIES:
            properties = position, stop
        elif code == APPLICATION_PROPERTIES:
            application = position, stop
        elif DATA <= code <= VALUE:
            value = (position, stop) if kind == NO_BODY else ABSENT
            body = (start, stop) if kind == NO_BODY else (body[0], stop)
            kind = code
        if code == DATA and data[position] not in (0xA0, 0xB0):
            raise DecodeFault("a data section holds no binary")
        before = code
        position = stop
    if bare < 0:
        bare = end
    return Sections(header, annotations, properties, application, bare, kind, body, value)


def _descriptor(data: bytes, position: int, end: int) -> tuple[int, int]:
    """In one of its rarer forms."""
    if data[position]:
        raise DecodeFault("a section of a message is not described")
    stop = skip_plain(data, position + 1, end)
    found = decode(data, position + 1, stop)[0]
    code = _NAMES.get(found) if isinstance(found, Symbol) else found
    if not isinstance(code, int):
        raise DecodeFault(f"unknown section {found!r:.60}")
    return code, stop


def inner(data: bytes, span: Span) -> Span:
    """What a binary, string or symbol holds."""
    return extent(data, span[0] + 1, span[1], data[span[0]])


def map_of(data: bytes, span: Span) -> dict[Value, Value]:
    """A section that is a map; an absent one is empty. Raises DecodeFault."""
    if span == ABSENT:
        return {}
    found = decode(data, *span)[0]
    if not isinstance(found, dict):
        raise DecodeFault("annotations or properties are no map")
    return found


def list_of(data: bytes, span: Span) -> list[Value]:
    """A section that is a list; an absent one is empty."""
    return fields(data, *span)[0] if span != ABSENT else []


def bodies(data: bytes, sections: Sections) -> list[Value]:
    """The values of all body sections. Raises TooManyValues."""
    left: Left = [VALUES_MAX]
    found: list[Value] = []
    position, end = sections.body
    while position < end:
        value, position = decode(data, position, end, 0, left)
        found.append(value.value)
    return found
