"""Event fields <-> the headers of a Kafka record. The form is described in docs/log.md.

Called by encode.py and decode.py, and only for events that have more than a topic, a payload and a publisher; those
three go the short way there. Order in the record: ours first (topic, qos, client, retain, properties), then the
user's headers in their order, repeats kept. Text is UTF-8. A value of another type is followed by a sidecar header
"<name>;type". Nothing here raises: whatever a Kafka producer sent reads as some Event.
"""
from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator

import msgspec

from routing.event import DeadLetter, Event, Headers, HeaderValue, Native, OriginPartition, Properties

RawHeader = tuple[bytes, bytes | None]

TOPIC = b"meshgate-topic"
QOS = b"meshgate-qos"
CLIENT = b"meshgate-client"
RETAIN = b"meshgate-retain"
EXPIRES = b"meshgate-expires"
DELIVER_AT = b"meshgate-deliver-at"
CONTENT_TYPE = b"content-type"
REPLY_TO = b"reply-to"
CORRELATION = b"correlation-id"
MESSAGE_ID = b"message-id"
DEDUPE_ID = b"meshgate-dedupe-id"
PRIORITY = b"meshgate-priority"
PAYLOAD_IS_TEXT = b"meshgate-payload-is-text"
MQTT_ID = b"meshgate-mqtt-id"
NULL_KEY = b"meshgate-null-key"                 # between nodes only: on disk a null is a null
NULL_PAYLOAD = b"meshgate-null-payload"
DEAD_LETTER = b"meshgate-dead-letter"           # JSON: [consumer, topic of the original, place, history]
NATIVE = b"meshgate-native"                     # <kind>:<base64 of the message as that protocol wrote it>
ORIGIN = b"meshgate-origin"                     # events of other nodes: <node>/<epoch>/<stream>/<partition>[!<flow>] …
ORIGIN_OFFSET = b"meshgate-origin-offset"       # … and, last of all headers, the offset there in 16 hex digits
ORIGIN_DIGITS = 16
ORIGIN_MARK = bytes((len(ORIGIN_OFFSET) << 1,)) + ORIGIN_OFFSET + bytes((ORIGIN_DIGITS << 1,))     # before the digits

# what the node believes: no producer writes it
NODES_OWN = frozenset((ORIGIN, ORIGIN_OFFSET, DEAD_LETTER, MQTT_ID, NATIVE))
OURS = b"meshgate-"                             # begins the names of all of these
ESCAPE = b"meshgate-header-"
_SIDECAR = b";type"
_IDENTIFIERS = {CORRELATION: "correlation", MESSAGE_ID: "message_id", DEDUPE_ID: "dedupe_id"}
_PLAIN_NAMES = frozenset((CONTENT_TYPE, REPLY_TO, CORRELATION, MESSAGE_ID))
_INT_DECIMAL_BITS = 1024        # longer integers are written in hex: Python refuses decimal text of > 4300 digits
_INT_TEXT_MAX = 20              # digits of our own numbers; more is not ours


# ------------------------------------------------------------------------------------------------ Event -> headers

def event_headers(event: Event) -> list[RawHeader]:
    """All record headers of an event, in the order of the file docstring."""
    headers: list[RawHeader] = [(TOPIC, _utf8(event.topic))]
    if event.qos != 1:
        headers.append((QOS, b"%d" % event.qos))
    if event.publisher:
        headers.append((CLIENT, _utf8(event.publisher)))
    if event.retain:
        headers.append((RETAIN, b"1"))
    if event.properties is not None:
        headers.extend(_property_headers(event.properties))
    if event.headers:
        headers.extend(_user_headers(event.headers))
    if event.origin is not None:
        flow = f"!{event.flow}" if event.flow else ""
        headers += ((ORIGIN, _utf8(event.origin.text + flow)), (ORIGIN_OFFSET, b"%016x" % event.origin_offset))
    return headers


def _property_headers(properties: Properties) -> Iterator[RawHeader]:
    if properties.expires_at_ms is not None:
        yield EXPIRES, b"%d" % properties.expires_at_ms
    if properties.content_type is not None:
        yield CONTENT_TYPE, _utf8(properties.content_type)
    if properties.reply_to is not None:
        yield REPLY_TO, _utf8(properties.reply_to)
    if properties.correlation is not None:
        yield from _typed(CORRELATION, properties.correlation)
    if properties.message_id is not None:
        yield from _typed(MESSAGE_ID, properties.message_id)
    if properties.dedupe_id is not None:
        yield from _typed(DEDUPE_ID, properties.dedupe_id)
    if properties.priority is not None:
        yield PRIORITY, b"%d" % properties.priority
    if properties.payload_is_text:
        yield PAYLOAD_IS_TEXT, b"1"
    if properties.mqtt_packet_id is not None:
        yield MQTT_ID, b"%d" % properties.mqtt_packet_id
    if properties.dead_letter is not None:
        yield DEAD_LETTER, msgspec.json.encode(properties.dead_letter)
    if properties.deliver_at_ms is not None:
        yield DELIVER_AT, b"%d" % properties.deliver_at_ms
    if properties.native is not None:
        yield NATIVE, properties.native.kind.encode() + b":" + b2a_base64(properties.native.data, newline=False)


def _user_headers(headers: Headers) -> Iterator[RawHeader]:
    names = [_stored_name(name) for name, _ in headers]
    for index, (_, value) in enumerate(headers):
        name = names[index]
        yield from _typed(name, value)
        if isinstance(value, str) and index + 1 < len(names) and names[index + 1] == name + _SIDECAR:
            yield name + _SIDECAR, b"text"      # or the next header would be taken for the type of this one


def _stored_name(name: str) -> bytes:
    return stored_name(_utf8(name))


def stored_name(raw: bytes) -> bytes:
    """The name under which a client's header is stored: never one of ours."""
    return ESCAPE + raw if raw.startswith(OURS) or raw.removesuffix(_SIDECAR) in _PLAIN_NAMES else raw


def _typed(name: bytes, value: HeaderValue) -> Iterator[RawHeader]:
    if isinstance(value, str):
        yield name, _utf8(value)
    elif isinstance(value, bytes):
        yield name, value
        yield name + _SIDECAR, b"bytes"
    elif value is None:
        yield name, None
        yield name + _SIDECAR, b"null"
    elif isinstance(value, bool):
        yield name, b"true" if value else b"false"
        yield name + _SIDECAR, b"bool"
    elif isinstance(value, int):
        text = str(value) if value.bit_length() <= _INT_DECIMAL_BITS else hex(value)
        yield name, text.encode()
        yield name + _SIDECAR, b"int"
    else:
        yield name, repr(float(value)).encode()
        yield name + _SIDECAR, b"float"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")      # adapters refuse lone surrogates; one that slips through costs a "?"


# ------------------------------------------------------------------------------------------------ headers -> Event

class Fields:
    """What the headers of a record say, and what every record with the same header bytes shares."""

    __slots__ = ("flow", "headers", "origin", "properties", "publisher", "qos", "retain", "topic", "topic_bytes")

    def __init__(self) -> None:
        self.topic: str | None = None           # None: the record names no topic (a Kafka producer's)
        self.topic_bytes = b""
        self.qos = 1
        self.publisher = ""
        self.retain = False
        self.properties: Properties | None = None
        self.headers: Headers = ()
        self.origin: OriginPartition | None = None
        self.flow = 0


def read_fields(raw: list[RawHeader]) -> Fields:
    """The fields in the headers of one record. Where it has an origin, the offset there is left to the caller."""
    fields = Fields()
    foreign = len(raw) > 1 and raw[-1][0] == ORIGIN_OFFSET and raw[-2][0] == ORIGIN
    if foreign and _read_origin(fields, raw[-2][1] or b""):
        raw = raw[:-2]
    properties: dict[str, object] = {}
    user: list[tuple[str, HeaderValue]] = []
    index = 0
    while index < len(raw):
        name, value = raw[index]
        index += 1
        if name == TOPIC and value and fields.topic is None and (topic := _text(value)) is not None:
            fields.topic, fields.topic_bytes = topic, value
            continue
        if value is not None and _read_own(fields, properties, name, value):
            continue
        kind = None
        if index < len(raw) and raw[index][0] == name + _SIDECAR and raw[index][1] in _READERS:
            kind = raw[index][1]
        typed = _read_value(value, kind)
        if kind is not None:
            index += 1
        if name in _IDENTIFIERS and isinstance(typed, (str, bytes, int)) and not isinstance(typed, bool):
            field = _IDENTIFIERS[name]
            if field not in properties:
                properties[field] = typed
                continue
        user.append((_user_name(name), typed))
    if properties:
        fields.properties = Properties(**properties)    # type: ignore[arg-type]  # filled by _read_own and above
    fields.headers = tuple(user)
    return fields


def _read_origin(fields: Fields, value: bytes) -> bool:
    """<node>/<epoch>/<stream>/<partition>[!<flow>]; a stream's name may hold slashes. False: not one that we write."""
    parts = (_text(value) or "").split("/")
    index, _, flow = parts[-1].partition("!")
    if len(parts) < 4 or not index.isdecimal() or not (flow or "0").isdecimal():
        return False
    if len(index) > _INT_TEXT_MAX or len(flow) > _INT_TEXT_MAX:
        return False
    fields.origin = OriginPartition(parts[0], parts[1], "/".join(parts[2:-1]), int(index))
    fields.flow = int(flow or 0)
    return True


def _read_own(fields: Fields, properties: dict[str, object], name: bytes, value: bytes) -> bool:
    """Take one of our own headers. False: it is none, or a repeat, or its value is not one that we write."""
    if name == QOS and value in (b"0", b"2"):
        fields.qos = int(value)
        return True
    if name == CLIENT and not fields.publisher and (client := _text(value)):
        fields.publisher = client
        return True
    if name == RETAIN and value == b"1":
        fields.retain = True
        return True
    known = _PROPERTIES.get(name)
    if known is None or known[0] in properties:
        return False
    read = known[1](value)
    if read is None:
        return False
    properties[known[0]] = read
    return True


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _number(value: bytes) -> int | None:
    digits = value.removeprefix(b"-")
    return int(value) if digits.isdigit() and len(digits) <= _INT_TEXT_MAX else None


def _dead_letter(value: bytes) -> DeadLetter | None:
    try:
        return _dead_letters.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _native(value: bytes) -> Native | None:
    """Text, because Kafka clients get the header and some take every one for UTF-8 (FastStream, Spring). Records of
    before have a zero byte in the place of the colon, and after it the bytes themselves.
    """
    kind, mark, data = value.partition(b"\0")
    if not mark:
        kind, mark, text = value.partition(b":")
        try:
            data = a2b_base64(text, strict_mode=True)
        except Base64Error:
            return None
    return Native(kind.decode(), data) if mark and kind.isalnum() and kind.isascii() else None


_dead_letters = msgspec.json.Decoder(DeadLetter)
_PROPERTIES: dict[bytes, tuple[str, Callable[[bytes], object]]] = {
    EXPIRES: ("expires_at_ms", _number),
    DELIVER_AT: ("deliver_at_ms", _number),
    CONTENT_TYPE: ("content_type", _text),
    REPLY_TO: ("reply_to", _text),
    PRIORITY: ("priority", _number),
    PAYLOAD_IS_TEXT: ("payload_is_text", lambda value: True if value == b"1" else None),
    MQTT_ID: ("mqtt_packet_id", _number),
    NULL_KEY: ("null_key", lambda value: True if value == b"1" else None),
    NULL_PAYLOAD: ("null_payload", lambda value: True if value == b"1" else None),
    DEAD_LETTER: ("dead_letter", _dead_letter),
    NATIVE: ("native", _native),
}


def _read_int(value: bytes) -> int:
    text = value.decode()
    return int(text, 16) if "x" in text[:3] else int(text)


_READERS: dict[bytes | None, Callable[[bytes], HeaderValue]] = {
    b"text": bytes.decode,
    b"bytes": bytes,
    b"int": _read_int,
    b"float": float,
    b"bool": lambda value: value == b"true",
    b"null": lambda value: None,
}


def _read_value(value: bytes | None, kind: bytes | None) -> HeaderValue:
    if value is None:
        return None
    if kind is not None:
        try:
            return _READERS[kind](value)
        except (ValueError, OverflowError):     # the sidecar lies: UnicodeDecodeError is a ValueError
            return value
    text = _text(value)
    return value if text is None else text      # a Kafka producer's header: bytes that are no text stay bytes


def _user_name(name: bytes) -> str:
    return name.removeprefix(ESCAPE).decode("utf-8", "replace")
