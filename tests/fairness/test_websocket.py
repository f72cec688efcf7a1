"""WebSockets: /v1/ws and MQTT over WebSocket; pings, tiny fragments, smallest messages, frames that would deflate."""
from __future__ import annotations

import json
import struct

import pytest

from tests.fairness import chunks
from tests.fairness.floods import Flood
from tests.fairness.harness import hold
from tests.support.rawmqtt import connect_packet, publish_packet

pytestmark = pytest.mark.measured

SEVERAL = 1 << 19
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode, payload=b"", *, final=True, bits=0):
    """Masked with zeros, so that payloads stay readable."""
    head = bytes((0x80 * final | bits | opcode,))
    size = len(payload)
    if size < 126:
        return head + bytes((0x80 | size,)) + bytes(4) + payload
    if size < 65_536:
        return head + b"\xfe" + struct.pack("!H", size) + bytes(4) + payload
    return head + b"\xff" + struct.pack("!Q", size) + bytes(4) + payload


def handshake(path, protocol):
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    if protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def says(**message):
    return frame(TEXT, json.dumps(message).encode())


def fill(data, size=SEVERAL):
    return data * max(1, size // len(data))


def many(make, size=SEVERAL):
    return chunks.many(make, size)


JSON = {
    "pings": lambda: fill(frame(PING)),
    "large pings": lambda: fill(frame(PING, b"x" * 125)),
    "pongs": lambda: fill(frame(PONG)),
    "empty messages": lambda: fill(frame(TEXT)),
    "fragments of one byte": lambda: (
        frame(TEXT, b" ", final=False) + fill(frame(0, b" ", final=False)) + frame(0, b"{}")),
    "ping messages": lambda: fill(says(op="ping")),
    "smallest publishes": lambda: fill(says(op="publish", topic="a", payload="")),
    "ever new topics": lambda: many(lambda n: says(op="publish", topic=f"evil/{n}", payload="", id=n)),
    "subscribes": lambda: many(lambda n: says(op="subscribe", id=n, subscription=f"s{n}", filters=[f"evil/{n}/#"])),
    "a large message": lambda: fill(says(op="publish", topic="a", payload="x" * 900_000), 2_000_000),
    "deflate": lambda: fill(frame(TEXT, b"\xab\xae\x05\x00" * 20, bits=0x40)),
    "deep JSON": lambda: fill(frame(TEXT, b'{"op":"publish","topic":"a","payload":' + b"[" * 100_000), 400_000),
}
MQTT = {
    "pings in frames of their own": lambda: fill(frame(BINARY, b"\xc0\x00")),
    "pings in large frames": lambda: fill(frame(BINARY, b"\xc0\x00" * 60_000)),
    "byte by byte": lambda: fill(frame(BINARY, b"\xc0") + frame(BINARY, b"\x00")),
    "publishes": lambda: fill(frame(BINARY, publish_packet("a", b"", version=4))),
    "a ping between packets": lambda: fill(frame(BINARY, b"\xc0\x00") + frame(PING, b"p")),
}


@pytest.mark.parametrize("name", JSON)
def test_v1_ws(node, name):
    hold(node, Flood(node.address("http"), JSON[name](), opening=handshake("/v1/ws", ""), opening_reply_bytes=100))


@pytest.mark.parametrize("name", MQTT)
def test_mqtt(node, name):
    opening = handshake("/mqtt", "mqtt")
    hold(node, Flood(node.address("http"), MQTT[name](), opening=opening + frame(BINARY, connect_packet("", version=4)),
                     opening_reply_bytes=100))


def test_handshakes(node):
    hold(node, Flood(node.address("http"), handshake("/v1/ws", "") + frame(CLOSE), connections=20))
