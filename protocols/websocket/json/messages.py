"""The messages of /v1/ws: what a client may say, and how the node's answers are written. Sans-IO. docs/websocket.md.

A text message is one JSON object whose "op" names its kind. A binary message carries a payload beside its JSON:

    +-----------------------+---------------------+----------------------+
    | length of the JSON, 4 | JSON object         | payload, to the end  |
    +-----------------------+---------------------+----------------------+

decode() raises BadMessage, never anything else.
"""
from __future__ import annotations

import base64
import binascii
from typing import Literal, TypeAlias

import msgspec

from protocols.formats.cloudevents import CloudEventError, parse_json
from protocols.formats.cloudevents_event import make_event, topic_of
from protocols.formats.event_json import EventJson, event_shown
from routing.errors import TopicError
from routing.event import Event, HeaderValue, Properties
from routing.rights.policy import REPLY_PREFIX
from routing.topic import check_topic

ID_CHARS_MAX = 256              # of ids and names that a client chooses
MESSAGE_ID_BYTES_MAX = 1_024    # message and correlation ids, and keys, which are kept in the dedupe window
TTL_MS_MAX = 10**15             # as in protocols/rest/translation/convert.py
FILTERS_MAX = 64                # of one subscription
NUMBERS_MAX = 10_000            # deliveries in one ack
HEAD_BYTES = 4                  # big-endian length before the JSON of a binary message

Id: TypeAlias = str | int | None


class BadMessage(Exception):
    """problem: last segment of the problem type. id: what the client called the message, as far as that is known."""

    def __init__(self, text: str, problem: str = "message-invalid", id: Id = None) -> None:
        super().__init__(text)
        self.text = text
        self.problem = problem
        self.id = id


class _Message(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    id: Id = None               # comes back in the answer


class Auth(_Message, tag="auth", kw_only=True):
    """The first message of a browser, which cannot set header fields."""

    token: str | None = None
    api_key: str | None = None
    user: str | None = None
    password: str | None = None


class Bytes(msgspec.Struct, forbid_unknown_fields=True):
    base64: str


class _Publishing(_Message, kw_only=True):
    payload: str | None = None
    payload_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: list[tuple[str, str | int | float | bool | Bytes | None]] = []
    content_type: str | None = None
    ttl_ms: int | None = None
    retain: bool = False
    reply_to: str | None = None
    correlation_id: str | int | None = None
    correlation_id_base64: str | None = None
    message_id: str | int | None = None
    idempotency_key: str | int | None = None
    priority: int | None = None
    guaranteed: bool = True


class Publish(_Publishing, tag="publish", kw_only=True):
    topic: str


class Request(_Publishing, tag="request", kw_only=True):
    topic: str
    timeout_ms: int = 30_000


class Reply(_Publishing, tag="reply", kw_only=True):
    to: str                     # reply_to of the request


class CloudEventIn(_Message, tag="cloudevent", kw_only=True):
    """A publish in the JSON format of CloudEvents. Without topic, the event's attribute meshgatetopic says it."""

    event: msgspec.Raw
    topic: str | None = None


class Subscribe(_Message, tag="subscribe", kw_only=True):
    subscription: str
    filters: list[str] = []
    consumer: str | None = None                 # durable: its name
    start: str | None = msgspec.field(default=None, name="from")
    mode: str | None = None
    credit: int | None = None
    binary: bool = False
    format: Literal["json", "cloudevents"] = "json"
    takeover: bool = False
    ack_timeout_ms: int | None = None
    max_deliveries: int | None = None


class Unsubscribe(_Message, tag="unsubscribe", kw_only=True):
    subscription: str
    delete: bool = False


class Credit(_Message, tag="credit", kw_only=True):
    subscription: str
    add: int


class Ack(_Message, tag="ack", kw_only=True):
    subscription: str
    deliveries: list[int] = []
    up_to: int | None = None


class Nack(_Message, tag="nack", kw_only=True):
    subscription: str
    deliveries: list[int]
    delay_ms: int | None = None


class Ping(_Message, tag="ping", kw_only=True):
    pass


Said: TypeAlias = (
    Auth | Publish | Request | Reply | CloudEventIn | Subscribe | Unsubscribe | Credit | Ack | Nack | Ping)


class _OnlyId(msgspec.Struct):
    id: Id = None


_decoder = msgspec.json.Decoder(Said)
_id_decoder = msgspec.json.Decoder(_OnlyId)
_encoder = msgspec.json.Encoder()


def decode(message: str | bytes) -> tuple[Said, bytes | None]:
    """The message, and the payload that stood behind it in a binary one. Raises BadMessage."""
    if isinstance(message, str):
        return _decode(message.encode()), None
    size = int.from_bytes(message[:HEAD_BYTES], "big")
    if len(message) < HEAD_BYTES + size:
        raise BadMessage("a binary message is the length of its JSON in 4 bytes, the JSON, and the payload")
    said = _decode(message[HEAD_BYTES:HEAD_BYTES + size])
    if not isinstance(said, _Publishing):
        raise BadMessage("only publish, request and reply carry a payload in a binary message", id=said.id)
    if said.payload is not None or said.payload_base64 is not None:
        raise BadMessage("the payload stands behind the JSON, so not in it", id=said.id)
    return said, message[HEAD_BYTES + size:]


def _decode(data: bytes) -> Said:
    try:
        said: Said = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:     # ValueError: surrogates, huge numbers
        text = str(error)[:300] if not isinstance(error, RecursionError) else "nested too deeply"
        raise BadMessage(text, id=_id_of(data)) from None
    if not _fine(said.id):
        raise BadMessage(f"an id is a number or has at most {ID_CHARS_MAX} characters")
    return said


def _id_of(data: bytes) -> Id:
    try:
        found = _id_decoder.decode(data).id
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return found if _fine(found) else None


def _fine(id: Id) -> bool:
    return len(id) <= ID_CHARS_MAX if isinstance(id, str) else id is None or -2**63 <= id < 2**63


# -- to an Event -----------------------------------------------------------------------------------------------------

def event_of(said: Publish | Request | Reply, payload: bytes | None, now_ms: int) -> Event:
    """The event that a message publishes. now_ms: wall clock, from which the TTL counts. Raises BadMessage."""
    topic = said.to if isinstance(said, Reply) else said.topic
    _check_topic(topic, said.id)
    if payload is None:
        payload = _either(said, "payload") or b""
    headers = tuple([(name, _header(said, name, value)) for name, value in said.headers]) if said.headers else ()
    return Event(
        topic, payload, 1 if said.guaranteed else 0, key=_either(said, "key"), headers=headers,
        properties=_properties(said, now_ms), retain=said.retain)


def event_of_cloudevent(said: CloudEventIn) -> Event:
    """The event that a cloudevent message publishes. Raises BadMessage."""
    try:
        found = parse_json(bytes(said.event))
        topic = said.topic if said.topic is not None else topic_of(found)
        if topic is None:
            raise BadMessage("name the topic, here or in the attribute meshgatetopic", "topic-invalid", said.id)
        _check_topic(topic, said.id)
        return make_event(found, topic)
    except CloudEventError as error:
        raise BadMessage(str(error), "cloudevent-invalid", said.id) from None


def _check_topic(topic: str, id: Id) -> None:
    try:
        check_topic(topic)
    except TopicError as error:
        raise BadMessage(str(error), "topic-invalid", id) from None
    if topic[:1] == "$" and not topic.startswith(REPLY_PREFIX):
        raise BadMessage("topics that begin with $ belong to the node", "not-authorized", id)


def _properties(said: _Publishing, now_ms: int) -> Properties | None:
    correlation: bytes | str | int | None = said.correlation_id
    if said.correlation_id_base64 is not None:
        correlation = _either(said, "correlation_id")
    if (said.ttl_ms is None and said.content_type is None and said.reply_to is None and correlation is None
            and said.message_id is None and said.priority is None and said.idempotency_key is None):
        return None
    if said.ttl_ms is not None and not 0 <= said.ttl_ms <= TTL_MS_MAX:
        raise BadMessage(f"ttl_ms is a number from 0 to {TTL_MS_MAX}", id=said.id)
    if said.priority is not None and not 0 <= said.priority <= 9:
        raise BadMessage("priority is a number from 0 to 9", id=said.id)
    for name, value in (("message_id", said.message_id), ("correlation_id", correlation),
                        ("idempotency_key", said.idempotency_key)):
        _check_identifier(said, name, value)
    if said.reply_to is not None:
        try:
            check_topic(said.reply_to)
        except TopicError as error:
            raise BadMessage(f"reply_to: {error}", id=said.id) from None
    return Properties(
        expires_at_ms=None if said.ttl_ms is None else now_ms + said.ttl_ms, content_type=said.content_type,
        reply_to=said.reply_to, correlation=correlation, message_id=said.message_id, priority=said.priority,
        dedupe_id=said.idempotency_key)


def _check_identifier(said: _Publishing, name: str, value: bytes | str | int | None) -> None:
    if value is None:
        return
    if isinstance(value, int):
        if not -2**63 <= value < 2**63:
            raise BadMessage(f"{name} has at most 63 bits", id=said.id)
    elif not value or len(value if isinstance(value, bytes) else value.encode()) > MESSAGE_ID_BYTES_MAX:
        raise BadMessage(f"{name} has 1 to {MESSAGE_ID_BYTES_MAX} bytes", id=said.id)


def _either(said: _Publishing, name: str) -> bytes | None:
    """The bytes of a field that comes as text or, under another name, as base64."""
    text: str | None = getattr(said, name)
    encoded: str | None = getattr(said, f"{name}_base64")
    if encoded is None:
        return None if text is None else text.encode()
    if text is not None:
        raise BadMessage(f"either {name} or {name}_base64", id=said.id)
    return _from_base64(said, f"{name}_base64", encoded)


def _header(said: _Publishing, name: str, value: object) -> HeaderValue:
    if isinstance(value, Bytes):
        return _from_base64(said, f"the header {name}", value.base64)
    if isinstance(value, int) and not -2**63 <= value < 2**63:
        raise BadMessage(f"the header {name} has more than 63 bits; send it as text", id=said.id)
    assert value is None or isinstance(value, (str, int, float, bool))
    return value


def _from_base64(said: _Publishing, what: str, encoded: str) -> bytes:
    try:
        return binascii.a2b_base64(encoded.encode("ascii"), strict_mode=True)
    except ValueError:
        raise BadMessage(f"{what} is not base64", id=said.id) from None


# -- answers ---------------------------------------------------------------------------------------------------------

def answer(op: str, id: Id = None, **fields: object) -> bytes:
    """An answer as JSON. Fields that are None are left out."""
    shown: dict[str, object] = {"op": op}
    if id is not None:
        shown["id"] = id
    shown.update({name: value for name, value in fields.items() if value is not None})
    return _encoder.encode(shown)


def encoded(value: object) -> bytes:
    return _encoder.encode(value)


def refused(id: Id, problem: str, detail: str, op: str = "refused") -> bytes:
    return answer(op, id, problem=f"/problems/{problem}", detail=detail)


def event_start(subscription: str) -> bytes:
    """The part that all events of a subscription begin with."""
    return b'{"op":"event","subscription":' + _encoder.encode(subscription)


def event_head(event: Event) -> bytes:
    """The event's JSON without its payload, for a binary message."""
    shown: EventJson = event_shown(event)
    shown.payload = shown.payload_base64 = None
    return _encoder.encode(shown)


def binary(head: bytes, payload: bytes) -> bytes:
    """A binary message."""
    return len(head).to_bytes(HEAD_BYTES, "big") + head + payload


def basic(user: str, password: str) -> str:
    """An Authorization field of RFC 7617, so that first messages and header fields take one way."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
