"""AMQP 0-9-1 in a node: one server for all listeners."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from protocols.amqp091.declaring import Declaring
from protocols.amqp091.server import AmqpServer
from protocols.amqp091.settings import AmqpSettings
from protocols.amqp091.topology.shown import binding_rows, exchange_rows
from protocols.server import ClientRow, Parts, ProtocolServer, SocketFactory
from protocols.transport.sharedport import SharedPort
from protocols.transport.sockets import SocketListener


class AmqpProtocol(ProtocolServer):
    """See protocols/server.py. port: whoever else begins with a header of its own may be served on the listener.
    declaring: what is declared here, for other protocols (protocols/declaring.py).
    """

    def __init__(self, parts: Parts, settings: AmqpSettings) -> None:
        self.server = AmqpServer(
            parts.router, parts.authenticator, settings, scram=parts.scram, version=parts.version,
            node=parts.node_name)
        self.declaring = Declaring(self.server.broker)
        self.port = SharedPort(self.server, settings.connect_timeout_s)
        self._listener = SocketListener.of_protocol(self.port, settings, parts.router.turns)

    async def factory(self) -> SocketFactory:
        return self._listener.channel

    async def shutdown(self) -> None:
        self.port.shutdown()
        self.server.shutdown()
        await self._listener.closed()

    @property
    def connections(self) -> int:
        return len(self.server.connections)

    def tick(self, now_s: float) -> None:
        self.port.tick(now_s)
        self.server.tick(now_s)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        declared = self.server.broker.declared
        gauges = {"connections": self.connections, "queues": len(declared.queues),
                  "exchanges": len(declared.topology.exchanges), "bindings": declared.bindings}
        return {"amqp": {**gauges, **self.server.broker.counters.snapshot()}}

    def clients(self) -> Iterable[ClientRow]:
        return self.server.clients_snapshot()

    def table(self, name: str) -> Iterable[Mapping[str, Any]]:
        topology = self.server.broker.declared.topology
        return {"exchanges": exchange_rows, "bindings": binding_rows}[name](topology) if name in (
            "exchanges", "bindings") else ()

    def kick(self, client_id: str) -> bool:
        return self.server.kick(client_id)
