"""A small SSE client on a raw socket, after the HTML standard's rules for parsing an event stream."""
from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

from .stand import DEADLINE_S


class Sse:
    """Open with `await Sse.open(stand, "a/#", …)`. last_id is what a browser would send when it reconnects."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.status = 0
        self.headers = b""
        self.comments = []
        self.last_id = ""
        self.retry = None
        self.ended = False
        self._text = b""

    @classmethod
    async def open(cls, it, *filters, start=None, last_id=None, version="1.1", headers="", limit=1 << 24, more=""):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=limit)
        query = "&".join([f"filter={quote(pattern, safe='/+')}" for pattern in filters]
                         + ([f"from={quote(start)}"] if start is not None else []))
        if last_id is not None:
            headers += f"Last-Event-ID: {last_id}\r\n"
        writer.write(f"GET /v1/events?{query}{more} HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n".encode())
        client = cls(reader, writer)
        client.headers = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        client.status = int(client.headers.split(b" ")[1])
        client.chunked = b"chunked" in client.headers.lower()
        if client.status == 200:
            await client.block()            # comment, retry, id
        return client

    async def _more(self):
        if self.chunked:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            data = (await self.reader.readexactly(size + 2))[:-2]
        else:
            data = await self.reader.read(65_536)
        if not data:
            self.ended = True
        return data

    async def block(self, deadline_s=DEADLINE_S):
        """The next block: (event type, data) or None when it dispatches nothing. EOFError at the end of the stream."""
        while b"\n\n" not in self._text:
            data = await asyncio.wait_for(self._more(), deadline_s)
            if not data:
                raise EOFError
            self._text += data
        block, self._text = self._text.split(b"\n\n", 1)
        kind, lines = "message", []
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                lines.append(value)
            elif name == "retry":
                self.retry = int(value)
        return (kind, json.loads("\n".join(lines))) if lines else None

    async def next(self, deadline_s=DEADLINE_S):
        """The next event, as its JSON."""
        while True:
            found = await self.block(deadline_s)
            if found is not None and found[0] == "message":
                return found[1]

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    async def nothing(self, wait_s=0.15):
        """True when no event comes."""
        try:
            await self.next(wait_s)
        except TimeoutError:
            return True
        return False

    async def rest(self):
        """Read to the end of the stream."""
        try:
            while True:
                await self.block()
        except EOFError:
            return

    def close(self):
        self.writer.close()

    def abort(self):
        self.writer.transport.abort()
