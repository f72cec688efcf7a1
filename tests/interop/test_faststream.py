"""FastStream 0.7: one program whose KafkaBroker, MQTTBroker and RabbitBroker meet on one node."""
from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from faststream.kafka import KafkaBroker
from faststream.mqtt import MQTTBroker, QoS
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel

from tests.interop.kafka_node import bootstrap, unique
from tests.support.node import ROOT, Node

WAIT_S = 30
PROTOCOLS = ("kafka", "mqtt", "rabbit")


class Reading(BaseModel):
    sensor: str
    value: float


class Brokers:
    """One of each, and what their subscribers have got."""

    def __init__(self, node, topic):
        """topic: with dots, as Kafka and AMQP have it."""
        self.kafka = KafkaBroker(bootstrap(node), logger=None)
        self.mqtt = MQTTBroker(f"mqtt://127.0.0.1:{node.ports['mqtt']}", client_id=topic, logger=None)
        self.rabbit = RabbitBroker(f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}/", logger=None)
        self.all = (self.rabbit, self.mqtt, self.kafka)         # the group begins to work when the others are there
        self.exchange = RabbitExchange("amq.topic", type=ExchangeType.TOPIC, durable=True, declare=False)
        self.topic = topic
        self.level = topic.replace(".", "/")
        self.got = {name: [] for name in PROTOCOLS}
        self.news = asyncio.Event()

    def take(self, protocol, reading):
        self.got[protocol].append(reading)
        self.news.set()

    async def wait(self, ready):
        try:
            async with asyncio.timeout(WAIT_S):
                while not ready():
                    await self.news.wait()
                    self.news.clear()
        except TimeoutError:
            pytest.fail(f"no more than {self.got}")

    async def publish(self, protocol, reading):
        if protocol == "kafka":
            await self.kafka.publish(reading, self.topic)
        elif protocol == "mqtt":
            await self.mqtt.publish(reading, self.level, qos=QoS.AT_LEAST_ONCE)
        else:
            await self.rabbit.publish(reading, exchange=self.exchange, routing_key=self.topic, mandatory=True)

    async def __aenter__(self):
        for broker in self.all:
            await broker.start()
        return self

    async def __aexit__(self, *_):
        for broker in reversed(self.all):
            await broker.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("faststream"), listeners=("mqtt", "amqp", "kafka", "console")).start()
    yield made
    assert "Traceback" not in made.process.log_text(), made.process.log_tail(60)
    made.kill9()


def test_the_example_does_what_it_says(node):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "faststream_app.py"),
         *(word for name in ("mqtt", "kafka", "amqp") for word in (f"--{name}", str(node.ports[name])))],
        capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "alarm: oven 91.5", "alarm: oven 97.25",
        "5 readings over MQTT, 5 judged by the Kafka group, 2 alarms over AMQP"]


async def test_each_broker_gets_what_each_of_them_publishes(node):
    brokers = Brokers(node, unique("plant"))

    @brokers.kafka.subscriber(brokers.topic, group_id=brokers.topic, auto_offset_reset="earliest")
    async def by_kafka(reading: Reading) -> None:
        brokers.take("kafka", reading)

    @brokers.mqtt.subscriber(brokers.level, qos=QoS.AT_LEAST_ONCE)
    async def by_mqtt(reading: Reading) -> None:
        brokers.take("mqtt", reading)

    @brokers.rabbit.subscriber(
        RabbitQueue(brokers.topic, auto_delete=True, routing_key=brokers.topic), brokers.exchange)
    async def by_rabbit(reading: Reading) -> None:
        brokers.take("rabbit", reading)

    async with brokers:
        sent = [Reading(sensor=protocol, value=number) for protocol in PROTOCOLS for number in range(5)]
        for reading in sent:
            await brokers.publish(reading.sensor, reading)
        await brokers.wait(lambda: all(len(got) >= len(sent) for got in brokers.got.values()))
    for protocol, got in brokers.got.items():
        assert sorted(got, key=str) == sorted(sent, key=str), protocol
        for sender in PROTOCOLS:                            # the order of each publisher holds
            assert [reading.value for reading in got if reading.sensor == sender] == [0, 1, 2, 3, 4]


def values(protocol, brokers):
    return [reading.value for reading in brokers.got[protocol]]


async def test_a_reading_goes_from_mqtt_over_kafka_to_rabbit_and_outlives_a_kill(node):
    """The worker is a Kafka group: what comes while it is away waits in the log, also through a kill of the node."""
    topic, alarms = unique("raw"), unique("alarms")

    def pipeline():
        brokers = Brokers(node, topic)

        @brokers.kafka.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def judge(reading: Reading) -> None:
            brokers.take("kafka", reading)
            if reading.value > 90:
                await brokers.rabbit.publish(
                    reading, exchange=brokers.exchange, routing_key=alarms, mandatory=True, persist=True)

        @brokers.rabbit.subscriber(RabbitQueue(alarms, durable=True, routing_key=alarms), brokers.exchange)
        async def ring(reading: Reading) -> None:
            brokers.take("rabbit", reading)

        return brokers

    async with pipeline() as brokers:
        for value in (20, 95):
            await brokers.publish("mqtt", Reading(sensor="oven", value=value))
        await brokers.wait(lambda: brokers.got["rabbit"] and len(brokers.got["kafka"]) == 2)
    sender = Brokers(node, topic)
    await sender.mqtt.start()
    for value in (30, 99):
        await sender.publish("mqtt", Reading(sensor="oven", value=value))
    await sender.mqtt.stop()
    node.kill9()
    node.start()
    async with pipeline() as brokers:
        await brokers.wait(lambda: 99 in values("rabbit", brokers) and len(brokers.got["kafka"]) >= 2)
    assert values("kafka", brokers) == [30, 99]
    assert set(values("rabbit", brokers)) <= {95, 99}       # an ack of AMQP may be lost by a kill: it comes again
