"""python -m tests.soak.mixed --minutes 30: mixed load on one node; nothing that is acked is lost, memory stays flat.

    aiomqtt QoS 1 · HTTP POST · aiokafka acks=all · aio-pika with confirms ──► one stream with a bound on its size
    ──► one durable MQTT session (whom nothing may escape), an SSE reader, a shared group of two
    and clients that come, subscribe, publish and go; durable consumers that are made and deleted

Memory: the median of the last quarter against that of the second, since a start is still filling its caches.
"""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import aio_pika
import aiohttp
import aiomqtt
from aiokafka import AIOKafkaProducer
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.node import HOST, Node

STREAMS = '[[streams]]\nname = "soak"\ncapture = ["soak/#"]\npartitions = 2\nretention = { bytes = "64MiB" }\n'
PAYLOAD_BYTES = 200
RATES = {"mqtt": 300.0, "http": 60.0, "kafka": 200.0, "amqp": 100.0}     # acked one by one, per second at most
SAMPLE_S = 1.0
CHURN_S = 0.2
GUESTS = 50                         # names: what the log remembers of each topic has bounds that minutes do not reach
SETTLE_S = 30.0                     # for what was acked last to arrive
GROWTH_MAX_BYTES = 12 * 1024 * 1024
TURN_S = 0.025
GROUP = "$share/crew/soak/#"


class Load:
    """What was acked, and what came to the durable session, by producer and number."""

    def __init__(self, node: Node, seconds: float) -> None:
        self.node = node
        self.until_s = time.monotonic() + seconds
        self.acked: dict[str, int] = dict.fromkeys(RATES, 0)        # each goes on only when the one before is acked
        self.got: dict[str, bytearray] = {name: bytearray() for name in RATES}
        self.doubles = 0
        self.read = 0                                               # by the SSE reader
        self.shared = 0                                             # by the group
        self.churned = 0
        self.rss: list[int] = []

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until_s

    def took(self, payload: bytes) -> None:
        name, number = payload.split(b" ", 2)[:2]
        seen, index = self.got[name.decode()], int(number)
        if index >= len(seen):
            seen.extend(bytes(max(4096, index + 1 - len(seen))))
        self.doubles += seen[index]
        seen[index] = 1

    @property
    def missing(self) -> int:
        return sum(count - sum(self.got[name][:count]) for name, count in self.acked.items())

    # -- producers --------------------------------------------------------------------------------------------

    async def produce(self, name: str, send: Callable[[bytes], Awaitable[object]]) -> None:
        due_s = time.monotonic()
        while not self.over:
            text = b"%s %d " % (name.encode(), self.acked[name])
            await send(text.ljust(PAYLOAD_BYTES, b"."))
            self.acked[name] += 1
            due_s = max(due_s + 1 / RATES[name], time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def mqtt(self) -> None:
        async with self.client("producer") as client:
            await self.produce("mqtt", lambda body: client.publish("soak/mqtt", body, qos=1))

    async def http(self) -> None:
        async with aiohttp.ClientSession() as session:
            async def send(body: bytes) -> None:
                async with session.post(self.node.url("http", "/v1/events/soak/http"), data=body) as answer:
                    assert answer.status == 200, await answer.text()
            await self.produce("http", send)

    async def kafka(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=f"{HOST}:{self.node.ports['kafka']}", acks="all")
        await producer.start()
        try:
            await self.produce("kafka", lambda body: producer.send_and_wait("soak", body))
        finally:
            await producer.stop()

    async def amqp(self) -> None:
        async with await aio_pika.connect(f"amqp://guest:guest@{HOST}:{self.node.ports['amqp']}/") as connection:
            channel = await connection.channel()
            topics = await channel.get_exchange("amq.topic")
            await self.produce("amqp", lambda body: topics.publish(aio_pika.Message(body), "soak.amqp"))

    # -- readers ----------------------------------------------------------------------------------------------

    def client(self, name: str, *, stays: bool = False) -> aiomqtt.Client:
        options = Properties(PacketTypes.CONNECT)
        options.SessionExpiryInterval = 600 if stays else 0
        return aiomqtt.Client(HOST, self.node.ports["mqtt"], identifier=name, protocol=aiomqtt.ProtocolVersion.V5,
                              clean_start=not stays, properties=options)

    async def durable(self, ready: asyncio.Event) -> None:
        async with self.client("keeper", stays=True) as client:
            await client.subscribe("soak/#", qos=1)
            ready.set()
            async for message in client.messages:
                self.took(bytes(message.payload))

    async def member(self, number: int) -> None:
        async with self.client(f"member-{number}", stays=True) as client:
            await client.subscribe(GROUP, qos=1)
            async for _ in client.messages:
                self.shared += 1

    async def sse(self) -> None:
        url = self.node.url("http", "/v1/events?filter=soak/%23")
        none = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=none) as session, session.get(url) as answer:
            async for line in answer.content:
                self.read += line.startswith(b"id:")

    # -- comings and goings -----------------------------------------------------------------------------------

    async def churn(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self.over:
                name = f"guest-{self.churned % GUESTS}"
                async with self.client(name) as client:
                    await client.subscribe(f"guests/{name}", qos=1)
                    await client.publish(f"guests/{name}", b"hello", qos=1)
                    async with asyncio.timeout(60):
                        await anext(client.messages)
                url = self.node.url("http", f"/v1/consumers/{name}")
                async with session.put(url, json={"filters": ["soak/http"]}) as answer:
                    assert answer.status in (200, 201), await answer.text()
                async with session.delete(url) as answer:
                    assert answer.status in (200, 204), await answer.text()
                self.churned += 1
                await asyncio.sleep(CHURN_S)

    async def sample(self) -> None:
        while not self.over:
            self.rss.append(self.node.process.rss_bytes())
            await asyncio.sleep(SAMPLE_S)

    # -- all of it --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        ready = asyncio.Event()
        readers = [asyncio.ensure_future(work) for work in (
            self.durable(ready), self.sse(), self.member(1), self.member(2))]
        try:
            await asyncio.wait_for(ready.wait(), SETTLE_S)
            await asyncio.gather(self.mqtt(), self.http(), self.kafka(), self.amqp(), self.churn(), self.sample())
            settled_s = time.monotonic() + SETTLE_S
            while self.missing and time.monotonic() < settled_s:
                await asyncio.sleep(0.1)
            for reader in readers:
                if reader.done():
                    reader.result()
        finally:
            for reader in readers:
                reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*readers, return_exceptions=True)

    def growth_bytes(self) -> int:
        if not self.rss:
            return 0
        quarter = max(1, len(self.rss) // 4)
        return int(median(self.rss[-quarter:]) - median(self.rss[quarter:2 * quarter] or self.rss))

    def summary(self) -> str:
        mebibytes = [value / 2**20 for value in self.rss] or [0.0]
        told = self.node.metrics()
        turns = "meshgate_loop_turn_cpu_seconds"
        slow = told[f"{turns}_count"] - told[f'{turns}_bucket{{le="{TURN_S}"}}']
        return (f"{sum(self.acked.values()):,} acked, {self.missing} lost, {self.doubles} doubled, {self.shared:,} to "
                f"the group, {self.read:,} by SSE, {self.churned:,} guests; RSS {mebibytes[0]:.0f}, median "
                f"{median(mebibytes):.0f}, last {mebibytes[-1]:.0f} MiB, grown {self.growth_bytes() / 2**20:+.1f} MiB; "
                f"{slow:.0f} of {told[f'{turns}_count']:,.0f} turns above {TURN_S * 1000:.0f} ms of CPU")

    @property
    def fine(self) -> bool:
        return (not self.missing and not self.doubles and self.growth_bytes() <= GROWTH_MAX_BYTES
                and all(self.acked.values()) and self.read > 0 and self.shared > 0)


def run(folder: Path, seconds: float) -> tuple[bool, str]:
    """Whether all held, and what there is to say."""
    node = Node(folder, extra=STREAMS, listeners=("mqtt", "http", "console", "kafka", "amqp")).start()
    try:
        load = Load(node, seconds)
        asyncio.run(load.run())
        return load.fine, load.summary()
    finally:
        node.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.mixed", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        fine, summary = run(Path(folder), options.minutes * 60)
    print(summary)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
