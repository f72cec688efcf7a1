"""aiomqtt, the asyncio face of paho, against the broker: both versions, over TCP, TLS and WebSocket."""
from __future__ import annotations

import asyncio
from socket import SHUT_RDWR
from urllib.parse import urlsplit

import aiomqtt
import pytest
from aiomqtt import Client, ProtocolVersion, TLSParameters, Will
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 60
VERSIONS = {"3.1.1": ProtocolVersion.V311, "5": ProtocolVersion.V5}


def open_client(broker, client_id: str, version: str = "5", transport: str = "tcp", *, clean: bool = True,
                **options) -> Client:
    host, port = broker.mqtts if transport == "tls" else broker.mqtt
    if transport == "tls":
        options["tls_params"] = TLSParameters(ca_certs=str(broker.certificates.ca))
        host = "localhost"
    if transport == "ws":
        parts = urlsplit(broker.ws)
        host, port = parts.hostname, parts.port
        options.update(transport="websockets", websocket_path=parts.path)
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 60
        options.update(clean_start=clean, properties=properties)
    else:
        options.update(clean_session=clean)
    return Client(host, port, identifier=client_id, protocol=VERSIONS[version], timeout=DEADLINE_S, **options)


async def take(client: Client, count: int) -> list[aiomqtt.Message]:
    out: list[aiomqtt.Message] = []
    async with asyncio.timeout(DEADLINE_S):
        async for message in client.messages:
            out.append(message)
            if len(out) == count:
                break
    return out


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["tcp", "tls", "ws"])
async def test_publish_and_subscribe(broker, unique, topic, version, transport):
    async with open_client(broker, unique("sub"), version, transport) as subscriber, \
            open_client(broker, unique("pub"), version, transport) as publisher:
        await subscriber.subscribe(topic, qos=2)
        for number in range(30):
            await publisher.publish(topic, b"%d" % number, qos=number % 3)
        found = await take(subscriber, 30)
        assert sorted(int(one.payload) for one in found) == list(range(30))
        for qos in range(3):
            same = [int(one.payload) for one in found if one.qos == qos]
            assert same == list(range(qos, 30, 3))


@pytest.mark.parametrize("version", VERSIONS)
async def test_concurrent_publishers(broker, unique, topic, version):
    async with open_client(broker, unique("sub"), version) as subscriber, \
            open_client(broker, unique("pub"), version) as publisher:
        await subscriber.subscribe(topic, qos=1)
        await asyncio.gather(*(publisher.publish(topic, b"%d" % number, qos=1) for number in range(200)))
        assert sorted(int(one.payload) for one in await take(subscriber, 200)) == list(range(200))


@pytest.mark.parametrize("version", VERSIONS)
async def test_retained_and_will(broker, unique, topic, version):
    async with open_client(broker, unique("watch"), version) as watcher:
        await watcher.subscribe(topic, qos=1)
        dies = open_client(broker, unique("dies"), version, will=Will(topic, b"gone", qos=1, retain=True))
        await dies.__aenter__()
        dies._client.socket().shutdown(SHUT_RDWR)       # no DISCONNECT
        (found,) = await take(watcher, 1)
        assert (found.payload, found.retain) == (b"gone", False)
        async with open_client(broker, unique("late"), version) as late:
            await late.subscribe(topic, qos=1)
            (found,) = await take(late, 1)
            assert (found.payload, found.retain) == (b"gone", True)
            await late.publish(topic, b"", qos=1, retain=True)
        try:
            await dies.__aexit__(None, None, None)
        except aiomqtt.MqttError:
            pass


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_persistent_session_gets_what_it_missed(broker, unique, topic, version):
    async with open_client(broker, unique("sub"), version, clean=False) as subscriber:
        await subscriber.subscribe(topic, qos=1)
    async with open_client(broker, unique("pub"), version) as publisher:
        for number in range(20):
            await publisher.publish(topic, b"%d" % number, qos=1)
    async with open_client(broker, unique("sub"), version, clean=False) as subscriber:
        assert [int(one.payload) for one in await take(subscriber, 20)] == list(range(20))


@pytest.mark.parametrize("version", VERSIONS)
async def test_shared_subscription(broker, unique, topic, version):
    group = f"$share/{unique('g')}/{topic}"
    async with open_client(broker, unique("a"), version) as one, open_client(broker, unique("b"), version) as two, \
            open_client(broker, unique("pub"), version) as publisher:
        got: dict[int, list[int]] = {0: [], 1: []}
        done = asyncio.Event()

        async def reader(index: int, client: Client) -> None:
            async for message in client.messages:
                got[index].append(int(message.payload))
                if len(got[0]) + len(got[1]) == 40:
                    done.set()

        await one.subscribe(group, qos=1)
        await two.subscribe(group, qos=1)
        tasks = [asyncio.create_task(reader(index, client)) for index, client in enumerate((one, two))]
        for number in range(40):
            await publisher.publish(topic, b"%d" % number, qos=1)
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(got[0] + got[1]) == list(range(40)) and got[0] and got[1]


async def test_version_5_request_and_response(broker, unique):
    async with open_client(broker, unique("asks")) as asks, open_client(broker, unique("answers")) as answers:
        await answers.subscribe(unique("service"), qos=1)
        await asks.subscribe(unique("reply"), qos=1)
        values = Properties(PacketTypes.PUBLISH)
        values.ResponseTopic, values.CorrelationData = unique("reply"), b"42"
        values.UserProperty = [("a", "1"), ("a", "2")]
        values.MessageExpiryInterval = 60
        await asks.publish(unique("service"), b"?", qos=1, properties=values)
        (request,) = await take(answers, 1)
        assert request.properties.UserProperty == [("a", "1"), ("a", "2")]
        assert 0 < request.properties.MessageExpiryInterval <= 60
        back = Properties(PacketTypes.PUBLISH)
        back.CorrelationData = request.properties.CorrelationData
        await answers.publish(request.properties.ResponseTopic, b"!", qos=1, properties=back)
        (reply,) = await take(asks, 1)
        assert (reply.payload, reply.properties.CorrelationData) == (b"!", b"42")
