"""Property lists of MQTT 5 <-> Python values.                                        Source: MQTT 5 §2.2.2

Called by the packet codec only. A list on the wire:

    | length: variable byte integer | id | value | id | value | …

Decoded, it is a dict from id to value: int, str, bytes; USER_PROPERTY to a list of (name, value) in order,
SUBSCRIPTION_ID to a list of ints. Bad input raises MalformedPacket or ProtocolViolation.
"""
from __future__ import annotations

from typing import TypeAlias

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt.codec import reasons

PropertyValue: TypeAlias = int | str | bytes | list[tuple[str, str]] | list[int]
PropertyDict: TypeAlias = dict[int, PropertyValue]

PAYLOAD_FORMAT = 0x01
MESSAGE_EXPIRY = 0x02
CONTENT_TYPE = 0x03
RESPONSE_TOPIC = 0x08
CORRELATION_DATA = 0x09
SUBSCRIPTION_ID = 0x0B
SESSION_EXPIRY = 0x11
ASSIGNED_CLIENT_ID = 0x12
SERVER_KEEP_ALIVE = 0x13
AUTHENTICATION_METHOD = 0x15
AUTHENTICATION_DATA = 0x16
REQUEST_PROBLEM_INFO = 0x17
WILL_DELAY = 0x18
REQUEST_RESPONSE_INFO = 0x19
RESPONSE_INFO = 0x1A
SERVER_REFERENCE = 0x1C
REASON_STRING = 0x1F
RECEIVE_MAXIMUM = 0x21
TOPIC_ALIAS_MAXIMUM = 0x22
TOPIC_ALIAS = 0x23
MAXIMUM_QOS = 0x24
RETAIN_AVAILABLE = 0x25
USER_PROPERTY = 0x26
MAXIMUM_PACKET_SIZE = 0x27
WILDCARD_AVAILABLE = 0x28
SUBSCRIPTION_IDS_AVAILABLE = 0x29
SHARED_AVAILABLE = 0x2A

BYTE, SHORT, LONG, VARINT, TEXT, BINARY, PAIR = range(7)

KIND: dict[int, int] = {
    PAYLOAD_FORMAT: BYTE, MESSAGE_EXPIRY: LONG, CONTENT_TYPE: TEXT, RESPONSE_TOPIC: TEXT, CORRELATION_DATA: BINARY,
    SUBSCRIPTION_ID: VARINT, SESSION_EXPIRY: LONG, ASSIGNED_CLIENT_ID: TEXT, SERVER_KEEP_ALIVE: SHORT,
    AUTHENTICATION_METHOD: TEXT, AUTHENTICATION_DATA: BINARY, REQUEST_PROBLEM_INFO: BYTE, WILL_DELAY: LONG,
    REQUEST_RESPONSE_INFO: BYTE, RESPONSE_INFO: TEXT, SERVER_REFERENCE: TEXT, REASON_STRING: TEXT,
    RECEIVE_MAXIMUM: SHORT, TOPIC_ALIAS_MAXIMUM: SHORT, TOPIC_ALIAS: SHORT, MAXIMUM_QOS: BYTE, RETAIN_AVAILABLE: BYTE,
    USER_PROPERTY: PAIR, MAXIMUM_PACKET_SIZE: LONG, WILDCARD_AVAILABLE: BYTE, SUBSCRIPTION_IDS_AVAILABLE: BYTE,
    SHARED_AVAILABLE: BYTE,
}

# What a client may send, by packet (Table 2-4); a packet with a foreign property is malformed (§2.2.2.2)
FOR_CONNECT = frozenset({SESSION_EXPIRY, AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REQUEST_PROBLEM_INFO,
                         REQUEST_RESPONSE_INFO, RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM, USER_PROPERTY,
                         MAXIMUM_PACKET_SIZE})
FOR_WILL = frozenset({PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, WILL_DELAY,
                      USER_PROPERTY})
FOR_PUBLISH = frozenset({PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, TOPIC_ALIAS,
                         USER_PROPERTY})         # and no subscription id from a client [MQTT-3.3.4-6]
FOR_ACK = frozenset({REASON_STRING, USER_PROPERTY})
FOR_SUBSCRIBE = frozenset({SUBSCRIPTION_ID, USER_PROPERTY})
FOR_UNSUBSCRIBE = frozenset({USER_PROPERTY})
FOR_DISCONNECT = frozenset({SESSION_EXPIRY, REASON_STRING, USER_PROPERTY})
FOR_AUTH = frozenset({AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING, USER_PROPERTY})

_FLAGS = frozenset({PAYLOAD_FORMAT, REQUEST_PROBLEM_INFO, REQUEST_RESPONSE_INFO})       # bytes that are 0 or 1
_NOT_ZERO = frozenset({RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, SUBSCRIPTION_ID})


def decode_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer: (value, position after it). Four bytes at most.      Source: MQTT 5 §1.5.5"""
    value = 0
    for shift in (0, 7, 14, 21):
        if position >= end:
            raise MalformedPacket(reasons.MALFORMED_PACKET, "variable byte integer is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:                                                     # [MQTT-1.5.5-1]
                raise MalformedPacket(reasons.MALFORMED_PACKET, "variable byte integer is not minimal")
            return value, position
    raise MalformedPacket(reasons.MALFORMED_PACKET, "variable byte integer has more than 4 bytes")


def encode_varint(value: int) -> bytes:
    """Variable byte integer of the smallest size [MQTT-1.5.5-1]."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


def decode_text(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Read a UTF-8 encoded string: (text, position after it).                            Source: MQTT 5 §1.5.4

    U+FEFF is kept as it is [MQTT-1.5.4-3]. Raises MalformedPacket: cut short, not UTF-8 or a surrogate
    [MQTT-1.5.4-1], or with U+0000 [MQTT-1.5.4-2].
    """
    raw, position = decode_binary(data, position, end)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPacket(reasons.MALFORMED_PACKET, "a string is not valid UTF-8") from None
    if "\0" in text:
        raise MalformedPacket(reasons.MALFORMED_PACKET, "a string contains U+0000")
    return text, position


def decode_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Read binary data: (bytes, position after it).                                      Source: MQTT 5 §1.5.6"""
    start = position + 2
    if start > end:
        raise MalformedPacket(reasons.MALFORMED_PACKET, "a length is cut short")
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise MalformedPacket(reasons.MALFORMED_PACKET, "a string or binary value is cut short")
    return data[start:stop], stop


def decode_properties(data: bytes, position: int, end: int, allowed: frozenset[int],
                      user_properties_max: int = 10_000) -> tuple[PropertyDict, int]:
    """Read a property list: (properties, position after it).                             Source: MQTT 5 §2.2.2"""
    length, position = decode_varint(data, position, end)
    stop = position + length
    if stop > end:
        raise MalformedPacket(reasons.MALFORMED_PACKET, "a property list is cut short")
    found: PropertyDict = {}
    users: list[tuple[str, str]] = []
    while position < stop:
        identifier = data[position]             # all known ids fit in one byte of the variable byte integer
        if identifier not in allowed:
            if identifier not in KIND:
                raise MalformedPacket(reasons.MALFORMED_PACKET, f"unknown property 0x{identifier:02x}")
            if identifier == SUBSCRIPTION_ID and allowed is FOR_PUBLISH:        # PUBLISH knows it, towards clients
                raise ProtocolViolation(reasons.PROTOCOL_ERROR, "a client does not send a subscription id in PUBLISH")
            raise MalformedPacket(reasons.MALFORMED_PACKET, f"property 0x{identifier:02x} does not belong here")
        if identifier == USER_PROPERTY:
            name, position = decode_text(data, position + 1, stop)                      # [MQTT-1.5.7-1]
            value, position = decode_text(data, position, stop)
            users.append((name, value))
            if len(users) > user_properties_max:
                raise ProtocolViolation(reasons.QUOTA_EXCEEDED, f"more than {user_properties_max} user properties")
            continue
        if identifier in found:
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, f"property 0x{identifier:02x} stands twice")
        found[identifier], position = _decode_value(data, position + 1, stop, identifier)
    if users:
        found[USER_PROPERTY] = users
    return found, stop


def _decode_value(data: bytes, position: int, stop: int, identifier: int) -> tuple[PropertyValue, int]:
    kind = KIND[identifier]
    if kind == TEXT:                                    # [MQTT-3.3.2-13] [MQTT-3.3.2-19]
        return decode_text(data, position, stop)
    if kind == BINARY:
        return decode_binary(data, position, stop)
    if kind == VARINT:
        number, position = decode_varint(data, position, stop)
    else:
        size = 1 if kind == BYTE else 2 if kind == SHORT else 4
        if position + size > stop:
            raise MalformedPacket(reasons.MALFORMED_PACKET, f"property 0x{identifier:02x} is cut short")
        number = int.from_bytes(data[position:position + size], "big")
        position += size
    if identifier in _FLAGS and number > 1:
        raise ProtocolViolation(reasons.PROTOCOL_ERROR, f"property 0x{identifier:02x} must be 0 or 1")
    if identifier in _NOT_ZERO and number == 0:
        raise ProtocolViolation(reasons.PROTOCOL_ERROR, f"property 0x{identifier:02x} must not be 0")
    return number, position


def encode_text(text: str) -> bytes:
    """UTF-8 encoded string with its length. The caller has bounded it to 65,535 bytes."""
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def encode_binary(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def encode_property(identifier: int, value: PropertyValue) -> bytes:
    """One property with its id; a list gives the property once for each entry, in order."""
    head = _ONE_BYTE[identifier]
    if isinstance(value, str):
        return head + encode_text(value)
    if isinstance(value, bytes):
        return head + encode_binary(value)
    if isinstance(value, int):
        kind = KIND[identifier]
        if kind == VARINT:
            return head + encode_varint(value)
        return head + value.to_bytes(1 if kind == BYTE else 2 if kind == SHORT else 4, "big")
    return b"".join([
        head + (encode_varint(entry) if isinstance(entry, int) else encode_text(entry[0]) + encode_text(entry[1]))
        for entry in value])


def encode_properties(properties: PropertyDict) -> bytes:
    """A property list with its length; b"\\0" when it is empty [MQTT-2.2.2-1]."""
    if not properties:
        return b"\0"
    body = b"".join([encode_property(identifier, value) for identifier, value in properties.items()])
    return encode_varint(len(body)) + body
