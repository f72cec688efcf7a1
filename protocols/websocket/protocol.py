"""WebSockets in a node: MQTT and AMQP in binary frames, and events as JSON. All come by the HTTP listener."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, cast

from protocols.server import ClientRow, Parts, ProtocolServer, SocketFactory
from protocols.transport.wire import ByteChannel, ConnectionFactory, ConnectionHandler
from protocols.websocket.amqp import AmqpOverWebSocket
from protocols.websocket.json.channel import JsonOverWebSocket
from protocols.websocket.mqtt import MqttOverWebSocket
from protocols.websocket.settings import WebSocketSettings


class _HasPort(Protocol):
    port: ConnectionFactory


class _SharedPortOf:
    """A factory of a protocol that is made after this one: looked up with the first connection."""

    def __init__(self, parts: Parts, name: str) -> None:
        self._parts = parts
        self._name = name

    def connection(self, channel: ByteChannel, now_s: float) -> ConnectionHandler:
        return cast(_HasPort, self._parts.servers[self._name]).port.connection(channel, now_s)


class WebSocketProtocol(ProtocolServer):
    """See protocols/server.py. The HTTP listener takes the three, closes their connections and counts them."""

    def __init__(self, parts: Parts, settings: WebSocketSettings) -> None:
        router = parts.router
        self.mqtt = MqttOverWebSocket(
            cast(ConnectionFactory, parts.servers["mqtt"]), settings, router.clock_s, router.turns)
        self.amqp = AmqpOverWebSocket(_SharedPortOf(parts, "amqp"), settings, router.clock_s, router.turns)
        self.json = JsonOverWebSocket(router, parts.replies, settings, router.clock_s, parts.node_name)

    async def factory(self) -> SocketFactory:
        raise NotImplementedError("WebSockets have no listener of their own")

    async def shutdown(self) -> None:
        """The HTTP listener does it, between its own steps."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return {"websocket": self.mqtt.counters.snapshot(), "websocket_amqp": self.amqp.counters.snapshot(),
                "ws": self.json.counters.snapshot()}

    def clients(self) -> Iterable[ClientRow]:
        return self.json.clients_snapshot()

    def kick(self, client_id: str) -> bool:
        return self.json.kick(client_id)
