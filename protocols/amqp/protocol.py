"""AMQP 1.0 in a node: on the listeners of AMQP 0-9-1, told apart by the protocol header."""
from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

from protocols.amqp.server import Amqp10Server
from protocols.amqp.settings import Amqp10Settings
from protocols.declaring import Declaring
from protocols.server import ClientRow, Parts, ProtocolServer, SocketFactory
from protocols.transport.sharedport import SharedPort
from protocols.transport.sockets import SocketListener

OWNER = "amqp"                                          # the protocol whose listeners these are
HEADERS = (b"AMQP\x00\x01", b"AMQP\x02", b"AMQP\x03")   # AMQP 1.0 §2.2, TLS and SASL
GOODBYE_S = 0.02            # the peers' answers to close come within that, where they are near


class _Owner(Protocol):
    port: SharedPort
    declaring: Declaring


class Amqp10Protocol(ProtocolServer):
    """See protocols/server.py."""

    def __init__(self, parts: Parts, settings: Amqp10Settings) -> None:
        self.server = Amqp10Server(
            parts.router, parts.authenticator, settings, scram=parts.scram, version=parts.version, node=parts.node_name,
            declaring=cast(_Owner, parts.servers[OWNER]).declaring if OWNER in parts.servers else None)
        self._listener = SocketListener.of_protocol(self.server, settings, parts.router.turns)
        owner = parts.servers.get(OWNER)
        if owner is not None:
            for header in HEADERS:
                cast(_Owner, owner).port.register(header, self.server)

    async def factory(self) -> SocketFactory:
        return self._listener.channel

    async def shutdown(self) -> None:
        self.server.shutdown()
        while self.server.connections:
            await asyncio.sleep(GOODBYE_S)

    @property
    def connections(self) -> int:
        return len(self.server.connections)

    def tick(self, now_s: float) -> None:
        self.server.tick(now_s)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return {"amqp10": {"connections": self.connections, **self.server.counters.snapshot()}}

    def clients(self) -> Iterable[ClientRow]:
        return self.server.clients_snapshot()

    def kick(self, client_id: str) -> bool:
        return self.server.kick(client_id)
