"""MQTT over WebSocket: the bytes in binary frames are the byte stream of an MQTT connection (MQTT 5 §6).

    aiohttp connection ── feed_data ──► WebSocketChannel ── frames.py ──► ConnectionHandler (protocols/wire.py)
                       ◄── transport.write, once per loop turn ──┘  ◄── write / close / pause_reading ──┘

aiohttp does the HTTP part; after the handshake its connection object hands every read to the channel, with no task or
queue per message. The rest listener routes upgrade requests here (UpgradeEndpoint in protocols/rest/app.py).
"""
from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol, cast

from aiohttp import web

from protocols.websocket.frames import (
    BINARY,
    GOING_AWAY,
    NORMAL,
    PONG,
    FrameReader,
    WebSocketViolation,
    encode_close,
    encode_frame,
)
from protocols.websocket.handshake import HandshakeRefused, check_handshake
from protocols.websocket.settings import WebSocketSettings
from protocols.wire import ConnectionFactory, ConnectionHandler

log = logging.getLogger(__name__)

SUBPROTOCOL = "mqtt"                # [MQTT-6.0.0-3], [MQTT-6.0.0-4]
PONG_BACKLOG_BYTES_MAX = 64 * 1024   # answers to pings that wait in the socket; more is a flood and is not answered


class UpgradedConnection(Protocol):
    """What we need of aiohttp's connection after the handshake (GuardedHandler in protocols/rest/guard.py)."""

    on_writing: Callable[[bool], None] | None

    def set_parser(self, parser: WebSocketChannel) -> None: ...


class WebSocketCounters:
    """Plain ints, read through snapshot()."""

    __slots__ = ("bytes_in", "bytes_out", "closed_for", "connections", "connections_opened", "refused")

    def __init__(self) -> None:
        self.connections = 0
        self.connections_opened = 0
        self.bytes_in = 0                               # payload, without frame heads
        self.bytes_out = 0
        self.refused: Counter[int] = Counter()          # handshakes by HTTP status
        self.closed_for: Counter[int] = Counter()       # violations of RFC 6455 by close code

    def snapshot(self) -> dict[str, int]:
        numbers = {
            "connections": self.connections, "connections_opened": self.connections_opened,
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
        }
        numbers.update({f"refused.{status}": count for status, count in self.refused.items()})
        numbers.update({f"violations.{code}": count for code, count in self.closed_for.items()})
        return numbers


class WebSocketChannel:
    """A ByteChannel (wire.py) over one WebSocket, and the parser that aiohttp's connection feeds."""

    def __init__(self, transport: asyncio.Transport, address: str, settings: WebSocketSettings,
                 counters: WebSocketCounters, clock_s: Callable[[], float]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._address = address
        self._settings = settings
        self._counters = counters
        self._clock_s = clock_s
        self._reader = FrameReader(settings.message_bytes_max)
        self._handler: ConnectionHandler | None = None
        self._outgoing: list[bytes] = []                # frames of this loop turn
        self._outgoing_bytes = 0
        self._closing = False
        self._deaf = False                              # after a violation nothing is parsed any more
        self._close_timer: asyncio.TimerHandle | None = None

    def start(self, factory: ConnectionFactory) -> None:
        self._handler = factory.connection(self, self._clock_s())

    # -- ByteChannel ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._address

    @property
    def tls_identity(self) -> str | None:
        return _common_name(self._transport.get_extra_info("peercert"))

    def write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._counters.bytes_out += len(data)
        self._send(encode_frame(BINARY, data))

    def close(self) -> None:
        self.close_with(NORMAL)

    def abort(self) -> None:
        self._closing = True
        self._outgoing.clear()
        self._transport.abort()

    def buffered_bytes(self) -> int:
        return self._outgoing_bytes + self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- aiohttp's connection ---------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """One read. The answer (False, b"") tells aiohttp that we go on."""
        if self._deaf:
            return False, b""
        received = self._reader.receive(data)
        if received.payload and not self._closing and self._handler is not None:
            self._counters.bytes_in += len(received.payload)
            self._handler.receive_data(received.payload, self._clock_s())
        for ping in received.pings:
            if self.buffered_bytes() <= PONG_BACKLOG_BYTES_MAX:
                self._send(encode_frame(PONG, ping))
        if received.close_code is not None:
            self._peer_closes(received.close_code)
        elif received.violation is not None:
            self._fail(received.violation)
        return False, b""

    def feed_eof(self) -> None:
        """The socket is gone."""
        self._end()

    def on_writing(self, blocked: bool) -> None:
        if self._handler is not None and not self._closing:
            if blocked:
                self._handler.pause_writing()
            else:
                self._handler.resume_writing()

    # -- closing ----------------------------------------------------------------------------------------------

    def close_with(self, code: int, reason: str = "") -> None:
        """Send what waits, then Close; the peer has close_timeout_s to answer. Idempotent."""
        if self._closing:
            return
        self._send(encode_close(code, reason))
        self._closing = True
        self.resume_reading()                           # the peer's Close must get through
        loop = asyncio.get_running_loop()
        self._close_timer = loop.call_later(self._settings.close_timeout_s, self._transport.abort)
        loop.call_soon(self._tell_handler)

    def _peer_closes(self, code: int) -> None:
        if not self._closing:
            self._send(encode_close(code if code != 1005 else NORMAL))
            self._closing = True
        self._flush()
        self._transport.close()

    def _fail(self, violation: WebSocketViolation) -> None:
        """RFC 6455 §7.1.7: tell why, then close. What still comes is read and dropped for a moment: closing with
        unread input would destroy our Close on its way."""
        self._counters.closed_for[violation.wire_code] += 1
        self._deaf = True
        self.close_with(violation.wire_code, violation.text)
        self._flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _tell_handler(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.eof()

    def _end(self) -> None:
        self._closing = True
        self._outgoing.clear()
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._tell_handler()
        if not self.ended.done():
            self.ended.set_result(None)

    # -- bytes out --------------------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frame)
        self._outgoing_bytes += len(frame)

    def _flush(self) -> None:
        """One write for everything of this turn."""
        if not self._outgoing:
            return
        frames, self._outgoing = self._outgoing, []
        self._outgoing_bytes = 0
        if not self._transport.is_closing():
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))


class MqttOverWebSocket:
    """The upgrade endpoint: checks the handshake and lives as long as the connection."""

    def __init__(self, factory: ConnectionFactory, settings: WebSocketSettings, clock_s: Callable[[], float]) -> None:
        """factory: the node's MqttServer. clock_s: monotonic seconds."""
        self.counters = WebSocketCounters()
        self._factory = factory
        self._settings = settings
        self._clock_s = clock_s
        self._channels: set[WebSocketChannel] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = self._handshake(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        channel = WebSocketChannel(transport, _address(request), self._settings, self.counters, self._clock_s)
        await response.prepare(request)
        connection = cast(UpgradedConnection, request.protocol)
        self._add(channel)
        try:
            channel.start(self._factory)
            connection.on_writing = channel.on_writing
            connection.set_parser(channel)
            await channel.ended
        finally:
            channel.feed_eof()
            self._remove(channel)
        return response

    def _handshake(self, request: web.Request) -> web.StreamResponse:
        try:
            headers = check_handshake(request.headers, SUBPROTOCOL, self._settings.allowed_origins)
        except HandshakeRefused as refused:
            self.counters.refused[refused.status] += 1
            raise _HTTP_ERRORS[refused.status](text=refused.text, headers=refused.headers) from None
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        return response

    async def shutdown(self) -> None:
        """Close what is still open. The MQTT server has said its own goodbye before."""
        for channel in list(self._channels):
            channel.close_with(GOING_AWAY, "the server is shutting down")
        waiting = [channel.ended for channel in self._channels]
        if waiting:
            await asyncio.wait(waiting, timeout=self._settings.close_timeout_s)
        for channel in list(self._channels):
            channel.abort()

    def _add(self, channel: WebSocketChannel) -> None:
        self._channels.add(channel)
        self.counters.connections = len(self._channels)
        self.counters.connections_opened += 1

    def _remove(self, channel: WebSocketChannel) -> None:
        self._channels.discard(channel)
        self.counters.connections = len(self._channels)


class _UpgradeRequired(web.HTTPClientError):
    status_code = 426


_HTTP_ERRORS: dict[int, type[web.HTTPError]] = {
    400: web.HTTPBadRequest, 403: web.HTTPForbidden, 426: _UpgradeRequired,
}


def _common_name(certificate: object) -> str | None:
    """The CN of a certificate as ssl.getpeercert() gives it; None without one."""
    if not isinstance(certificate, dict):
        return None
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return str(names[0]) if names else None


def _address(request: web.Request) -> str:
    peer = request.protocol.peername
    if not isinstance(peer, tuple):
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
