"""CloudEvents over HTTP: requests in the three content modes, and readers that ask for them by Accept.

    POST /v1/events/{topic}, POST /v1/events      binary (ce-* fields), structured, batch; see formats/cloudevents.py
    Accept: application/cloudevents+json          each event of a stream as one document (also ?format=cloudevents)
    Accept: application/cloudevents-batch+json    a pull or a page of a stream as one batch

The topic: that of the path, else ?topic=, else the attribute meshgatetopic. The fields Meshgate-* of a single event
stand above what its attributes say.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from aiohttp import hdrs, web

from protocols.formats.cloudevents import (
    BATCH_MEDIA_TYPE,
    MEDIA_TYPE,
    CloudEvent,
    CloudEventError,
    Value,
    build_json,
    check_format,
    from_fields,
    is_batch,
    media_type,
    parse_batch,
    parse_json,
)
from protocols.formats.cloudevents_event import cloud_event, make_event, topic_of
from protocols.rest.problems import Problem
from protocols.rest.translation.convert import PublishFields, percent_decoded
from protocols.web.fields import list_of
from routing.errors import TopicError
from routing.event import Event, Properties
from routing.router import Router
from routing.topic import check_topic

FAMILY = "application/cloudevents"      # the beginning of every format's name


def is_cloud(fields: PublishFields) -> bool:
    """True when a request to publish is a CloudEvent in any mode."""
    return bool(fields.cloud) or is_family(fields.content_type)


def is_family(content_type: str | None) -> bool:
    return content_type is not None and media_type(content_type).startswith(FAMILY)


def check_media_type(fields: PublishFields) -> bool:
    """True for a batch. Raises Problem (400, 415): a format that is not read, or two modes at once."""
    if not is_family(fields.content_type):
        return False
    assert fields.content_type is not None
    try:
        check_format(fields.content_type)
    except CloudEventError as error:
        raise Problem(415, "media-type-unsupported", str(error), {
            "Accept-Post": f"{MEDIA_TYPE}, {BATCH_MEDIA_TYPE}, */*"}) from None
    if fields.cloud:
        raise Problem(400, "cloudevent-invalid", "ce- fields and a structured event do not go together")
    return is_batch(fields.content_type)


def one_event(fields: PublishFields, body: bytes, topic: str | None, now_ms: int) -> Event:
    """The Event of a request with a single CloudEvent. topic: of path or query. Raises Problem (400)."""
    try:
        found = parse_json(body) if not fields.cloud else from_fields(
            fields.cloud, fields.for_body(body).content_type, body)
        return _merged(fields, make_event(found, checked_topic(found, topic)), now_ms)
    except CloudEventError as error:
        raise Problem(400, "cloudevent-invalid", str(error)) from None


def batch_events(
    fields: PublishFields, body: bytes, topic: str | None, now_ms: int, events_max: int,
) -> Iterator[Event | Problem]:
    """The Events of a batch, one by one, in order; what is wrong with one stands in its place.

    Raises Problem (400): no batch.
    """
    if fields.message_id is not None or fields.idempotency_key is not None:
        raise Problem(400, "header-invalid", "one message id or Idempotency-Key cannot stand for a batch of events")
    try:
        items = parse_batch(body, events_max)
    except CloudEventError as error:
        raise Problem(400, "cloudevent-invalid", str(error)) from None
    return (_batch_item(item, fields, topic, now_ms) for item in items)


def _batch_item(
    item: CloudEvent | CloudEventError, fields: PublishFields, topic: str | None, now_ms: int,
) -> Event | Problem:
    try:
        if isinstance(item, CloudEventError):
            raise item
        return _merged(fields, make_event(item, checked_topic(item, topic)), now_ms)
    except CloudEventError as error:
        return Problem(400, "cloudevent-invalid", str(error))
    except Problem as problem:
        return problem


def checked_topic(event: CloudEvent, topic: str | None) -> str:
    """Raises Problem (400): the event names none, or one that breaks the grammar."""
    chosen = topic if topic is not None else topic_of(event)
    if chosen is None:
        raise Problem(400, "topic-invalid", "name a topic: in the path, as ?topic= or as attribute meshgatetopic")
    if topic is None:
        check_named_topic(chosen)
    return chosen


def check_named_topic(topic: str) -> None:
    """Raises Problem (400)."""
    try:
        check_topic(topic)
    except TopicError as error:
        raise Problem(400, "topic-invalid", str(error)) from None


def topic_of_query(request: web.Request) -> str | None:
    """?topic= of POST /v1/events. Raises Problem (400)."""
    raw = request.rel_url.raw_query_string
    if not raw:
        return None
    name, _, value = raw.partition("=")
    if name != "topic" or "&" in value:
        raise Problem(400, "query-invalid", "the query takes topic (one)")
    topic = percent_decoded(value.replace("+", " "))
    check_named_topic(topic)
    return topic


def _merged(fields: PublishFields, made: Event, now_ms: int) -> Event:
    """What the Meshgate- fields say goes before what stands for it in the attributes."""
    asked = fields.event(made.topic, made.payload, now_ms)
    given = made.properties or Properties()
    said = asked.properties or Properties()
    properties = msgspec.structs.replace(
        given,
        expires_at_ms=said.expires_at_ms if said.expires_at_ms is not None else given.expires_at_ms,
        reply_to=said.reply_to if said.reply_to is not None else given.reply_to,
        correlation=said.correlation if said.correlation is not None else given.correlation,
        message_id=said.message_id, priority=said.priority)
    asked.key = asked.key if asked.key is not None else made.key
    asked.headers = made.headers + asked.headers
    asked.properties = properties if properties != _NONE else None
    return asked


_NONE = Properties()


# -- outward ---------------------------------------------------------------------------------------------------------

def accepted(request: web.Request) -> set[str]:
    """Media types that the client names in Accept, without those it does not want (q=0)."""
    found: set[str] = set()
    for part in list_of(request.headers, hdrs.ACCEPT):
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        if not any(text.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for text in parameters):
            found.add(kind)
    return found


def wants_documents(request: web.Request) -> bool:
    """True when each event should be a CloudEvent."""
    return MEDIA_TYPE in accepted(request)


def wants_batch(request: web.Request) -> bool:
    return BATCH_MEDIA_TYPE in accepted(request)


class CloudEventLines:
    """Events as CloudEvents on one line each."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def __call__(self, event: Event) -> bytes:
        return build_json(cloud_event(event, self._router.store.epoch, self._router.ledger.lost))

    def with_attributes(self, event: Event, more: Mapping[str, Value]) -> bytes:
        """more: attributes about the delivery, such as the token to acknowledge it with."""
        found = cloud_event(event, self._router.store.epoch, self._router.ledger.lost)
        found.attributes.update(more)
        return build_json(found)


def batch_pieces(documents: Iterable[bytes], chunk_bytes: int) -> Iterator[bytes]:
    """A batch in pieces of about chunk_bytes; at least one."""
    parts, size, first = [b"["], 0, True
    for document in documents:
        parts += (document,) if first else (b",", document)
        first, size = False, size + len(document)
        if size >= chunk_bytes:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(b"]")
    yield b"".join(parts)
