"""MQTT in a node: one server for all listeners, and for the WebSockets that carry MQTT."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from protocols.mqtt.connection import MqttConnection
from protocols.mqtt.server import MqttServer
from protocols.mqtt.settings import MqttSettings
from protocols.server import ClientRow, Parts, ProtocolServer, SocketFactory
from protocols.transport.sockets import SocketListener
from protocols.transport.wire import ByteChannel


class MqttProtocol(ProtocolServer):
    """See protocols/server.py. A ConnectionFactory, too: streams of bytes that are no sockets of ours come this way."""

    def __init__(self, parts: Parts, settings: MqttSettings) -> None:
        self.server = MqttServer(parts.router, parts.authenticator, settings, version=parts.version)
        self._listener = SocketListener.of_protocol(self.server, settings, parts.router.turns)

    def connection(self, channel: ByteChannel, now_s: float) -> MqttConnection:
        return self.server.connection(channel, now_s)

    async def factory(self) -> SocketFactory:
        return self._listener.channel

    async def shutdown(self) -> None:
        self.server.shutdown()
        await self._listener.closed()

    @property
    def connections(self) -> int:
        return len(self.server.connections)

    @property
    def sessions(self) -> int:
        return len(self.server.sessions)

    def tick(self, now_s: float) -> None:
        self.server.tick(now_s)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        gauges = {"connections": self.connections, "sessions": self.sessions}
        return {"mqtt": {**gauges, **self.server.counters.snapshot()}}

    def clients(self) -> Iterable[ClientRow]:
        return self.server.clients_snapshot()

    def kick(self, client_id: str) -> bool:
        return self.server.kick(client_id)

    def consumer_deleted(self, name: str) -> None:
        self.server.consumer_deleted(name)
