"""What a dialler meets: nobody, a silent port, another protocol. Each is told apart."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh.link.settings import LinkTable
from tests.mesh.link.nodes import LinkNode, fast_limits, until
from tests.support.wait import DEADLINE_S

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nnix")
    await writer.drain()
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(b"SSH-2.0 x" * 1_000)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(("handler", "problems"), [
    (web, ("not a link listener: HTTP 404",)), (garbage, ("not a link", "more than 65536 bytes before Welcome")),
    (silent, ("no handshake within 0.5 s",)), (hangs_up, ("not a link", "connection lost")),
], ids=["web", "garbage", "silent", "hangs_up"])
async def test_something_else_that_listens_is_told_apart(handler: Handler, problems: tuple[str, ...]) -> None:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = fast_limits(handshake_timeout_s=0.5) if handler is silent else None
    async with LinkNode("graz", links=(LinkTable(f"ws://127.0.0.1:{port}", "l1"),), limits=limits) as graz:
        await until(lambda: graz.link("l1")["last_error"])
        assert graz.link("l1")["last_error"].startswith(problems)
        assert graz.overlay.up == [] and graz.link("l1")["state"] == "down"
        await until(lambda: graz.manager.counters["dialled"] >= 3)      # it goes on trying
    server.close()


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("how", ["shutdown", "pause"])
async def test_a_dial_that_is_cancelled_when_its_socket_is_open_leaves_nothing_behind(turns: int, how: str) -> None:
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with LinkNode("graz", links=(LinkTable(f"ws://127.0.0.1:{port}", "l1"),)) as graz:
        while not graz.manager.counters["dialled"]:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "pause":
            graz.manager.pause("l1")
            await until(lambda: graz.manager.sockets == 0)
        else:
            await asyncio.wait_for(graz.manager.shutdown(), DEADLINE_S)
    server.close()


@pytest.mark.parametrize(("url", "problem"), [
    ("ws://127.0.0.1:1", "127.0.0.1:1: Connection refused"),
    ("ws://no-such-host.invalid:1", "no-such-host.invalid: "),
])
async def test_nobody_is_there(url: str, problem: str) -> None:
    limits = fast_limits(connect_timeout_s=1.0)             # some resolvers take their time to say no
    async with LinkNode("graz", links=(LinkTable(url, "l1", insecure=True),), limits=limits) as graz:
        await until(lambda: graz.link("l1")["dial_failures"] >= 2)
        assert graz.link("l1")["last_error"].startswith(problem)


async def test_a_mistake_is_logged_once_and_not_with_every_dial(caplog: pytest.LogCaptureFixture) -> None:
    async with LinkNode("graz", links=(LinkTable("ws://127.0.0.1:1", "l1"),)) as graz:
        await until(lambda: graz.link("l1")["dial_failures"] >= 5)
    assert caplog.text.count("Connection refused") == 1
