"""WebSockets as the node knows them: carried by the HTTP listener, with settings and clients of their own."""
from __future__ import annotations

from protocols.server import Parts, ProtocolServer, ProtocolSpec
from protocols.websocket.settings import WebSocketSettings


def make(parts: Parts, settings: WebSocketSettings) -> ProtocolServer:
    from protocols.websocket.protocol import WebSocketProtocol

    return WebSocketProtocol(parts, settings)


WEBSOCKET = ProtocolSpec(
    "websocket", "WebSocket", settings=WebSocketSettings, make=make, schemes=("ws", "wss"), listens=False)
