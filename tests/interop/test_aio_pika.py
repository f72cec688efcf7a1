"""aio-pika and FastStream's RabbitBroker against a real node."""
from __future__ import annotations

import asyncio

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError
from aio_pika.patterns import RPC
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue

from tests.support.node import Node

WAIT_S = 20


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("aio-pika"), listeners=("amqp", "console"))
    made.start()
    yield made
    made.kill9()


def url(node):
    return f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}/"


async def test_publish_confirm_consume_and_requeue(node):
    async with await aio_pika.connect(url(node)) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        exchange = await channel.declare_exchange("aio", aio_pika.ExchangeType.HEADERS, durable=True)
        queue = await channel.declare_queue("aio", durable=True)
        await queue.bind(exchange, "", arguments={"x-match": "all", "kind": "good"})
        await exchange.publish(aio_pika.Message(b"yes", headers={"kind": "good", "n": 1}), "k")
        await exchange.publish(aio_pika.Message(b"no", headers={"kind": "bad"}), "k", mandatory=False)
        message = await queue.get(timeout=WAIT_S)
        assert (message.body, message.headers, message.redelivered) == (b"yes", {"kind": "good", "n": 1}, False)
        await message.nack(requeue=True)
        message = await queue.get(timeout=WAIT_S)
        assert (message.body, message.redelivered) == (b"yes", True)
        await message.ack()
        assert await queue.get(fail=False, timeout=WAIT_S) is None


async def test_what_nobody_wants_comes_back_before_the_confirm(node):
    async with await aio_pika.connect(url(node)) as connection:
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"lost"), "nowhere", mandatory=True)


async def test_a_missing_queue_closes_only_its_channel(node):
    async with await aio_pika.connect(url(node)) as connection:
        channel = await connection.channel()
        with pytest.raises(ChannelNotFoundEntity):
            await channel.declare_queue("missing", passive=True)
        other = await connection.channel()
        assert (await other.declare_queue("", exclusive=True)).name.startswith("amq.gen-")


async def test_remote_calls_by_aio_pikas_own_pattern(node):
    async with await aio_pika.connect(url(node)) as connection:
        channel = await connection.channel()
        rpc = await RPC.create(channel)

        async def double(number):
            return 2 * number

        await rpc.register("double", double, auto_delete=True)
        assert await asyncio.wait_for(rpc.call("double", {"number": 21}), WAIT_S) == 42


async def test_a_transaction_of_aio_pika(node):
    async with await aio_pika.connect(url(node)) as connection:
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue("", exclusive=True)
        async with channel.transaction():
            await channel.default_exchange.publish(aio_pika.Message(b"in"), queue.name)
        assert (await queue.get(timeout=WAIT_S)).body == b"in"


async def test_a_robust_connection_comes_back_after_kill_9(node):
    """It declares again what it knew, and gets what was confirmed before."""
    connection = await aio_pika.connect_robust(url(node), reconnect_interval=0.3)
    channel = await connection.channel()
    queue = await channel.declare_queue("robust", durable=True)
    for number in range(20):
        await channel.default_exchange.publish(
            aio_pika.Message(b"%d" % number, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "robust")
    await asyncio.to_thread(node.restart)
    got = []
    done = asyncio.Event()

    async def take(message):
        async with message.process():
            got.append(message.body)
            if len(got) == 20:
                done.set()

    for _ in range(50):
        try:
            await queue.consume(take)
            break
        except Exception:
            await asyncio.sleep(0.2)
    await asyncio.wait_for(done.wait(), WAIT_S)
    assert got == [b"%d" % number for number in range(20)]
    await connection.close()


async def test_faststream_subscribes_and_asks(node):
    broker = RabbitBroker(url(node), logger=None)
    exchange = RabbitExchange("stream", auto_delete=True)
    got = asyncio.get_running_loop().create_future()

    @broker.subscriber(RabbitQueue("stream-orders", auto_delete=True), exchange)
    async def orders(body: dict) -> None:
        got.set_result(body)

    @broker.subscriber(RabbitQueue("stream-double", auto_delete=True))
    async def double(number: int) -> int:
        return 2 * number

    async with broker:
        await broker.start()
        await broker.publish({"id": 7}, "stream-orders", exchange, mandatory=True)
        assert await asyncio.wait_for(got, WAIT_S) == {"id": 7}
        answer = await broker.request(21, "stream-double", timeout=WAIT_S)
        assert await answer.decode() == 42
