"""Second act: three sites become one topic space, and one of them is cut off.

    plant-graz ──dials──►  cloud-eu  ◄──dials── plant-lyon

The plants have no port that others could dial. What happens in Graz is wanted in the cloud at all times, by
[[replicate]], and in Lyon by whoever subscribes there.
"""
from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from amqtt.client import MQTTClient
from amqtt.mqtt.constants import QOS_1
from dashboard import events, next_event, post
from node import PORTS, Node
from screen import WAIT_S, DemoError, heading, show
from webhook import CONFIG

OUTAGE_EVENTS = 2_000
ALARMS = "plant/graz/alarm"


def three_nodes(folder: Path) -> tuple[Node, Node, Node]:
    """graz has the default ports; the others stand beside it."""
    cloud = Node(folder, "cloud-eu", ports={name: port + 1 for name, port in PORTS.items()}, more=(
        '[[replicate]]                   # the cloud keeps what the plants produce, whether or not somebody reads it\n'
        'filter = "plant/#"\nfrom = "earliest"\n'))
    dial = f'[[links]]\nto = "{cloud.url("link")}"\nname = "to-cloud"\n'
    local = {name: port for name, port in PORTS.items() if name != "link"}
    graz = Node(folder, "plant-graz", ports=local, more=dial + CONFIG)
    lyon = Node(folder, "plant-lyon", ports={name: port + 2 for name, port in local.items()}, more=dial)
    return graz, lyon, cloud


async def meet(graz: Node, lyon: Node, cloud: Node, http: aiohttp.ClientSession) -> None:
    heading("7. Three sites, one topic space: both plants dial out to cloud-eu")
    await asyncio.gather(lyon.start(), cloud.start())
    await until(lambda: knows(http, graz, {"cloud-eu", "plant-lyon"}), "plant-graz knows both other nodes")
    show("LINK", "=", "plant-graz ── cloud-eu ── plant-lyon: every node knows the others")


async def cross_sites(graz: Node, lyon: Node, cloud: Node, http: aiohttp.ClientSession) -> MQTTClient:
    """Returns a subscriber in Lyon."""
    reader = MQTTClient(client_id="control-room", config={"auto_reconnect": False})
    await reader.connect(lyon.url("mqtt"), cleansession=False)
    await reader.subscribe([(f"{ALARMS}/#", QOS_1)])
    show("MQTT", "=", f"a control room in Lyon subscribes to {ALARMS}/# on its own node")
    await until(lambda: hears(http, graz, "plant-lyon"), "Graz hears what Lyon wants")
    stream = events(http, cloud, f"{ALARMS}/#", "latest")
    await next_event(stream)
    show("SSE", "=", "a dashboard in the cloud watches the same on cloud-eu")
    await post(http, graz, f"{ALARMS}/press-7", "oil pressure")
    event = await next_event(stream)
    show("SSE", "<", f"{event['topic']}  {event['payload']}   in the cloud")
    message = await reader.deliver_message(timeout_duration=WAIT_S)
    assert message is not None and message.data is not None
    show("MQTT", "<", f"{message.topic}  {bytes(message.data).decode()}   in Lyon, two hops away")
    await stream.aclose()  # type: ignore[attr-defined]
    return reader


async def outage(graz: Node, cloud: Node, http: aiohttp.ClientSession, reader: MQTTClient) -> None:
    heading("8. The cloud is gone; the plants go on")
    await cloud.kill(signal.SIGKILL)
    show("LINK", "!", "cloud-eu was killed: Graz and Lyon are cut off from each other, too")
    await publish_many(http, graz)
    show("REST", ">", f"{OUTAGE_EVENTS} alarms in Graz, all acknowledged; they wait in its log")
    heading("9. The cloud comes back, and everybody catches up, once and in order")
    await cloud.start()
    await watch_lag(http, graz, cloud)
    stream = events(http, cloud, f"{ALARMS}/counted", "earliest")
    await next_event(stream)
    found = [int((await next_event(stream))["payload"]) for _ in range(OUTAGE_EVENTS)]
    await stream.aclose()  # type: ignore[attr-defined]
    got = []
    for _ in range(OUTAGE_EVENTS):
        message = await reader.deliver_message(timeout_duration=WAIT_S)
        assert message is not None and message.data is not None
        got.append(int(bytes(message.data)))
    wanted = list(range(OUTAGE_EVENTS))
    if found != wanted or got != wanted:
        raise DemoError(f"of {OUTAGE_EVENTS} events the cloud has {len(set(found))}, Lyon got {len(set(got))}")
    show("SSE", "<", f"all {OUTAGE_EVENTS} are in the log of cloud-eu, once, in order")
    show("MQTT", "<", f"all {OUTAGE_EVENTS} reached the control room in Lyon, once, in order")


async def publish_many(http: aiohttp.ClientSession, node: Node) -> None:
    """One request for many events: a line of JSON each."""
    lines = "".join(
        json.dumps({"topic": f"{ALARMS}/counted", "payload": str(number)}) + "\n" for number in range(OUTAGE_EVENTS))
    async with http.post(node.url("http") + "/v1/events", data=lines.encode(),
                         headers={"Content-Type": "application/x-ndjson"}) as answer:
        results = [json.loads(line) for line in (await answer.text()).splitlines()]
    if answer.status != 200 or len(results) != OUTAGE_EVENTS or any("offset" not in result for result in results):
        raise DemoError(f"the events were refused: {answer.status} {results[:1]}")


async def watch_lag(http: aiohttp.ClientSession, graz: Node, cloud: Node) -> None:
    """Print how far behind the cloud is until it is not."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() - start < 3 * WAIT_S:
        lag = await lag_events(http, graz, cloud.name)
        if lag is not None:
            show("LINK", "=", f"{loop.time() - start:.1f} s after its return cloud-eu is {lag} events behind Graz")
            if lag == 0:
                return
        await asyncio.sleep(0.2)
    raise DemoError("the cloud did not catch up")


# --- what nodes say about the mesh ----------------------------------------------------------------------------------

async def ask(http: aiohttp.ClientSession, node: Node, path: str) -> Any:
    async with http.get(node.url("console") + path) as answer:
        return await answer.json()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(int(WAIT_S / 0.05)):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise DemoError(f"waited in vain: {what}")


async def knows(http: aiohttp.ClientSession, node: Node, names: set[str]) -> bool:
    found = await ask(http, node, "/api/v1/nodes")
    return names <= {row["name"] for row in found["nodes"]}


async def hears(http: aiohttp.ClientSession, node: Node, reader: str) -> bool:
    """Does a node serve what another one wants?"""
    found = await ask(http, node, "/api/v1/interest")
    return any(row["node"] == reader and row["filters"] for row in found["interest"])


async def lag_events(http: aiohttp.ClientSession, node: Node, reader: str) -> int | None:
    """How many events of a node another one has not confirmed; None: it is not pulling yet."""
    found = await ask(http, node, "/api/v1/mesh/lag")
    rows = [row for row in found["destinations"] if row["node"] == reader]
    return sum(row["lag_events"] for row in rows) if rows and all(row["pulling"] for row in rows) else None
