"""A RestServer with a real router on a real store, listening on 127.0.0.1, and raw sockets to talk to it."""
from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager

import aiohttp

from mesh.identity.identity import Authenticator
from mesh.identity.users import User, hash_password
from protocols.rest.app import RestServer
from protocols.rest.settings import RestSettings
from routing.event import Event
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, INTERNAL, Identity, Policy
from routing.router import Router
from routing.settings import Limits, StreamSettings
from tests.support.wait import DEADLINE_S


class Stand:
    """router, server and a client session. Make one with `async with stand(tmp_path) as it`."""

    def __init__(self, path, *, streams=None, rules=(ALLOW_ALL,), users=(), settings=None, limits=None,
                 websocket=None, json_websocket=None, store_options=None):
        loop = asyncio.get_running_loop()
        self.limits = limits or Limits()
        self.clock_ms = lambda: int(time.time() * 1000)
        self.store = LocalStore(path, call_on_loop=loop.call_soon_threadsafe, clock_ms=self.clock_ms,
                                **(store_options or {}))
        self.router = Router(self.store, streams or [StreamSettings("events", ("#",))], Policy(rules),
                             limits=self.limits, call_soon=loop.call_soon, clock_s=time.monotonic,
                             clock_ms=self.clock_ms)
        self.authenticator = Authenticator(
            [User(name, roles, hash_password(password)) for name, password, roles in users], self.router.policy,
            call_on_loop=loop.call_soon_threadsafe, clock_ms=self.clock_ms, now_s=time.monotonic)
        self.websocket = websocket(self) if websocket is not None else None
        self.rest = RestServer(self.router, self.authenticator, settings or RestSettings(), self.websocket,
                               json_websocket(self) if json_websocket is not None else None)
        self.counters = self.rest.counters
        self.publisher = self.router.publisher(Identity(user="tester", protocol="test"))
        self.errors = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    async def open(self):
        server = await self.rest.listen("127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=2 * DEADLINE_S))
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self):
        while True:
            await asyncio.sleep(0.05)
            self.router.tick(time.monotonic())

    async def close(self):
        await self.http.close()
        await self.rest.shutdown()
        self._ticker.cancel()
        self.router.close()
        self.authenticator.close()
        assert not self.errors, self.errors

    async def publish(self, *events):
        """Publish to the router and wait until durable. Text counts as topic, with the topic as payload."""
        made = [event if isinstance(event, Event) else Event(event, event.encode(), 1) for event in events]
        ticket = self.router.publish(made, self.publisher)
        done = asyncio.get_running_loop().create_future()
        ticket.on_done(done.set_result)
        await asyncio.wait_for(done, DEADLINE_S)
        assert not ticket.refusals, ticket.refusals
        return made

    async def publish_as_node(self, *topics):
        """Publish past all rules and wait until durable."""
        ticket = self.router.publish([Event(topic, b"x", 1) for topic in topics], self.router.publisher(INTERNAL))
        done = asyncio.get_running_loop().create_future()
        ticket.on_done(done.set_result)
        await asyncio.wait_for(done, DEADLINE_S)

    async def raw(self, data, *, wait_s=DEADLINE_S):
        """Send raw bytes on a new connection, read until the server closes. Returns what came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        sending = asyncio.create_task(_send(writer, data))
        try:
            return await asyncio.wait_for(read_to_end(reader), wait_s)
        finally:
            sending.cancel()
            writer.close()

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def alive(self):
        """Another client is served."""
        async with self.http.post("/v1/events/alive", data=b"yes") as response:
            return response.status == 200


async def _send(writer, data):
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass


async def read_to_end(reader):
    parts = []
    try:
        while part := await reader.read(65_536):
            parts.append(part)
    except ConnectionError:
        parts.append(b"<reset>")
    return b"".join(parts)


@asynccontextmanager
async def stand(path, **options):
    it = Stand(path, **options)
    await it.open()
    try:
        yield it
    finally:
        await it.close()


def status_of(answer):
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def problem_of(answer):
    """The problem in a raw answer that the server closed the connection after."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    assert b"<reset>" not in body, "the connection was reset: the answer could have been lost"
    return json.loads(body)


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def eventually(condition, what, deadline_s=DEADLINE_S):
    """Wait for the loop to make a condition true."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)
    return value
