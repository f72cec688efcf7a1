"""PUBLISH <-> Event, and what is lost on the way. Knows the wire's fields, no connection and no router.

Fields (translation.md): Message Expiry, Content Type, Response Topic, Correlation Data and the payload format have
their own place in the Event; User Properties are its headers, in order and with repeats. What MQTT has no field for
travels as a User Property: "meshgate-key" and "meshgate-message-id". MQTT 3.1.1 has none of it: its losses are
reported to the translation ledger, once for each frame that is encoded.

CloudEvents (their MQTT binding): in binary mode the attributes are User Properties of the same name, and become headers
in the canonical form of cloudevents_event.py; an event in structured mode is its payload and goes through untouched.
"""
from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple

from protocols.errors import ProtocolViolation
from protocols.formats.cloudevents_event import VERSION_HEADER, give_user_properties, take_user_properties
from protocols.mqtt.codec import properties, reasons
from protocols.mqtt.codec.packets import Publish, Will
from protocols.mqtt.codec.properties import PropertyDict, encode_binary, encode_text, encode_varint
from routing.errors import TopicError
from routing.event import Event, Headers, HeaderValue, Properties
from routing.queues.options import QUEUE_TOPICS
from routing.rights.policy import REPLY_PREFIX
from routing.topic import check_topic, is_wildcard

KEY_NAME = "meshgate-key"
MESSAGE_ID_NAME = "meshgate-message-id"
BRIDGE_PREFIX = "$SYS/broker/connection/"
DEDUPE_ID_NAME = "meshgate-dedupe-id"       # in only: what comes again with it is the same message
TEXT_BYTES_MAX = 65_535
MQTT_3, MQTT_5 = "mqtt-3.1.1", "mqtt-5"
SOURCE = "event"                                    # an Event does not say which protocol it came by

Lost = Callable[[str, str, str], None]              # routing.publishing.ledger.Ledger.lost(source, target, field)


def check_publish_topic(topic: str) -> None:
    """Raise ProtocolViolation unless a client may name this topic in a PUBLISH or will, policy aside.

    The topic is taken as it stands, character by character [MQTT-4.7.3-4].
    """
    try:
        check_topic(topic)
    except TopicError as error:                                         # [MQTT-3.3.2-2] [MQTT-4.7.0-1]
        code = reasons.TOPIC_NAME_INVALID if topic else reasons.PROTOCOL_ERROR          # [MQTT-4.7.3-1]
        raise ProtocolViolation(code, str(error)) from None


def is_internal(topic: str) -> bool:
    """$SYS and our own $-topics: published by the node alone. Anybody may answer a request
    (routing/direct/replies.py), and send straight to a queue; and a bridge says whether it is up, as Mosquitto's do.
    """
    return (topic[:1] == "$" and not topic.startswith((REPLY_PREFIX, QUEUE_TOPICS))
            and not is_bridge_state(topic))


def is_bridge_state(topic: str) -> bool:
    """$SYS/broker/connection/NAME/state: retained, 1 or 0. The one topic below $SYS to which Mosquitto lets others
    publish; its bridges have their will there.
    """
    if not topic.startswith(BRIDGE_PREFIX):
        return False
    name, _, rest = topic[len(BRIDGE_PREFIX):].partition("/")
    return bool(name) and rest == "state"


def publish_to_event(publish: Publish, topic: str, publisher: str, now_ms: int, keep_packet_id: bool) -> Event:
    """The Event of a PUBLISH. topic: with the alias resolved. keep_packet_id: QoS 2 of a session that outlives us."""
    packet_id = publish.packet_id if keep_packet_id and publish.qos == 2 else None
    if not publish.properties:
        found = Properties(mqtt_packet_id=packet_id) if packet_id is not None else None
        return Event(topic, publish.payload, publish.qos, publisher, None, (), found, publish.retain)
    headers, key, ids = _split_headers(publish.properties)
    found = _event_properties(publish.properties, publish.payload, now_ms, packet_id, ids)
    return Event(topic, publish.payload, publish.qos, publisher, key, headers, found, publish.retain)


def will_to_event(will: Will, publisher: str, now_ms: int) -> Event:
    """The Event of a will, when it is published: its expiry counts from now."""
    headers, key, ids = _split_headers(will.properties)                          # [MQTT-3.1.3-10]
    found = _event_properties(will.properties, will.payload, now_ms, None, ids)
    return Event(will.topic, will.payload, will.qos, publisher, key, headers, found, will.retain)


def check_will(will: Will) -> None:
    """Raise ProtocolViolation for what is wrong with a will, when it is set."""
    check_publish_topic(will.topic)
    if is_internal(will.topic):
        raise ProtocolViolation(reasons.NOT_AUTHORIZED, "clients do not publish to topics that begin with $")
    _event_properties(will.properties, will.payload, 0, None, _NO_IDENTIFIERS)


def _event_properties(found: PropertyDict, payload: bytes, now_ms: int, packet_id: int | None,
                      ids: Identifiers) -> Properties | None:
    expiry = found.get(properties.MESSAGE_EXPIRY)
    reply_to = found.get(properties.RESPONSE_TOPIC)
    if isinstance(reply_to, str):
        if is_wildcard(reply_to) or not reply_to:                                       # [MQTT-3.3.2-14]
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "the response topic is not a topic name")
    else:
        reply_to = None
    content_type = found.get(properties.CONTENT_TYPE)
    correlation = found.get(properties.CORRELATION_DATA)
    is_text = found.get(properties.PAYLOAD_FORMAT) == 1
    if is_text:
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise ProtocolViolation(reasons.PAYLOAD_FORMAT_INVALID, "the payload is not UTF-8 text") from None
    made = Properties(
        expires_at_ms=now_ms + expiry * 1000 if isinstance(expiry, int) else None,
        content_type=content_type if isinstance(content_type, str) else None,
        reply_to=reply_to,
        correlation=correlation if isinstance(correlation, bytes) else None,
        message_id=ids.message_id,
        dedupe_id=ids.dedupe_id,
        payload_is_text=is_text,
        mqtt_packet_id=packet_id,
    )
    return made if made != _NONE else None


_NONE = Properties()


class Identifiers(NamedTuple):
    """What User Properties say beside headers."""

    message_id: str | None = None
    dedupe_id: str | None = None


_NO_IDENTIFIERS = Identifiers()


def _split_headers(found: PropertyDict) -> tuple[Headers, bytes | None, Identifiers]:
    """(headers, key, identifiers) of the User Properties; a ";type" sidecar gives the value before it its type back."""
    pairs = found.get(properties.USER_PROPERTY)
    if not isinstance(pairs, list):
        return (), None, _NO_IDENTIFIERS
    headers: list[tuple[str, HeaderValue]] = []
    key: bytes | None = None
    message_id: str | None = None
    dedupe_id: str | None = None
    for pair in pairs:
        assert isinstance(pair, tuple)
        name, value = pair
        if name == KEY_NAME and key is None:
            key = value.encode()
        elif name == MESSAGE_ID_NAME and message_id is None:
            message_id = value
        elif name == DEDUPE_ID_NAME and dedupe_id is None:
            dedupe_id = value
        elif name.endswith(";type") and headers and headers[-1][0] + ";type" == name:
            _restore_type(headers, name, value)
        else:
            headers.append((name, value))
    return _as_cloud_event(tuple(headers), found), key, Identifiers(message_id, dedupe_id)


def _as_cloud_event(headers: Headers, found: PropertyDict) -> Headers:
    """The headers in the canonical form, when they are those of a CloudEvent."""
    if any(name == "specversion" for name, _ in headers):
        content_type = found.get(properties.CONTENT_TYPE)
        return take_user_properties(headers, content_type if isinstance(content_type, str) else None)
    return headers


def _restore_type(headers: list[tuple[str, HeaderValue]], sidecar: str, kind: str) -> None:
    """Undo header_text(), when that is possible without loss; else keep the sidecar as a header."""
    name, text = headers[-1]
    value: HeaderValue = None
    try:
        assert isinstance(text, str)
        if kind == "int":
            value = int(text) if len(text) <= 20 else text
        elif kind == "float":
            value = float(text)
        elif kind == "bool":
            value = text == "true"
        elif kind == "bytes":
            value = text.encode()
        elif kind == "base64":
            value = base64.b64decode(text, validate=True)
        elif kind != "null":
            value = text
        restored = header_text(value) == (text, kind)
    except (ValueError, AssertionError):
        restored = False
    headers[-1:] = [(name, value)] if restored else [(name, text), (sidecar, kind)]


def header_text(value: HeaderValue) -> tuple[str, str]:
    """(text, kind) of a header value; kind is "" for text, and goes into the sidecar otherwise."""
    if isinstance(value, str):
        return value, ""
    if value is None:
        return "", "null"
    if isinstance(value, bool):
        return "true" if value else "false", "bool"
    if isinstance(value, int):
        return str(value), "int"
    if isinstance(value, float):
        return repr(value), "float"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), "base64"
    return (text, "bytes") if "\0" not in text else (base64.b64encode(value).decode(), "base64")


# -- outward ----------------------------------------------------------------------------------------------------


def property_bytes(event: Event, now_ms: int, lost: Lost) -> bytes:
    """Encoded MQTT 5 properties of an event, without their length; b"" when it has none.

    The expiry is what remains of it, in whole seconds, at least 1 [MQTT-3.3.2-6]. Everything else goes out as it
    came in: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
    """
    parts: list[bytes] = []
    found = event.properties
    if found is not None:
        _append_properties(parts, found, now_ms, lost)
    if event.key is not None:
        _append_pair(parts, KEY_NAME, event.key, lost)
    headers = event.headers
    if headers and any(name == VERSION_HEADER for name, _ in headers):
        headers = give_user_properties(headers)
    for name, value in headers:
        if isinstance(value, str):
            _append_pair(parts, name, value, lost)
            continue
        text, kind = header_text(value)
        _append_pair(parts, name, text, lost)
        _append_pair(parts, name + ";type", kind, lost)
        lost(SOURCE, MQTT_5, "header type to text")
    return b"".join(parts)


def _append_properties(parts: list[bytes], found: Properties, now_ms: int, lost: Lost) -> None:
    if found.payload_is_text:
        parts.append(b"\x01\x01")
    if found.expires_at_ms is not None:
        left_s = min(max(-(-(found.expires_at_ms - now_ms) // 1000), 1), 0xFFFFFFFF)
        parts.append(b"\x02" + left_s.to_bytes(4, "big"))
    for head, name, value in ((b"\x03", "content type", found.content_type), (b"\x08", "reply to", found.reply_to)):
        if value is not None:
            if _fits(value):
                parts.append(head + encode_text(value))
            else:
                lost(SOURCE, MQTT_5, name)
    if found.correlation is not None:
        raw = found.correlation if isinstance(found.correlation, bytes) else str(found.correlation).encode()
        if len(raw) > TEXT_BYTES_MAX:
            lost(SOURCE, MQTT_5, "correlation")
        else:
            parts.append(b"\x09" + encode_binary(raw))
            if not isinstance(found.correlation, bytes):
                lost(SOURCE, MQTT_5, "correlation type to bytes")
    if found.message_id is not None:
        raw_id = found.message_id
        _append_pair(parts, MESSAGE_ID_NAME, raw_id if isinstance(raw_id, bytes) else str(raw_id), lost)
    if found.priority is not None:
        lost(SOURCE, MQTT_5, "priority")


def _fits(text: str) -> bool:
    return "\0" not in text and len(text) <= TEXT_BYTES_MAX and len(text.encode("utf-8", "replace")) <= TEXT_BYTES_MAX


def _append_pair(parts: list[bytes], name: str, value: str | bytes, lost: Lost) -> None:
    if isinstance(value, bytes):
        text, kind = header_text(value)
        value = text
        if kind == "base64":
            lost(SOURCE, MQTT_5, name + " bytes to base64")
    if _fits(name) and _fits(value):
        try:
            parts.append(b"\x26" + encode_text(name) + encode_text(value))
            return
        except UnicodeEncodeError:
            pass                                    # a lone surrogate from elsewhere
    lost(SOURCE, MQTT_5, "header")


def subscription_id_bytes(identifiers: list[int]) -> bytes:
    """Subscription Identifiers as properties, one for each [MQTT-3.3.4-3] [MQTT-3.3.4-4]."""
    return b"".join([b"\x0b" + encode_varint(identifier) for identifier in identifiers])


def report_v3_losses(event: Event, lost: Lost) -> None:
    """Tell the ledger what an MQTT 3.1.1 subscriber does not get of this event."""
    if event.headers:
        lost(SOURCE, MQTT_3, "headers")
    if event.key is not None:
        lost(SOURCE, MQTT_3, "key")
    found = event.properties
    if found is None:
        return
    for name, value in (("expires", found.expires_at_ms), ("content type", found.content_type),
                        ("reply to", found.reply_to), ("correlation", found.correlation),
                        ("message id", found.message_id), ("priority", found.priority)):
        if value is not None:
            lost(SOURCE, MQTT_3, name)
    if found.payload_is_text:
        lost(SOURCE, MQTT_3, "payload format")
