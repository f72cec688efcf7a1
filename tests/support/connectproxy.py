"""An HTTP proxy that knows CONNECT only, as companies put one between a plant and the world.      RFC 9110 §9.3.6

    with ConnectProxy(user="plant", password="secret") as proxy:    # a thread of its own
        proxy.port, proxy.tunnels, proxy.refused
"""
from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.support.loopthread import LoopThread

READ_BYTES = 64 * 1024


class ConnectProxy:
    """Without a user everybody may pass. hosts: where tunnels may lead to; empty: anywhere.

    inside: entered by the proxy's thread for its life, such as a network namespace.
    """

    def __init__(self, *, user: str = "", password: str = "", host: str = "127.0.0.1", hosts: tuple[str, ...] = (),
                 inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> None:
        self.host, self.port = host, 0
        self.tunnels = self.refused = 0
        self.bytes = 0
        self._allowed = hosts
        self._wanted = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._loop = LoopThread("connect-proxy", inside)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> ConnectProxy:
        self._loop.start()
        self._server = self._loop.wait(asyncio.start_server(self._accept, self.host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            if self._server is not None:
                self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.wait(end())
        self._loop.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        host, _, port = target.rpartition(":")
        status = "200 Connection established"
        if self._wanted and headers.get("proxy-authorization") != f"Basic {self._wanted}":
            status = '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="plant"'
        elif method != "CONNECT" or (self._allowed and host not in self._allowed):
            status = "403 Forbidden"
        if not status.startswith("200"):
            self.refused += 1
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self.tunnels += 1
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        try:
            await asyncio.wait([asyncio.ensure_future(self._pass(reader, far_writer)),
                                asyncio.ensure_future(self._pass(far_reader, writer))],
                               return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
