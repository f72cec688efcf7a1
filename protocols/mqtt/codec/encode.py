"""MQTT control packets -> bytes: what a server sends, MQTT 3.1.1 and 5.0. Sans-IO.

PUBLISH is made of parts, so that a batch of them is one join (see delivery/outbound.py):

    | 0x3x | remaining length | topic |  packet id (QoS > 0)  | properties (v5) | payload |
    └────────── head ────────────────┘  └─ PACKET_ID_BYTES ──┘ └────── tail ────────────┘
"""
from __future__ import annotations

from collections.abc import Iterable

from protocols.mqtt.codec import packets, properties
from protocols.mqtt.codec.packets import VERSION_5
from protocols.mqtt.codec.properties import PropertyDict, decode_varint, encode_properties, encode_varint

PACKET_ID_OUT_MAX = 8191        # ids that we give out; far above any in-flight window, small enough for a table
PACKET_ID_BYTES = tuple(number.to_bytes(2, "big") for number in range(PACKET_ID_OUT_MAX + 1))
PACKET_ID_BYTES_V5 = tuple(raw + b"\0" for raw in PACKET_ID_BYTES)      # with an empty property list after it

PINGRESP = b"\xd0\x00"
REASON_STRING_CHARS_MAX = 256


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_varint(len(body)) + body


def largest(data: bytes) -> int:
    """Size of the largest of some whole packets."""
    found = position = 0
    while position < len(data):
        length, body = decode_varint(data, position + 1, len(data))
        found = max(found, body + length - position)
        position = body + length
    return found


def connack_v3(session_present: bool, code: int) -> bytes:
    """CONNACK of MQTT 3.1.1. Session present is 0 unless the connection is accepted."""
    return bytes((0x20, 2, session_present and code == 0, code))


def connack_v5(session_present: bool, code: int, found: PropertyDict) -> bytes:
    """CONNACK of MQTT 5; bits 7-1 of the flags are 0 [MQTT-3.2.2-1]."""
    return packet(0x20, bytes((session_present and code == 0, code)) + encode_properties(found))    # [MQTT-3.2.2-6]


def publish_head(flags: int, topic: bytes, rest_bytes: int) -> bytes:
    """Fixed header and topic of a PUBLISH. rest_bytes: size of what follows the topic."""
    size = len(topic)
    return b"".join((bytes((0x30 | flags,)), encode_varint(2 + size + rest_bytes), size.to_bytes(2, "big"), topic))


def ack(kind: int, packet_id: int, code: int = 0, found: PropertyDict | None = None, version: int = VERSION_5) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; shortest form when all is well.

    PUBREL and PUBCOMP never get a reason string or user property: [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
    [MQTT-3.7.2-3].
    """
    first = kind << 4 | (2 if kind == packets.PUBREL else 0)
    if version != VERSION_5 or (code == 0 and not found):
        return bytes((first, 2)) + packet_id.to_bytes(2, "big")
    body = packet_id.to_bytes(2, "big") + bytes((code,))
    return packet(first, body + encode_properties(found) if found else body)


def acks(kind: int, raw_ids: bytes | bytearray) -> bytes:
    """Successful acks of one kind for many packet ids (2 raw bytes each), in order, in one go."""
    if len(raw_ids) == 2:
        return _ACK_HEADS[kind] + raw_ids
    frames = bytearray(_ACK_HEADS[kind] * 2 * (len(raw_ids) // 2))
    frames[2::4], frames[3::4] = raw_ids[0::2], raw_ids[1::2]
    return bytes(frames)


def raw(packet_ids: Iterable[int]) -> bytes:
    """Packet ids as they stand in packets, one behind the other."""
    return b"".join([packet_id.to_bytes(2, "big") for packet_id in packet_ids])


_ACK_HEADS = {packets.PUBACK: b"\x40\x02", packets.PUBREC: b"\x50\x02", packets.PUBREL: b"\x62\x02",
              packets.PUBCOMP: b"\x70\x02"}


def suback(packet_id: int, codes: Iterable[int], version: int, found: PropertyDict | None = None) -> bytes:
    """SUBACK: a code for each filter, in order. Its callers give no properties.             Source: MQTT 5 §3.9

    So it never grows past what the client takes: [MQTT-3.9.2-1] [MQTT-3.9.2-2].
    """
    middle = encode_properties(found or {}) if version == VERSION_5 else b""
    return packet(0x90, packet_id.to_bytes(2, "big") + middle + bytes(codes))


def unsuback(packet_id: int, codes: Iterable[int], version: int) -> bytes:
    """UNSUBACK; MQTT 3.1.1 has no codes in it. No properties: [MQTT-3.11.2-1] [MQTT-3.11.2-2].  Source: §3.11"""
    body = packet_id.to_bytes(2, "big")
    if version == VERSION_5:
        body += b"\0" + bytes(codes)
    return packet(0xB0, body)


def disconnect(code: int, text: str = "") -> bytes:
    """DISCONNECT of MQTT 5, with a reason string when there is a text.                      Source: MQTT 5 §3.14"""
    if not text:
        return bytes((0xE0, 1, code)) if code else b"\xe0\x00"
    return packet(0xE0, bytes((code,)) + encode_properties(reason_property(text)))


def reason_property(text: str) -> PropertyDict:
    return {properties.REASON_STRING: text[:REASON_STRING_CHARS_MAX]}
