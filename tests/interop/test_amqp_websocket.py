"""AMQP over WebSocket: pika through a pipe from a TCP port to ws://…/amqp, and both protocol headers."""
from __future__ import annotations

import asyncio
import threading

import pika
import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.node import Node


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("amqp-ws"), listeners=("amqp", "http", "console"))
    made.start()
    yield made
    made.kill9()


def url(node):
    return f"ws://127.0.0.1:{node.ports['http']}/amqp"


@pytest.fixture
def pipe(node):
    """A TCP port whose bytes go through a WebSocket."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    port = []

    async def serve():
        async def carry(reader, writer):
            async with ws_connect(url(node), subprotocols=["amqp"], max_size=None) as socket:
                async def inward():
                    try:
                        async for message in socket:
                            writer.write(message)
                            await writer.drain()
                    except (ConnectionClosed, ConnectionError):
                        pass
                    writer.close()

                task = loop.create_task(inward())
                try:
                    while data := await reader.read(50_000):
                        await socket.send(data)
                except (ConnectionClosed, ConnectionError):
                    pass
                await socket.close()
                await task

        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        started.set()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = asyncio.run_coroutine_threadsafe(serve(), loop)
    started.wait(10)
    serving.result(10)
    yield port[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_a_client_publishes_and_reads_over_websocket(pipe):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", pipe))
    channel = connection.channel()
    channel.queue_declare("over-ws", durable=True)
    channel.confirm_delivery()
    for size in (0, 1, 200_000):
        channel.basic_publish("", "over-ws", b"x" * size, pika.BasicProperties(delivery_mode=2))
        assert len(channel.basic_get("over-ws", auto_ack=True)[2]) == size
    connection.close()


@pytest.mark.parametrize(("header", "first"), [
    (b"AMQP\0\0\x09\x01", b"\x01\0\0"), (b"AMQP\x03\x01\0\0", b"AMQP\x03\x01\0\0"),
    (b"AMQP\0\0\x08\0", b"AMQP\0\0\x09\x01")])
def test_the_header_tells_0_9_1_and_1_0_apart(node, header, first):
    with connect(url(node), subprotocols=["amqp"]) as socket:
        assert socket.subprotocol == "amqp"
        socket.send(header[:3])
        socket.send(header[3:])
        assert socket.recv(10).startswith(first)


def test_another_subprotocol_is_refused(node):
    with pytest.raises(InvalidStatus), connect(url(node), subprotocols=["mqtt"]):
        pass
