"""First act: one node, two protocols, a kill -9, and nothing is lost."""
from __future__ import annotations

import asyncio
import signal

import aiohttp
from amqtt.client import MQTTClient
from amqtt.errors import AMQTTError
from amqtt.mqtt.constants import QOS_1
from dashboard import events, next_event, post
from machine import COMMANDS, MACHINE, MEASURED, Machine
from node import Node
from screen import DemoError, heading, show


async def cross_protocols(http: aiohttp.ClientSession, node: Node, machine: Machine) -> None:
    heading("1. Events cross protocols")
    await machine.connect()
    await machine.listen()
    stream = events(http, node, "plant/#", "latest")
    await next_event(stream)
    show("SSE", "=", "the dashboard watches plant/#")
    await post(http, node, f"{COMMANDS}/speed", "42")
    await machine.receive()
    await next_event(stream)
    await machine.publish(f"{MEASURED}/temperature", "71.5")
    show("MQTT", ">", f"{MEASURED}/temperature  71.5   acknowledged: it is on disk")
    event = await next_event(stream)
    show("SSE", "<", f"{event['topic']}  {event['payload']}")
    await stream.aclose()  # type: ignore[attr-defined]


async def miss_something(http: aiohttp.ClientSession, node: Node, machine: Machine) -> list[str]:
    heading("2. The machine goes away; the dashboard goes on")
    await machine.leave()
    show("MQTT", "=", f"{MACHINE} has left")
    missed = ["lubricate", "recalibrate", "resume"]
    for command in missed:
        await post(http, node, f"{COMMANDS}/maintenance", command)
    return missed


async def kill_under_load(node: Node) -> list[str]:
    """Publish as fast as acknowledgements come, and kill the node in the middle. Returns what was acknowledged."""
    heading("3. kill -9, in the middle of traffic")
    client = MQTTClient(client_id="load", config={"auto_reconnect": False})
    await client.connect(node.url("mqtt"), cleansession=True)
    acked: list[str] = []

    async def load() -> None:
        while True:
            text = f"part {len(acked) + 1}"
            await client.publish(f"{MEASURED}/parts", text.encode(), qos=QOS_1)
            acked.append(text)

    task = asyncio.create_task(load())
    await asyncio.sleep(1.0)
    await node.kill(signal.SIGKILL)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    try:
        await client.disconnect()
    except (AMQTTError, OSError):
        pass
    show("NODE", "!", f"killed after {len(acked)} acknowledged events of one publisher that waited for each")
    return acked


async def look_for_it(
    http: aiohttp.ClientSession, node: Node, machine: Machine, acked: list[str], missed: list[str],
) -> None:
    heading("4. It starts again, and nothing that was acknowledged is gone")
    await node.start()
    stream = events(http, node, f"{MEASURED}/parts", "earliest")
    await next_event(stream)
    found = [(await next_event(stream))["payload"] for _ in acked]
    await stream.aclose()  # type: ignore[attr-defined]
    if found != acked:
        raise DemoError(f"{len(set(acked) - set(found))} of {len(acked)} acknowledged events are lost")
    show("SSE", "<", f"all {len(found)} acknowledged events are in the log, in order")
    await machine.connect()
    show("MQTT", "=", f"{MACHINE} is back, and gets what it missed:")
    got = [(await machine.receive())[1] for _ in missed]
    if [text for text in got if text in missed] != missed:
        raise DemoError(f"the machine missed {missed} and got {got}")
