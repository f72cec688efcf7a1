"""A hostile peer: a plain socket that speaks as much of the link protocol as a test wants."""
from __future__ import annotations

import asyncio
import struct

import msgspec
from websockets.frames import Frame, Opcode

from mesh.link.protocol.frames import Frame as LinkFrame
from mesh.link.protocol.frames import Hello, decode_message, encode_frame
from tests.support.wait import DEADLINE_S

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: meshgate-link\r\n%s\r\n")


def hello(node: str = "eve", **changes: object) -> Hello:
    values: dict[str, object] = {
        "protocol_min": 1, "protocol_max": 1, "node": node, "site": "s", "epoch": "e", "boot": "b", "version": "1",
        "time_ms": 0, "link": "l1", **changes}
    return Hello(**values)  # type: ignore[arg-type]


def raw_frame(*values: object) -> bytes:
    """A link frame with any fields."""
    data = msgspec.msgpack.encode(list(values))
    return struct.pack(">I", len(data)) + data


class RawLink:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> RawLink:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def open(cls, port: int, headers: bytes = b"") -> RawLink:
        """With the opening handshake done."""
        link = await cls.connect(port)
        link.writer.write(UPGRADE % headers)
        answer = await asyncio.wait_for(link.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return link

    def send(self, *frames: LinkFrame) -> None:
        self.send_message(b"".join(map(encode_frame, frames)))

    def send_message(self, message: bytes, opcode: Opcode = Opcode.BINARY, fin: bool = True) -> None:
        self.writer.write(Frame(opcode, message, fin).serialize(mask=True))

    async def message(self) -> tuple[Opcode, bytes]:
        """The next WebSocket frame from the node."""
        async with asyncio.timeout(DEADLINE_S):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return Opcode(first & 0x0F), await self.reader.readexactly(length)

    async def frames(self) -> list[LinkFrame]:
        """All link frames until the node closes the WebSocket."""
        found: list[LinkFrame] = []
        while True:
            opcode, data = await self.message()
            if opcode is Opcode.CLOSE:
                return found
            if opcode is Opcode.BINARY:
                found += decode_message(data)

    async def ended(self) -> bytes:
        """What comes until the socket is closed."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.transport.abort()
