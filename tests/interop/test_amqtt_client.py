"""amqtt's client (a pure asyncio implementation of MQTT 3.1.1) against the broker, over TCP, TLS and WebSocket."""
from __future__ import annotations

import asyncio

import pytest
from amqtt.client import MQTTClient

DEADLINE_S = 60
CONFIG = {"auto_reconnect": False, "ping_delay": 1, "keep_alive": 60, "default_qos": 0, "default_retain": False}


def uri(broker, transport: str) -> str:
    addresses = {"mqtt": f"mqtt://127.0.0.1:{broker.mqtt[1]}", "mqtts": f"mqtts://localhost:{broker.mqtts[1]}",
                 "ws": broker.ws, "wss": broker.wss}
    return addresses[transport]


class Amqtt:
    def __init__(self, broker, client_id: str, transport: str = "mqtt", *, clean: bool = True, will=None) -> None:
        config = {**CONFIG, **({"will": will} if will else {})}
        self.client = MQTTClient(client_id=client_id, config=config)
        self.arguments = {"uri": uri(broker, transport), "cleansession": clean}
        if transport in ("mqtts", "wss"):
            self.arguments["cafile"] = str(broker.certificates.ca)

    async def __aenter__(self) -> MQTTClient:
        async with asyncio.timeout(DEADLINE_S):
            await self.client.connect(**self.arguments)
        return self.client

    async def __aexit__(self, *_: object) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.client.disconnect()


async def take(client: MQTTClient, count: int) -> list[bytes]:
    out = []
    for _ in range(count):
        message = await client.deliver_message(timeout_duration=DEADLINE_S)
        out.append(bytes(message.data))
    return out


@pytest.mark.parametrize("transport", ["mqtt", "mqtts", "ws", "wss"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publish_and_subscribe(broker, unique, topic, transport, qos):
    async with Amqtt(broker, unique("sub"), transport) as subscriber, \
            Amqtt(broker, unique("pub"), transport) as publisher:
        assert await subscriber.subscribe([(topic, qos)]) == [qos]
        for number in range(10):
            await publisher.publish(topic, b"%d" % number, qos=qos)
        assert await take(subscriber, 10) == [b"%d" % number for number in range(10)]
        await subscriber.unsubscribe([topic])


async def test_retained(broker, unique, topic):
    async with Amqtt(broker, unique("pub")) as publisher, Amqtt(broker, unique("sub")) as subscriber:
        await publisher.publish(topic, b"kept", qos=1, retain=True)
        await subscriber.subscribe([(topic, 1)])
        message = await subscriber.deliver_message(timeout_duration=DEADLINE_S)
        assert (bytes(message.data), message.retain) == (b"kept", True)
        await publisher.publish(topic, b"", qos=1, retain=True)


async def test_will(broker, unique, topic):
    async with Amqtt(broker, unique("watch")) as watcher:
        await watcher.subscribe([(topic, 1)])
        dies = Amqtt(broker, unique("dies"), will={"topic": topic, "message": "gone", "qos": 1, "retain": False})
        client = await dies.__aenter__()
        client._connected_state.clear()
        client._handler.writer._writer.transport.abort()
        assert await take(watcher, 1) == [b"gone"]


async def test_a_persistent_session_gets_what_it_missed(broker, unique, topic):
    async with Amqtt(broker, unique("sub"), clean=False) as subscriber:
        await subscriber.subscribe([(topic, 1)])
    async with Amqtt(broker, unique("pub")) as publisher:
        for number in range(10):
            await publisher.publish(topic, b"%d" % number, qos=1)
    async with Amqtt(broker, unique("sub"), clean=False) as subscriber:
        assert await take(subscriber, 10) == [b"%d" % number for number in range(10)]


async def test_shared_subscription(broker, unique, topic):
    group = f"$share/{unique('g')}/{topic}"
    async with Amqtt(broker, unique("a")) as one, Amqtt(broker, unique("b")) as two, \
            Amqtt(broker, unique("pub")) as publisher:
        got: list[tuple[int, bytes]] = []
        done = asyncio.Event()

        async def reader(index: int, client: MQTTClient) -> None:
            while True:
                message = await client.deliver_message()
                got.append((index, bytes(message.data)))
                if len(got) == 20:
                    done.set()

        for client in (one, two):
            await client.subscribe([(group, 1)])
        tasks = [asyncio.create_task(reader(index, client)) for index, client in enumerate((one, two))]
        for number in range(20):
            await publisher.publish(topic, b"%d" % number, qos=1)
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(payload for _, payload in got) == sorted(b"%d" % number for number in range(20))
        assert {index for index, _ in got} == {0, 1}
