"""MQTT packets as bytes, written once before the clock starts. MQTT 3.1.1 (level 4) and 5.0 (level 5).

Called by load.py, clients.py and the rows. The node's own codec is not used, so that a bug there cannot hide here.

    frame:    type+flags | remaining length (1 byte) | topic length (2) | topic | [packet id (2)] | [00] | payload
    payload:  100 bytes: 'T' or 'x' | send time, ns, 8 bytes big-endian (0 when 'x') | filler

Every payload has 100 bytes and every topic of one row the same length, so all frames of a row have one length.
"""
from __future__ import annotations

import struct

PAYLOAD_BYTES = 100
MARKED = 0x54                           # "T": this payload carries a send time
PLAIN_PAYLOAD = b"x" + bytes(8) + b"m" * (PAYLOAD_BYTES - 9)
MARKED_PAYLOAD = b"T" + PLAIN_PAYLOAD[1:]
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


def remaining_length(size: int) -> bytes:
    """A variable byte integer.                                       Source: MQTT 5 §1.5.5"""
    out = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def packet(first_byte: int, body: bytes) -> bytes:
    return bytes([first_byte]) + remaining_length(len(body)) + body


KEEP_ALIVE_S = 3_600    # longer than any row, since nobody pings; rumqttd refuses 0, which would turn it off


def connect(client_id: str, *, clean: bool = True, keep_alive_s: int = KEEP_ALIVE_S, version: int = 4,
            expiry_s: int = 0) -> bytes:
    """A CONNECT. For version 5 expiry_s is the session expiry interval and receive maximum is 65,535."""
    properties = b""
    if version == 5:
        inner = b"\x21\xff\xff" + (b"\x11" + struct.pack(">I", expiry_s) if expiry_s else b"")
        properties = remaining_length(len(inner)) + inner
    body = text("MQTT") + bytes([version, 2 if clean else 0]) + struct.pack(">H", keep_alive_s) + properties
    return packet(0x10, body + text(client_id))


def subscribe(packet_id: int, topic_filter: str, qos: int, version: int = 4) -> bytes:
    properties = b"\x00" if version == 5 else b""
    return packet(0x82, struct.pack(">H", packet_id) + properties + text(topic_filter) + bytes([qos]))


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 0, version: int = 4, *,
            dup: bool = False) -> bytes:
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"") + (b"\x00" if version == 5 else b"") + payload
    return packet(0x30 | (qos << 1) | (8 if dup else 0), body)


def acknowledgement(kind: int, packet_id: int) -> bytes:
    """PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70: four bytes in both versions."""
    return bytes([kind, 2]) + struct.pack(">H", packet_id)


def acknowledgements(kind: int, high_bytes: bytes, low_bytes: bytes) -> bytearray:
    """Many acknowledgements at once: packet ids given as their high bytes and their low bytes. No loop per message."""
    out = bytearray(4 * len(high_bytes))
    out[0::4] = bytes([kind]) * len(high_bytes)
    out[1::4] = b"\x02" * len(high_bytes)
    out[2::4] = high_bytes
    out[3::4] = low_bytes
    return out


def frame_end(data: bytes | bytearray, start: int, stop: int) -> int:
    """Index one past the packet that begins at start, or -1 when it is not complete before stop."""
    size, shift, index = 0, 0, start + 1
    while index < stop:
        byte = data[index]
        size |= (byte & 0x7F) << shift
        index += 1
        if byte < 0x80:
            return index + size if index + size <= stop else -1
        shift += 7
        if shift > 21:
            raise ValueError("remaining length of five bytes")
    return -1
