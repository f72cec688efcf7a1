"""A client of /v1/ws that survives restarts, in a hundred lines. See docs/websocket.md.

    python examples/ws_client.py sub 'plant/#' --state seen.txt      # live; goes on where it was
    python examples/ws_client.py sub 'orders/#' --consumer billing   # durable; acks each event
    python examples/ws_client.py pub plant/graz/lamp on
"""
from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Message = dict[str, Any]


class Client:
    """Publishes and subscriptions over connections that come and go. run() must be running."""

    def __init__(self, url: str, auth: Message | None = None) -> None:
        self.url = url
        self.auth = auth                                    # such as {"token": "…"} or {"user": "…", "password": "…"}
        self._socket: ClientConnection | None = None
        self._subscriptions: dict[str, tuple[Message, Callable[[Message], None]]] = {}
        self._unanswered: dict[str, tuple[Message, asyncio.Future[Message]]] = {}

    async def publish(self, topic: str, payload: str, **fields: Any) -> Message:
        """Returns when the event is on disk. After a reconnect it is sent again; its key keeps it single."""
        name = uuid.uuid4().hex
        said = {"op": "publish", "id": name, "topic": topic, "payload": payload, "idempotency_key": name, **fields}
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._unanswered[name] = said, answer
        await self._say(said)
        return await answer

    async def subscribe(self, name: str, handler: Callable[[Message], None], **fields: Any) -> None:
        """handler(message) for every event. fields: filters, from, consumer … Durable ones are acked after it."""
        said = {"op": "subscribe", "id": name, "subscription": name, **fields}
        if "consumer" in fields:
            said["takeover"] = True                         # the node may not have noticed that we were away
        self._subscriptions[name] = said, handler
        await self._say(said)

    async def run(self) -> None:
        """Connect, and connect again. Ends with an error when the node does not want us."""
        async for socket in connect(self.url, max_size=None):       # waits longer after each failure
            try:
                if self.auth is not None:
                    await socket.send(json.dumps({"op": "auth", **self.auth}))
                for said, _ in list(self._subscriptions.values()):
                    await socket.send(json.dumps(said))
                for said, _ in list(self._unanswered.values()):
                    await socket.send(json.dumps(said))
                self._socket = socket
                async for text in socket:
                    await self._heard(json.loads(text))
            except ConnectionClosed:
                pass
            finally:
                self._socket = None

    async def _say(self, said: Message) -> None:
        if self._socket is not None:
            try:
                await self._socket.send(json.dumps(said))
            except ConnectionClosed:
                pass                                        # run() says it again

    async def _heard(self, message: Message) -> None:
        said, handler = self._subscriptions.get(message.get("subscription", ""), ({}, None))
        if "position" in message:
            said["from"] = message["position"]              # where to go on after a reconnect
        match message["op"]:
            case "event" if handler is not None:
                handler(message)
                if "delivery" in message:
                    await self._say({"op": "ack", "subscription": message["subscription"],
                                     "deliveries": [message["delivery"]]})
            case "published" | "refused" if message.get("id") in self._unanswered:
                _, answer = self._unanswered.pop(message["id"])
                if message["op"] == "published":
                    answer.set_result(message)
                else:
                    answer.set_exception(RuntimeError(f"{message['problem']}: {message['detail']}"))
            case "refused" | "closed":
                raise RuntimeError(f"{message['problem']}: {message['detail']}")
            case "goodbye" if message["problem"] == "/problems/bad-credentials":
                raise PermissionError(message["detail"])
            case "gap" | "missed":
                print(f"# {message}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sub", "pub"))
    parser.add_argument("topic")
    parser.add_argument("payload", nargs="?", default="")
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/ws")
    parser.add_argument("--token", help="a JSON Web Token")
    parser.add_argument("--consumer", help="read as this durable consumer")
    parser.add_argument("--state", type=Path, help="file that keeps the position of a live subscription")
    options = parser.parse_args()
    client = Client(options.url, {"token": options.token} if options.token else None)
    running = asyncio.create_task(client.run())
    if options.what == "pub":
        publishing = asyncio.create_task(client.publish(options.topic, options.payload))
        await asyncio.wait((publishing, running), return_when=asyncio.FIRST_COMPLETED)
        print(json.dumps(publishing.result() if publishing.done() else running.result()))
        running.cancel()
        return

    def show(message: Message) -> None:
        event = message["event"]
        print(event["topic"], event.get("payload", event.get("payload_base64")), flush=True)
        if options.state is not None and "position" in message:
            fresh = options.state.with_suffix(".new")
            fresh.write_text(message["position"])
            fresh.replace(options.state)                    # whole or not at all, whenever we are killed

    place = options.state.read_text() if options.state is not None and options.state.exists() else "latest"
    more = {"consumer": options.consumer} if options.consumer else {}
    await client.subscribe("main", show, filters=[options.topic], **{"from": place}, **more)
    await running


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
