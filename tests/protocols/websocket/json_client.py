"""A client of /v1/ws for tests: JSON over the raw WebSocket of ws_client.py, and a stand that has the endpoint."""
from __future__ import annotations

import asyncio
import json
import time

from protocols.websocket.json.channel import JsonOverWebSocket
from protocols.websocket.settings import WebSocketSettings
from routing.direct.replies import Replies
from tests.protocols.rest.stand import DEADLINE_S, stand

from .ws_client import Ws, masked


def ws_stand(path, ws_settings=None, **options):
    """`async with ws_stand(tmp_path) as it`; it.ws is the endpoint."""
    def make(it):
        it.replies = Replies(it.router, "graz-1")
        it.ws = JsonOverWebSocket(it.router, it.replies, ws_settings or WebSocketSettings(), time.monotonic, "graz-1")
        return it.ws
    return stand(path, json_websocket=make, **options)


class Client:
    """await Client.open(it). say() and hear() speak JSON; binary messages come as (head, payload)."""

    def __init__(self, ws):
        self.ws = ws

    @classmethod
    async def open(cls, it, *, welcome=True, first=b"", **fields):
        fields.setdefault("Sec_WebSocket_Protocol", None)
        client = cls(await Ws.open(it, "/v1/ws", first=first, limit=1 << 24, **fields))
        client.status = client.ws.status
        if welcome and client.status == 101:
            client.welcome = await client.hear("welcome")
        return client

    def say(self, op, **fields):
        self.raw(json.dumps({"op": op, **{name.rstrip("_"): value for name, value in fields.items()}}))

    def raw(self, text):
        self.ws.writer.write(masked(1, text.encode()))

    def say_binary(self, payload, **head):
        data = json.dumps(head).encode()
        self.ws.writer.write(masked(2, len(data).to_bytes(4, "big") + data + payload))

    async def next(self):
        """The next message; pings are passed over."""
        while True:
            opcode, data = await asyncio.wait_for(self.ws.frame(), DEADLINE_S)
            if opcode == 1:
                return json.loads(data)
            if opcode == 2:
                size = int.from_bytes(data[:4], "big")
                return json.loads(data[4:4 + size]), data[4 + size:]
            if opcode == 8:
                raise ConnectionError(f"closed with {int.from_bytes(data[:2], 'big')}: {data[2:].decode()}")

    async def hear(self, op, *, id=None):
        """The next message, which must be of this kind."""
        message = await self.next()
        assert message["op"] == op, message
        if id is not None:
            assert message["id"] == id, message
        return message

    async def events(self, count):
        return [await self.hear("event") for _ in range(count)]

    async def publish(self, topic, payload="x", id=1, **fields):
        self.say("publish", id=id, topic=topic, payload=payload, **fields)
        return await self.hear("published", id=id)

    async def subscribe(self, name, *filters, id="s", **fields):
        self.say("subscribe", id=id, subscription=name, filters=list(filters), **fields)
        return await self.hear("subscribed", id=id)

    async def refused(self, id=None):
        message = await self.hear("refused")
        assert message.get("id") == id, message
        return message["problem"].removeprefix("/problems/")

    def close(self):
        self.ws.close()
