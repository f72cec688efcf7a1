"""What goes on while somebody looks: both plants produce, a ledger in the cloud books it, now too slowly, now quickly.

So there is something to see in the console: rates, a lag that grows and is forecast, what a link that is cut holds up.
"""
from __future__ import annotations

import asyncio
import json
import math
import time

import aiohttp
from node import Node

EVERY_S = 0.5
READINGS = 10                       # of a plant, each time
LEDGER = "ledger"
SLOW, QUICK = 12, 100               # events that the ledger books each time
SLOW_S, ROUND_S = 60.0, 80.0        # it is slow for so long of each round


async def traffic(nodes: list[Node]) -> None:
    """Until it is cancelled. nodes: plants, the cloud last; one that is away is left alone until it is back."""
    *plants, cloud = nodes
    timeout = aiohttp.ClientTimeout(total=5.0)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        await asyncio.gather(*(produce(http, plant) for plant in plants), book(http, cloud))


async def produce(http: aiohttp.ClientSession, plant: Node) -> None:
    name = plant.name.removeprefix("plant-")
    while True:
        lines = [json.dumps({"topic": f"plant/{name}/press-{number}/temperature", "payload": json.dumps(
            {"celsius": round(70 + 5 * math.sin(time.time() / 30 + number), 1)})}) for number in range(READINGS)]
        await send(http, plant.url("http") + "/v1/events", "\n".join(lines), "application/x-ndjson")
        await asyncio.sleep(EVERY_S)


async def book(http: aiohttp.ClientSession, cloud: Node) -> None:
    """A consumer that pulls and acks."""
    url = f"{cloud.url('http')}/v1/consumers/{LEDGER}"
    made = False
    while True:
        slow = time.time() % ROUND_S < SLOW_S
        if not made:
            made = await send(http, url, json.dumps({"filters": ["plant/+/+/temperature"]}), method="PUT") is not None
        pulled = await send(http, url + "/pull", json.dumps({"max": SLOW if slow else QUICK}))
        tokens = [event["token"] for event in pulled["events"]] if pulled else []
        if tokens:
            await send(http, url + "/ack", json.dumps({"tokens": tokens}))
        await asyncio.sleep(EVERY_S)


async def send(http: aiohttp.ClientSession, url: str, body: str, kind: str = "application/json",
               method: str = "POST") -> dict[str, list[dict[str, str]]] | None:
    """The answer; None when there is none."""
    try:
        async with http.request(method, url, data=body.encode(), headers={"Content-Type": kind}) as answer:
            if answer.status >= 300 or answer.content_type != "application/json":
                return None if answer.status >= 300 else {}
            return await answer.json()          # type: ignore[no-any-return]
    except (aiohttp.ClientError, TimeoutError):
        return None
