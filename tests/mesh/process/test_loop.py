"""mesh/process/loop/loop.py: a descriptor that libuv has closed is not closed again by a Python socket."""
from __future__ import annotations

import asyncio
import gc
import os
import socket
from typing import cast

import pytest

from mesh.process.loop.loop import loop_factory


class Gone(asyncio.Protocol):
    """The connection is lost before create_connection() comes back, as by a peer that resets it at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


async def _dialled(port: int, protocol: type[asyncio.Protocol]) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.create_connection(protocol, sock=sock)
    return sock


def test_a_socket_that_was_given_away_closes_nothing_any_more() -> None:
    pytest.importorskip("uvloop")

    async def run() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        sock = await _dialled(server.sockets[0].getsockname()[1], Gone)
        await asyncio.sleep(0.01)                       # libuv closes it
        other = os.open("/dev/null", os.O_RDONLY)       # a segment of the log, say: it gets the number that is free
        try:
            assert sock.fileno() == -1
            del sock
            gc.collect()
            os.fstat(other)
        finally:
            os.close(other)
        server.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


def test_a_connection_on_a_given_socket_works_and_names_work_too() -> None:
    async def run() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        by_socket = await asyncio.open_connection(sock=sock)
        for reader, writer in (by_socket, await asyncio.open_connection("127.0.0.1", port)):
            writer.write(b"ping")
            assert await asyncio.wait_for(reader.read(), 30) == b"ping"
            writer.close()
        server.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
