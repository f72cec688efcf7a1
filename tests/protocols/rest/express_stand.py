"""Raw posts on kept connections, and a disk that can be held, for test_express.py."""
from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager

from routing.log.committing.workers import one_behind_the_other

from .stand import DEADLINE_S


def post(body, fields="", topic="a", version="1.1"):
    """A request. body None: without a length."""
    fields += "\r\n" if fields else ""
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    head = f"POST /v1/events/{topic} HTTP/{version}\r\nHost: localhost\r\n{fields}{length}"
    return head.encode() + b"\r\n" + (body or b"")


def counted(it):
    """A list that tells of each request on an idle connection whether it was taken."""
    express = it.rest._publish.express
    taken, take = [], express.take

    def counting(*arguments):
        taken.append(take(*arguments))
        return taken[-1]

    express.take = counting
    return taken


def place(answer):
    """The JSON of an answer."""
    return json.loads(answer[answer.index(b"\r\n\r\n") + 4:])


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, it, limit=1 << 16):
        return cls(*await asyncio.open_connection("127.0.0.1", it.port, limit=limit))

    async def ask(self, request):
        """The whole answer; EOFError when the connection ends with or before it."""
        self.writer.write(request)
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        if head.startswith(b"HTTP/1.1 100"):
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await asyncio.wait_for(self.reader.readexactly(length), DEADLINE_S)

    def handler(self, it):
        """The server's end of the connection."""
        address = self.writer.get_extra_info("sockname")
        return next(each for each in it.rest._runner.server.connections if each.peername == address)

    def close(self):
        self.writer.close()


class HeldWriter:
    """A writer of the log that works inline, and not at all while it is held."""

    def __init__(self, name):
        self._held = False
        self._waiting = []

    @contextmanager
    def hold(self):
        self._held = True
        yield
        self._held = False
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()

    def submit(self, work, told=None):
        work = one_behind_the_other(work, told)
        if self._held:
            self._waiting.append(work)
        else:
            work()

    def close(self):
        pass
