"""The proxy that fault tests trust does what it says."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.tcpproxy import DOWN, UP, TcpProxy
from tests.support.wait import DEADLINE_S


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """In front of an echo server."""
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def connect(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def within(awaitable, seconds: float = DEADLINE_S):
    async with asyncio.timeout(seconds):
        return await awaitable


async def test_bytes_pass_both_ways(proxy: TcpProxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"x" * 3_000_000)
    assert len(await within(reader.readexactly(3_000_000))) == 3_000_000
    assert (proxy.bytes_up, proxy.bytes_down, proxy.accepted) == (3_000_000, 3_000_000, 1)
    writer.write_eof()
    assert await within(reader.read()) == b""


async def test_cut_resets_the_client(proxy: TcpProxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"a")
    await within(reader.readexactly(1))
    assert proxy.cut() == 1
    with pytest.raises(ConnectionError):
        await within(reader.readexactly(1))


async def test_refuse_resets_new_connections_until_resume(proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError):
        reader, writer = await connect(proxy)
        await within(reader.readexactly(1))
    proxy.resume()
    reader, writer = await connect(proxy)
    writer.write(b"a")
    assert await within(reader.readexactly(1)) == b"a"


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_stall_holds_one_direction_and_resume_lets_it_pass(proxy: TcpProxy, direction: str) -> None:
    reader, writer = await connect(proxy)
    proxy.stall(direction)
    writer.write(b"a")
    with pytest.raises(TimeoutError):
        await within(reader.readexactly(1), 0.1)
    assert proxy.bytes_up == (0 if direction == UP else 1)
    proxy.resume()
    assert await within(reader.readexactly(1)) == b"a"


async def test_delay_holds_each_way(proxy: TcpProxy) -> None:
    reader, writer = await connect(proxy)
    proxy.delay_s = 0.05
    started = asyncio.get_running_loop().time()
    writer.write(b"abc")
    assert await within(reader.readexactly(3)) == b"abc"
    assert asyncio.get_running_loop().time() - started >= 0.1


async def test_a_connection_ends_after_n_bytes(proxy: TcpProxy) -> None:
    proxy.close_after(5)
    reader, writer = await connect(proxy)
    writer.write(b"abc")
    got = b""
    try:
        while data := await within(reader.read(10)):
            got += data
    except ConnectionError:
        pass
    assert got == b"ab"
