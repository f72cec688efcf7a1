"""One FastStream program, three protocols, one node: machines publish over MQTT, a Kafka group judges, alarms go to a
RabbitMQ queue. No broker but the node runs.

    meshgate up                                     # in another terminal
    pip install 'faststream[kafka,mqtt,rabbit]'
    python examples/faststream_app.py

    MQTT plant/oven/temperature ──► the log ──► Kafka topic plant.oven.temperature, group "judges"
                                                       └─ above 90 ──► queue "alarms" (AMQP 0-9-1) ──► printed
"""
from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack

from faststream.kafka import KafkaBroker
from faststream.mqtt import MQTTBroker, QoS
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from pydantic import BaseModel

TOPIC = "plant.oven.temperature"        # as Kafka and AMQP have it; over MQTT plant/oven/temperature
VALUES = (72.0, 91.5, 85.0, 97.25, 60.0)
LIMIT, DEADLINE_S = 90.0, 60.0


class Reading(BaseModel):
    sensor: str
    value: float


async def main(mqtt_port: int, kafka_port: int, amqp_port: int) -> None:
    mqtt = MQTTBroker(f"mqtt://127.0.0.1:{mqtt_port}", client_id="oven", logger=None)
    kafka = KafkaBroker(f"127.0.0.1:{kafka_port}", logger=None)
    rabbit = RabbitBroker(f"amqp://guest:guest@127.0.0.1:{amqp_port}/", logger=None)
    exchange = RabbitExchange("amq.topic", type=ExchangeType.TOPIC, durable=True, declare=False)
    judged: list[float] = []
    alarms: list[float] = []

    @kafka.subscriber(TOPIC, group_id="judges", auto_offset_reset="earliest")
    async def judge(reading: Reading) -> None:
        judged.append(reading.value)
        if reading.value > LIMIT:
            await rabbit.publish(reading, exchange=exchange, routing_key="alarms", persist=True)

    @rabbit.subscriber(RabbitQueue("alarms", durable=True, routing_key="alarms"), exchange)
    async def ring(reading: Reading) -> None:
        print(f"alarm: {reading.sensor} {reading.value}", flush=True)
        alarms.append(reading.value)

    async with AsyncExitStack() as stack:
        for broker in (rabbit, mqtt, kafka):                # who judges begins when the others are there
            await broker.start()
            stack.push_async_callback(broker.stop)
        for value in VALUES:
            await mqtt.publish(Reading(sensor="oven", value=value), TOPIC.replace(".", "/"), qos=QoS.AT_LEAST_ONCE)
        async with asyncio.timeout(DEADLINE_S):
            while len(judged) < len(VALUES) or len(alarms) < sum(value > LIMIT for value in VALUES):
                await asyncio.sleep(0.05)
    print(f"{len(VALUES)} readings over MQTT, {len(judged)} judged by the Kafka group, {len(alarms)} alarms over AMQP")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mqtt", type=int, default=1883)
    parser.add_argument("--kafka", type=int, default=9092)
    parser.add_argument("--amqp", type=int, default=5672)
    options = parser.parse_args()
    asyncio.run(main(options.mqtt, options.kafka, options.amqp))
