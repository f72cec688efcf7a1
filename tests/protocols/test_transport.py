"""SocketChannel on real sockets: asyncio and uvloop, plain and TLS."""
from __future__ import annotations

import asyncio
import ssl

import pytest
import uvloop

from protocols.transport.sockets import SocketListener, SocketSettings
from tests.support.wait import DEADLINE_S


class Handler:
    """Echoes whole reads, in two writes; keeps what happened."""

    def __init__(self, channel):
        self.channel = channel
        self.reads = []
        self.events = []

    def receive_data(self, data, now_s):
        assert now_s > 0
        self.reads.append(data)
        if data.startswith(b"bye"):
            self.channel.write(b"good")
            self.channel.write(b"bye")
            self.channel.close()
            self.channel.write(b"never")
        elif data.startswith(b"big"):
            for _ in range(200):
                self.channel.write(b"x" * 100_000)
        else:
            self.channel.write(data[:1])
            self.channel.write(data[1:])

    def eof(self):
        self.events.append("eof")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class Factory:
    def __init__(self):
        self.handlers = []

    def connection(self, channel, now_s):
        handler = Handler(channel)
        self.handlers.append(handler)
        return handler


@pytest.fixture(params=["asyncio", "uvloop", "asyncio-tls", "uvloop-tls"])
def run(request, certificates):
    """run(scenario) with scenario(listener, factory, connect) on the loop of this kind."""
    kind, _, tls = request.param.partition("-")

    def go(scenario, settings=None):
        async def main():
            loop = asyncio.get_running_loop()
            factory = Factory()
            listener = SocketListener(factory, settings or SocketSettings(), loop)
            server_tls = client_tls = None
            if tls:
                server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                server_tls.load_cert_chain(certificates.server_cert, certificates.server_key)
                client_tls = ssl.create_default_context(cafile=str(certificates.ca))
            server = await loop.create_server(listener.channel, "127.0.0.1", 0, ssl=server_tls)
            address = server.sockets[0].getsockname()

            async def connect():
                return await asyncio.open_connection(
                    *address, ssl=client_tls, server_hostname="localhost" if tls else None)

            try:
                await asyncio.wait_for(scenario(listener, factory, connect), 2 * DEADLINE_S)
            finally:
                server.close()

        if kind == "uvloop":
            uvloop.run(main())
        else:
            asyncio.run(main())

    return go


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def test_bytes_go_both_ways_in_order(run):
    """[MQTT-4.2.0-1]"""
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        for number in range(20):
            writer.write(b"hello %d" % number)
            assert await reader.readexactly(len(b"hello %d" % number)) == b"hello %d" % number
        (handler,) = factory.handlers
        assert handler.channel.address.startswith("127.0.0.1:")
        writer.close()
        await until(lambda: handler.events)
        assert handler.events == ["eof"]
        assert not listener.channels
        handler.channel.write(b"into the void")
        handler.channel.close()

    run(scenario)


def test_close_sends_what_was_written_before(run):
    async def scenario(listener, factory, connect):
        reader, _ = await connect()
        _.write(b"bye")
        assert await reader.read() == b"goodbye"
        await until(lambda: factory.handlers[0].events == ["eof"])

    run(scenario)


def test_a_slow_reader_is_told_to_the_handler(run):
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        writer.write(b"big")
        await until(lambda: factory.handlers)
        (handler,) = factory.handlers
        await until(lambda: "pause" in handler.events)
        assert handler.channel.buffered_bytes() > SocketSettings().write_buffer_high_bytes
        assert len(await reader.readexactly(200 * 100_000)) == 20_000_000
        await until(lambda: "resume" in handler.events)
        await until(lambda: handler.channel.buffered_bytes() == 0)

    run(scenario)


def test_a_peer_that_does_not_read_is_cut_off_after_the_linger(run):
    async def scenario(listener, factory, connect):
        _, writer = await connect()
        writer.write(b"big")
        await until(lambda: factory.handlers and "pause" in factory.handlers[0].events)
        factory.handlers[0].channel.close()
        await until(lambda: "eof" in factory.handlers[0].events)

    run(scenario, SocketSettings(linger_s=0.1))


def test_the_last_words_arrive_though_the_peer_goes_on_sending(run):
    """A socket that is closed with bytes unread resets the connection, and the peer loses what it had not read yet."""
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        if writer.get_extra_info("ssl_object") is not None:
            return                                          # TLS has no half of a connection
        writer.write(b"bye")
        await until(lambda: factory.handlers and factory.handlers[0].reads)
        for _ in range(20):
            writer.write(b"still talking" * 1_000)
            await asyncio.sleep(0.002)
        assert await reader.read() == b"goodbye"
        assert factory.handlers[0].reads == [b"bye"]
        writer.close()
        await until(lambda: factory.handlers[0].events == ["eof"])

    run(scenario)


def test_a_peer_that_never_stops_sending_is_cut_off(run):
    async def scenario(listener, factory, connect):
        _, writer = await connect()
        writer.write(b"bye")
        await until(lambda: factory.handlers and factory.handlers[0].reads)
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 100_000)
                await writer.drain()
        await until(lambda: factory.handlers[0].events == ["eof"])

    run(scenario, SocketSettings(linger_s=1_000))


def test_reading_can_be_paused(run):
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        writer.write(b"1")
        await reader.readexactly(1)
        (handler,) = factory.handlers
        handler.channel.pause_reading()
        handler.channel.pause_reading()
        writer.write(b"2")
        await asyncio.sleep(0.05)
        assert handler.reads == [b"1"]
        handler.channel.resume_reading()
        handler.channel.resume_reading()
        assert await reader.readexactly(1) == b"2"
        handler.channel.pause_reading()
        handler.channel.close()
        await until(lambda: "eof" in handler.events)

    run(scenario)


def test_abort(run):
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        writer.write(b"1")
        await reader.readexactly(1)
        factory.handlers[0].channel.abort()
        await until(lambda: "eof" in factory.handlers[0].events)

    run(scenario)


def test_connections_over_the_limit_are_closed(run):
    async def scenario(listener, factory, connect):
        reader, writer = await connect()
        writer.write(b"1")
        await reader.readexactly(1)
        try:
            other, _ = await connect()
            assert await other.read() == b""
        except OSError:
            pass
        await until(lambda: listener.refused)
        assert listener.refused == 1
        writer.write(b"2")
        assert await reader.readexactly(1) == b"2"

    run(scenario, SocketSettings(connections_max=1))
