"""The same message with more properties and annotations, as a new event. For what is dead-lettered with a reason."""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp import convert
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import NO_BODY, map_of, split
from protocols.amqp.codec.types import Value
from routing.event import Event

ANNOTATIONS = b"\x00\x53\x72"


def changed(event: Event, now_ms: int, lost: convert.Lost, address_of: Callable[[str], str], *,
            properties: dict[Value, Value], annotations: dict[Value, Value]) -> Event:
    """Its topic is to be set."""
    message = convert.outward(event, 0, now_ms, lost, address_of)
    sections = split(message)
    start, stop = sections.properties
    rest = sections.body[0] if sections.kind != NO_BODY else max(
        sections.bare, stop, sections.message_annotations[1], sections.application_properties[1])
    told = {**map_of(message, sections.application_properties), **properties}
    made = b"".join((
        message[:sections.bare],
        ANNOTATIONS, encode({**map_of(message, sections.message_annotations), **annotations}),
        b"\x00\x53\x73" + message[start:stop] if stop else b"",
        b"\x00\x53\x74" + encode(told) if told else b"",
        message[rest:]))
    reply_to = event.properties.reply_to if event.properties is not None else None
    return convert.read(made, publisher=event.publisher, settled=False, now_ms=now_ms,
                topic_of=lambda address, found: reply_to).event
