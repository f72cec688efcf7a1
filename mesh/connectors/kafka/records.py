"""Kafka records <-> events, as docs/kafka.md says for the node's own Kafka door. Pure.

Key, value, headers, timestamp and both nulls are kept. Headers that begin with meshgate- speak for a node: those of a
stranger get another name on the way in, and of our own only what a reader can use goes out.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mesh.connectors.kafka.path import extended
from routing.errors import TopicError
from routing.event import Event, Properties, with_null_key, with_null_payload
from routing.log.records.fields import CLIENT as PUBLISHER
from routing.log.records.fields import (
    DEDUPE_ID,
    DELIVER_AT,
    ESCAPE,
    NODES_OWN,
    NULL_KEY,
    NULL_PAYLOAD,
    QOS,
    RETAIN,
    event_headers,
    read_fields,
    stored_name,
)
from routing.log.template import escape_level
from routing.topic import check_topic

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

_OWN = b"meshgate-"
_STAYS = NODES_OWN | {DEDUPE_ID, DELIVER_AT, NULL_KEY, NULL_PAYLOAD, QOS, RETAIN, PUBLISHER}
_STAYS_TYPED = _STAYS | {name + b";type" for name in _STAYS}
_NO_PROPERTIES = Properties()


class Outgoing(NamedTuple):
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: list[tuple[str, bytes | None]]


def mesh_topic(template: str, topic: str, key: bytes | None) -> str:
    """The topic of the mesh for a record. Raises TopicError: its key makes none."""
    text = template.replace("{topic}", topic.replace(".", "/"))
    if "{key}" in text:
        text = text.replace("{key}", escape_level(key or b""))
        check_topic(text)
        if text.startswith("$"):
            raise TopicError("topics that begin with $ are the node's own")
    return text


def to_event(record: ConsumerRecord[Any, Any], topic: str, *, publisher: str, dedupe_id: str, place: str) -> Event:
    """place: of the cluster, for the way of the record."""
    raw = [(_stranger(name.encode()), value) for name, value in record.headers]
    fields = read_fields(raw)
    properties = msgspec.structs.replace(fields.properties or _NO_PROPERTIES, dedupe_id=dedupe_id)
    if record.key is None:
        properties = with_null_key(properties)
    if record.value is None:
        properties = with_null_payload(properties)
    return Event(
        topic, record.value or b"", 1, publisher, record.key, extended(fields.headers, place), properties,
        timestamp_ms=max(record.timestamp, 0))


def _stranger(name: bytes) -> bytes:
    return stored_name(name) if name.startswith(_OWN) and not name.startswith(ESCAPE) else name


def to_record(event: Event, place: str) -> Outgoing:
    """place: of this node, for the way of the record."""
    properties = event.properties
    key = event.key
    if key is None and not (properties is not None and properties.null_key):
        key = event.topic.encode()
    null = properties is not None and properties.null_payload and not event.payload
    sent = msgspec.structs.replace(event, headers=extended(event.headers, place), origin=None)
    return Outgoing(key, None if null else event.payload, event.timestamp_ms or None, list(_shown(event_headers(sent))))


def _shown(headers: Iterable[tuple[bytes, bytes | None]]) -> Iterable[tuple[str, bytes | None]]:
    for name, value in headers:
        if name not in _STAYS_TYPED:
            yield name.decode("utf-8", "replace"), value
