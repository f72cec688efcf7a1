"""What the two WebSocket endpoints share: the handshake on an aiohttp request, and the channels that are open."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from aiohttp import web

from protocols.websocket.channel import UpgradedConnection, WebSocketChannel, WebSocketCounters
from protocols.websocket.frames import GOING_AWAY
from protocols.websocket.handshake import HandshakeRefused, check_handshake
from protocols.websocket.settings import WebSocketSettings

Kind = TypeVar("Kind", bound=WebSocketChannel)


class WebSocketEndpoint(Generic[Kind]):
    """Checks handshakes, runs channels, closes them when the node stops."""

    subprotocol = ""
    subprotocol_required = True

    def __init__(self, settings: WebSocketSettings, clock_s: Callable[[], float]) -> None:
        """clock_s: monotonic seconds."""
        self.counters = WebSocketCounters()
        self._settings = settings
        self._clock_s = clock_s
        self._channels: set[Kind] = set()

    def _handshake(self, request: web.Request) -> web.StreamResponse:
        try:
            headers = check_handshake(
                request.headers, self.subprotocol, self._settings.allowed_origins,
                version=(request.version.major, request.version.minor), required=self.subprotocol_required)
        except HandshakeRefused as refused:
            self.counters.refused[refused.status] += 1
            raise _HTTP_ERRORS[refused.status](text=refused.text, headers=refused.headers) from None
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        return response

    async def _run(
        self, request: web.Request, response: web.StreamResponse, channel: Kind, start: Callable[[], None],
    ) -> None:
        """Answer 101, hand the connection over, stay until it is over. start: called before the first read."""
        await response.prepare(request)
        connection = cast(UpgradedConnection, request.protocol)
        self._add(channel)
        try:
            start()
            connection.on_writing = channel.on_writing
            connection.set_parser(channel)
            await channel.ended
        finally:
            channel.feed_eof()
            self._remove(channel)

    async def shutdown(self) -> None:
        """Close what is still open."""
        for channel in list(self._channels):
            channel.close_with(GOING_AWAY, "the server is shutting down")
        waiting = [channel.ended for channel in self._channels]
        if waiting:
            await asyncio.wait(waiting, timeout=self._settings.close_timeout_s)
        for channel in list(self._channels):
            channel.abort()

    def _add(self, channel: Kind) -> None:
        self._channels.add(channel)
        self.counters.connections = len(self._channels)
        self.counters.connections_opened += 1

    def _remove(self, channel: Kind) -> None:
        self._channels.discard(channel)
        self.counters.connections = len(self._channels)


class _UpgradeRequired(web.HTTPClientError):
    status_code = 426


_HTTP_ERRORS: dict[int, type[web.HTTPError]] = {
    400: web.HTTPBadRequest, 403: web.HTTPForbidden, 426: _UpgradeRequired,
}


def address_of(request: web.Request) -> str:
    """The peer as "host:port"; "" when the connection is gone."""
    peer = request.protocol.peername
    if not isinstance(peer, tuple):
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
