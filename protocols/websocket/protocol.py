"""WebSockets in a node: MQTT in binary frames, and events as JSON. Their connections come from the HTTP listener."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from protocols.server import ClientRow, Parts, ProtocolServer, SocketFactory
from protocols.websocket.json_channel import JsonOverWebSocket
from protocols.websocket.mqtt import MqttOverWebSocket
from protocols.websocket.settings import WebSocketSettings
from protocols.wire import ConnectionFactory


class WebSocketProtocol(ProtocolServer):
    """See protocols/server.py. The HTTP listener takes `mqtt` and `json`, closes their connections and counts them."""

    def __init__(self, parts: Parts, settings: WebSocketSettings) -> None:
        router = parts.router
        self.mqtt = MqttOverWebSocket(
            cast(ConnectionFactory, parts.servers["mqtt"]), settings, router.clock_s, router.turns)
        self.json = JsonOverWebSocket(router, parts.replies, settings, router.clock_s, parts.node_name)

    async def factory(self) -> SocketFactory:
        raise NotImplementedError("WebSockets have no listener of their own")

    async def shutdown(self) -> None:
        """The HTTP listener does it, between its own steps."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return {"websocket": self.mqtt.counters.snapshot(), "ws": self.json.counters.snapshot()}

    def clients(self) -> Iterable[ClientRow]:
        return self.json.clients_snapshot()

    def kick(self, client_id: str) -> bool:
        return self.json.kick(client_id)
