"""A WebSocket client on a raw socket: it sends whatever it is told to, right or wrong."""
from __future__ import annotations

import asyncio

from tests.protocols.rest.stand import DEADLINE_S

MASK = b"\x37\xfa\x21\x3d"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
# MQTT 5 CONNECT: clean start, keep alive 60 s, client id "ws"
CONNECT = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02ws"
CONNACK_START = b"\x20"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


def masked(opcode, payload=b"", *, final=True, rsv=0, length=None):
    """A client's frame. length: what the head declares when it is not the truth."""
    size = len(payload) if length is None else length
    head = bytes(((0x80 if final else 0) | rsv | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65_536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    pad = (MASK * (len(payload) // 4 + 1))[:len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")
    return head + MASK + body


def subscribe(topic, qos=0):
    body = b"\x00\x01\x00" + len(topic).to_bytes(2, "big") + topic.encode() + bytes((qos,))
    return b"\x82" + bytes((len(body),)) + body


def publish(topic, payload, qos=1, packet_id=7):
    body = len(topic).to_bytes(2, "big") + topic.encode()
    body += (packet_id.to_bytes(2, "big") if qos else b"") + b"\x00" + payload
    size, length = len(body), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return bytes((0x30 | qos << 1,)) + length + bytes((size,)) + body


class Ws:
    """await Ws.open(stand). status 101 when the handshake went through."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, it, path="/mqtt", *, first=b"", limit=1 << 20, sock=None, **changed):
        """changed: header fields with _ for -, None leaves one out. first: bytes sent together with the handshake."""
        fields = {
            "Host": f"127.0.0.1:{it.port}", "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Protocol": "mqtt",
        }
        for name, value in changed.items():
            fields[name.replace("_", "-")] = value
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        if sock is not None:
            reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=limit)
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode() + first)
        ws = cls(reader, writer)
        ws.head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        ws.status = int(ws.head[9:12])
        return ws

    async def connect(self):
        """MQTT CONNECT and its answer."""
        self.writer.write(masked(2, CONNECT))
        opcode, payload = await self.frame()
        assert opcode == 2 and payload.startswith(CONNACK_START) and payload[3] == 0, payload
        return self

    async def frame(self):
        """(opcode, payload) of the next frame."""
        first, second = await asyncio.wait_for(self.reader.readexactly(2), DEADLINE_S)
        assert not second & 0x80, "a server does not mask"
        size = second
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return first & 0x0F, await asyncio.wait_for(self.reader.readexactly(size), DEADLINE_S)

    async def close_code(self):
        """Skip to the Close frame; then the socket must end without a reset."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                break
        assert await asyncio.wait_for(self.reader.read(1), DEADLINE_S) == b""
        return int.from_bytes(payload[:2], "big")

    def close(self):
        self.writer.close()
