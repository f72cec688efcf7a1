"""One line of an NDJSON batch → Event: the names of docs/rest.md, most of which are those in which events are shown.

Lines that have only a topic and a payload, which are many, take a short way. Sans-IO. What is wrong with one line is a
Problem in its place; the others count.
"""
from __future__ import annotations

import base64
import binascii

import msgspec

from protocols.rest.problems import Problem
from protocols.rest.translation.convert import ID_BYTES_MAX, TTL_MS_MAX, PublishFields
from routing.errors import TopicError
from routing.event import Event, HeaderValue
from routing.topic import check_topic

TOPICS_CACHED = 4_096           # of one request


class PlainItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    topic: str
    payload: str = ""


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    topic: str
    payload: str | None = None
    payload_base64: str | None = None
    json: msgspec.Raw = msgspec.Raw()           # the payload is this JSON, as it stands there
    key: str | None = None
    key_base64: str | None = None
    headers: list[tuple[str, str | int | float | bool | dict[str, str] | None]] = []
    content_type: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    message_id: str | None = None
    idempotency_key: str | None = None
    priority: int | None = None
    ttl_ms: int | None = None
    retain: bool = False
    guaranteed: bool = True


class Items:
    """Reads the lines of one request."""

    def __init__(self, publisher: str) -> None:
        """publisher: the name that the events carry, see Event.publisher."""
        self._publisher = publisher
        self._plain = msgspec.json.Decoder(PlainItem)
        self._whole = msgspec.json.Decoder(Item)
        self._topics: dict[str, str | Problem] = {}
        self._good: dict[str, str] = {}     # those of them that are topics
        self._are_plain = True              # the last lines were: ask for that first

    def read(self, lines: bytes, now_ms: int) -> tuple[list[Event | Problem], bool]:
        """Whole lines to events, in order; empty lines are none. True: all of them are plain, see Router.publish."""
        if self._are_plain:
            try:
                plain = self._plain.decode_lines(lines)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                self._are_plain = False
            else:
                return self._plain_events(plain)
        found: list[Event | Problem] = []
        try:
            items: list[Item] | None = self._whole.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            items = None
        if items is not None:
            found = [self._event(item, now_ms) for item in items]
        else:
            found = [self._one(line, now_ms) for line in lines.split(b"\n") if line.strip()]
        self._are_plain = items is not None and all(isinstance(event, Event) and _is_plain(event) for event in found)
        return found, False

    def _plain_events(self, items: list[PlainItem]) -> tuple[list[Event | Problem], bool]:
        good_topics, publisher = self._good, self._publisher
        try:
            return [Event(good_topics[item.topic], item.payload.encode(), 1, publisher) for item in items], True
        except KeyError:                        # one is new, or not good
            pass
        found: list[Event | Problem] = []
        good = True
        known = self._topics
        append = found.append
        for item in items:
            topic = known.get(item.topic) or self._topic(item.topic)
            if isinstance(topic, Problem):
                append(topic)
                good = False
            else:
                append(Event(topic, item.payload.encode(), 1, publisher))
        return found, good

    def _one(self, line: bytes, now_ms: int) -> Event | Problem:
        try:
            return self._event(self._whole.decode(line), now_ms)
        except (msgspec.MsgspecError, UnicodeError) as error:
            return Problem(400, "body-invalid", str(error))
        except RecursionError:
            return Problem(400, "body-invalid", "the JSON is nested too deeply")

    def _event(self, item: Item, now_ms: int) -> Event | Problem:
        topic = self._topics.get(item.topic) or self._topic(item.topic)
        if isinstance(topic, Problem):
            return topic
        try:
            event = _fields(item).event(topic, _payload(item), now_ms)
        except (ValueError, TopicError) as error:
            return Problem(400, "body-invalid", str(error))
        event.publisher = self._publisher
        return event

    def _topic(self, topic: str) -> str | Problem:
        """The one object that stands for this topic in this request, checked once."""
        answer: str | Problem = topic
        try:
            check_topic(topic)
        except TopicError as error:
            answer = Problem(400, "topic-invalid", str(error))
        if len(self._topics) >= TOPICS_CACHED:
            self._topics.clear()
            self._good.clear()
        self._topics[topic] = answer
        if isinstance(answer, str):
            self._good[topic] = answer
        return answer


def _is_plain(event: Event) -> bool:
    return not (event.headers or event.retain or event.key is not None or event.properties is not None)


def _payload(item: Item) -> bytes:
    given = (item.payload is not None) + (item.payload_base64 is not None) + bool(item.json)
    if given > 1:
        raise ValueError("a line has one of payload, payload_base64 and json")
    if item.payload is not None:
        return item.payload.encode()
    if item.json:
        return bytes(item.json)
    return _base64("payload_base64", item.payload_base64) if item.payload_base64 is not None else b""


def _fields(item: Item) -> PublishFields:
    key = item.key.encode() if item.key is not None else None
    if item.key_base64 is not None:
        if key is not None:
            raise ValueError("a line has one of key and key_base64")
        key = _base64("key_base64", item.key_base64)
    for name, text in (("correlation_id", item.correlation_id), ("message_id", item.message_id),
                       ("idempotency_key", item.idempotency_key)):
        if text is not None and not 0 < len(text.encode()) <= ID_BYTES_MAX:
            raise ValueError(f"{name} has 1 to {ID_BYTES_MAX} bytes")
    if item.priority is not None and not 0 <= item.priority <= 9:
        raise ValueError("priority is a number from 0 to 9")
    if item.ttl_ms is not None and not 0 <= item.ttl_ms <= TTL_MS_MAX:
        raise ValueError(f"ttl_ms is a number from 0 to {TTL_MS_MAX}")
    if item.reply_to is not None:
        check_topic(item.reply_to)
    content_type = item.content_type or ("application/json" if item.json else None)
    return PublishFields(
        key=key, retain=item.retain, guaranteed=item.guaranteed, ttl_ms=item.ttl_ms, content_type=content_type,
        reply_to=item.reply_to, correlation=item.correlation_id, message_id=item.message_id,
        idempotency_key=item.idempotency_key, priority=item.priority,
        headers=[(name, _header(value)) for name, value in item.headers])


def _header(value: str | int | float | bool | dict[str, str] | None) -> HeaderValue:
    """As event_json shows it: bytes are {"base64": "…"}."""
    if not isinstance(value, dict):
        return value
    if list(value) != ["base64"]:
        raise ValueError('the value of a header is text, a number, true, false, null or {"base64": "…"}')
    return _base64("a header", value["base64"])


def _base64(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None
