"""A machine that speaks MQTT, with amqtt's client."""
from __future__ import annotations

import asyncio

from amqtt.client import MQTTClient
from amqtt.mqtt.constants import QOS_1
from node import Node
from screen import WAIT_S, show

MACHINE = "press-7"
COMMANDS, MEASURED = f"plant/graz/{MACHINE}/command", f"plant/graz/{MACHINE}/measured"


class Machine:
    """A durable MQTT session: the node keeps what it misses."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.client = self._client()

    @staticmethod
    def _client() -> MQTTClient:
        return MQTTClient(client_id=MACHINE, config={"auto_reconnect": False, "keep_alive": 30})

    async def connect(self) -> None:
        self.client = self._client()
        await self.client.connect(self.node.url("mqtt"), cleansession=False)

    async def listen(self) -> None:
        await self.client.subscribe([(f"{COMMANDS}/#", QOS_1)])
        show("MQTT", "=", f"{MACHINE} subscribes to {COMMANDS}/# with a durable session, QoS 1")

    async def publish(self, topic: str, text: str) -> None:
        """Returns when the node has acknowledged."""
        await asyncio.wait_for(self.client.publish(topic, text.encode(), qos=QOS_1), WAIT_S)

    async def receive(self) -> tuple[str, str]:
        message = await self.client.deliver_message(timeout_duration=WAIT_S)
        assert message is not None and message.data is not None
        topic, text = str(message.topic), bytes(message.data).decode()
        show("MQTT", "<", f"{topic}  {text}")
        return topic, text

    async def leave(self) -> None:
        await self.client.disconnect()
