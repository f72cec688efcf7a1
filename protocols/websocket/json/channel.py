"""/v1/ws: the channel between an aiohttp connection and a JsonSession, and the endpoint that makes them.

    WebSocketChannel ── ../messages.py ──► JsonChannel ──► JsonSession (session.py)
                                           ◄── send / pause_reading / close_with ──┘

The rest listener routes upgrade requests here and lends its way to find out who somebody is.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from aiohttp import web

from protocols.websocket.channel import WebSocketChannel
from protocols.websocket.endpoint import WebSocketEndpoint, address_of
from protocols.websocket.frames import BINARY, GOING_AWAY, PING, TEXT, Received, encode_frame
from protocols.websocket.json.clients import client_name, client_row
from protocols.websocket.json.counters import JsonCounters
from protocols.websocket.json.opening import Caches
from protocols.websocket.json.session import Credentials, JsonSession
from protocols.websocket.messages import MessageReader, Messages
from protocols.websocket.page import example_page
from protocols.websocket.settings import WebSocketSettings
from routing.direct.replies import Replies
from routing.errors import Refusal
from routing.rights.policy import Identity
from routing.router import Router

SUBPROTOCOL = "meshgate.v1"         # may be offered; who offers none is let in, too
SWEEP_S = 0.25                      # request timeouts are this exact


class JsonChannel(WebSocketChannel):
    """One connection."""

    _session: JsonSession | None = None
    _reader: MessageReader
    _since_ms = 0

    def start(self, session: JsonSession, login_bytes_max: int, now_ms: int) -> None:
        self._session = session
        self._since_ms = now_ms
        self._reader = MessageReader(login_bytes_max)

    @property
    def session(self) -> JsonSession:
        assert self._session is not None
        return self._session

    def snapshot(self) -> dict[str, str | int | bool | None] | None:
        """For operators; None when it is over."""
        if self._session is None:
            return None
        return client_row(self._session, self.address, self._since_ms, self.buffered_bytes())

    def allow(self, message_bytes_max: int) -> None:
        self._reader.allow(message_bytes_max)

    def send(self, message: bytes, *, is_binary: bool = False) -> None:
        if not self._closing:
            self._counters.bytes_out += len(message)
            self._send(encode_frame(BINARY if is_binary else TEXT, message))

    def send_many(self, messages: list[bytes], *, is_binary: bool) -> None:
        if not self._closing:
            opcode = BINARY if is_binary else TEXT
            self._counters.bytes_out += sum(map(len, messages))
            self._send_all([encode_frame(opcode, message) for message in messages])

    def ping(self) -> None:
        if not self._closing and not self.session.full:
            self._send(encode_frame(PING, b""))

    def _tell_writing(self, blocked: bool) -> None:
        if self._session is not None and not self._closing:
            self._session.writing(blocked)

    def _flushed(self) -> None:
        if self._session is not None and not self._closing:
            self._session.flushed()

    def describe(self) -> str:
        user = self._session.identity.user if self._session is not None else ""
        return f"WebSocket client {user!r} at {self.address}"

    def _pieces(self, data: bytes) -> Iterator[Received]:
        self._counters.bytes_in += len(data)
        return self._reader.receive(data)

    def _act(self, received: Received) -> None:
        assert isinstance(received, Messages)
        if self._session is not None and not self._closing:
            self._session.receive(received.messages, self._clock_s())

    def _tell_handler(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()


class LogsIn(Protocol):
    """What the rest listener lends: who is it that shows these credentials?"""

    def __call__(self, authorization: str | None, api_key: str | None, request: web.Request,
                 protocol: str) -> Awaitable[Identity | Refusal]: ...


class JsonOverWebSocket(WebSocketEndpoint[JsonChannel]):
    """The upgrade endpoint of /v1/ws."""

    subprotocol = SUBPROTOCOL
    subprotocol_required = False
    counters: JsonCounters

    def __init__(self, router: Router, replies: Replies, settings: WebSocketSettings, clock_s: Callable[[], float],
                 node: str) -> None:
        super().__init__(settings, clock_s)
        self.counters = JsonCounters()
        self._router = router
        self._replies = replies
        self._node = node
        self._caches = Caches(router)
        self._sweep: asyncio.TimerHandle | None = None
        self._next_ping_s = 0.0
        self._logins: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def handle(self, request: web.Request, *, has_credentials: bool, wait: bool,
                     log_in: LogsIn) -> web.StreamResponse:
        """has_credentials: the handshake has some. wait: who shows none there may do so in the first message."""
        response = self._handshake(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        if self._stopping or len(self._channels) >= self._settings.clients_max:
            self.counters.refused[503] += 1
            raise web.HTTPServiceUnavailable(text="no more WebSockets are taken now")
        transport.set_write_buffer_limits(high=self._settings.send_buffer_bytes)
        channel = JsonChannel(
            transport, address_of(request), self._settings, self.counters, self._clock_s, self._router.turns)

        def start() -> None:
            session = JsonSession(
                channel, self._router, self._replies, self._settings, self.counters, self._node,
                lambda shown, done: self._log_in(log_in, shown, request, done), self._caches, self._clock_s())
            channel.start(session, self._settings.login_bytes_max, self._router.clock_ms())
            if has_credentials or not wait:
                session.log_in(Credentials())

        await self._run(request, response, channel, start)
        return response

    def clients_snapshot(self) -> list[dict[str, str | int | bool | None]]:
        """One row per connection, for the console and `meshgate clients`."""
        return [row for channel in self._channels if (row := channel.snapshot()) is not None]

    def kick(self, name: str) -> bool:
        """Send a client away by the name that the snapshot gives it; False when there is none."""
        for channel in self._channels:
            if client_name(channel.address) == name and channel._session is not None:
                channel._session.goodbye("kicked", "disconnected by an operator")
                return True
        return False

    async def page(self, request: web.Request) -> web.StreamResponse:
        return example_page()

    def _log_in(self, log_in: LogsIn, shown: Credentials, request: web.Request,
                done: Callable[[Identity | Refusal], None]) -> None:
        async def ask() -> None:
            done(await log_in(shown.authorization, shown.api_key, request, "websocket"))

        task = asyncio.get_running_loop().create_task(ask())
        self._logins.add(task)
        task.add_done_callback(self._logins.discard)

    def _add(self, channel: JsonChannel) -> None:
        super()._add(channel)
        self._caches.connections(len(self._channels))
        if self._sweep is None:
            self._next_ping_s = self._clock_s() + self._settings.ping_interval_s
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _remove(self, channel: JsonChannel) -> None:
        super()._remove(channel)
        self._caches.connections(len(self._channels))

    def _tick(self) -> None:
        self._sweep = None
        if not self._channels:
            return
        now_s = self._clock_s()
        ping = now_s >= self._next_ping_s
        if ping:
            self._next_ping_s = now_s + self._settings.ping_interval_s
        for channel in list(self._channels):
            session = channel._session
            if session is not None and session.tick(now_s, ping=ping) and ping:
                channel.ping()
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    async def shutdown(self) -> None:
        self._stopping = True
        for channel in list(self._channels):
            session = channel._session
            if session is not None:
                session.goodbye("shutting-down", "the server is shutting down", GOING_AWAY)
        await super().shutdown()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
