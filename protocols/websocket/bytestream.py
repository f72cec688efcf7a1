"""A protocol on a byte stream over WebSocket: the bytes in binary frames are those of its connection.

    WebSocketChannel ── frames.py ──► ByteStreamChannel ──► ConnectionHandler (protocols/transport/wire.py)
                                            ◄── write / close / pause_reading ──┘

The rest listener routes upgrade requests here (UpgradeEndpoint in protocols/rest/app.py); mqtt.py and amqp.py name the
subprotocols.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from aiohttp import web

from protocols.transport.wire import ConnectionFactory, ConnectionHandler
from protocols.websocket.channel import WebSocketChannel, WebSocketCounters
from protocols.websocket.endpoint import WebSocketEndpoint, address_of
from protocols.websocket.frames import BINARY, FrameReader, Received, encode_frame
from protocols.websocket.settings import WebSocketSettings
from routing.fairness.turns import Turns


class ByteStreamChannel(WebSocketChannel):
    """A ByteChannel (wire.py) over one WebSocket."""

    def __init__(self, transport: asyncio.Transport, address: str, settings: WebSocketSettings,
                 counters: WebSocketCounters, clock_s: Callable[[], float], turns: Turns) -> None:
        super().__init__(transport, address, settings, counters, clock_s, turns)
        self._reader = FrameReader(settings.message_bytes_max)
        self._handler: ConnectionHandler | None = None

    def start(self, factory: ConnectionFactory) -> None:
        self._handler = factory.connection(self, self._clock_s())

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._counters.bytes_out += len(data)
        self._send(encode_frame(BINARY, data))

    def _tell_writing(self, blocked: bool) -> None:
        if self._handler is not None and not self._closing:
            if blocked:
                self._handler.pause_writing()
            else:
                self._handler.resume_writing()

    def describe(self) -> str:
        handler = self._handler
        return f"{handler.describe() if handler is not None else self.address} over WebSocket"

    def _pieces(self, data: bytes) -> Iterator[Received]:
        return self._reader.receive(data)

    def _act(self, received: Received) -> None:
        if received.parts and not self._closing and self._handler is not None:
            payload = received.payload
            self._counters.bytes_in += len(payload)
            self._handler.receive_data(payload, self._clock_s())

    def _tell_handler(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.eof()


class ByteStreamEndpoint(WebSocketEndpoint[ByteStreamChannel]):
    """The upgrade endpoint: lives as long as the connection. The server has said its own goodbye at a shutdown."""

    def __init__(self, factory: ConnectionFactory, settings: WebSocketSettings, clock_s: Callable[[], float],
                 turns: Turns) -> None:
        """factory: the server of the protocol. clock_s: monotonic seconds. turns: those of the loop."""
        super().__init__(settings, clock_s)
        self._factory = factory
        self._turns = turns

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = self._handshake(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        channel = ByteStreamChannel(
            transport, address_of(request), self._settings, self.counters, self._clock_s, self._turns)
        await self._run(request, response, channel, lambda: channel.start(self._factory))
        return response
