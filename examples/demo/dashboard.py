"""A dashboard that speaks HTTP: REST and server-sent events."""
from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
from node import Node
from screen import WAIT_S, DemoError, show


async def post(http: aiohttp.ClientSession, node: Node, topic: str, text: str) -> None:
    """Returns when the node has acknowledged."""
    async with http.post(f"{node.url('http')}/v1/events/{topic}", data=text.encode()) as answer:
        place = await answer.json()
        if answer.status != 200:
            raise DemoError(f"POST was refused: {place}")
    show("REST", ">", f"{topic}  {text}   on disk: {place['stream']}/{place['partition']} at {place['offset']}")


async def events(http: aiohttp.ClientSession, node: Node, pattern: str, start: str) -> AsyncIterator[dict[str, str]]:
    """Events that match, as server-sent events. The first thing that comes is {}: the stream is open."""
    query = {"filter": pattern, "from": start}
    async with http.get(f"{node.url('http')}/v1/events", params=query) as answer:
        if answer.status != 200:
            raise DemoError(f"GET was refused: {await answer.text()}")
        yield {}
        async for line in answer.content:
            if line.startswith(b"data:"):
                yield json.loads(line[5:])


async def next_event(stream: AsyncIterator[dict[str, str]]) -> dict[str, str]:
    return await asyncio.wait_for(anext(stream), WAIT_S)
