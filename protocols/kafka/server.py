"""KafkaServer: Kafka in a node, one server for all listeners."""
from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from protocols.kafka.api import find_apis
from protocols.kafka.broker import Broker
from protocols.kafka.cluster.cluster import KafkaCluster
from protocols.kafka.groups.shown import group_rows
from protocols.kafka.runtime.connection import KafkaConnection
from protocols.kafka.settings import KafkaSettings
from protocols.kafka.sharing.door import GroupDoor
from protocols.peers import Peers
from protocols.server import ClientRow, Groups, Parts, ProtocolServer, SocketFactory
from protocols.transport.sockets import SocketListener
from protocols.transport.wire import ByteChannel

log = logging.getLogger(__name__)

IDLE_CHECK_S = 5.0


class KafkaServer(ProtocolServer):
    """See protocols/server.py. A ConnectionFactory, too."""

    def __init__(self, parts: Parts, settings: KafkaSettings) -> None:
        self.broker = Broker(parts.router, parts.authenticator, parts.scram, settings, parts.policies)
        self.open: dict[KafkaConnection, None] = {}
        self._groups = GroupDoor(self.broker)
        self._apis = find_apis()
        self.broker.api_rows = [
            {"api_key": api.schema.key, "min_version": api.schema.listed_from, "max_version": api.schema.last}
            for api in self._apis.values()]
        self._next_idle_check_s = 0.0
        self._cluster: KafkaCluster | None = None
        self._listener: SocketListener | None = None

    def meet(self, peers: Peers) -> None:
        broker, names = self.broker, self.broker.settings.cluster
        if names and peers.me not in names:
            log.error("kafka.cluster does not have this node, %s: it serves Kafka clients alone", peers.me)
        elif names:
            self._cluster = broker.cluster = KafkaCluster(broker, peers, self._leader_changed)

    def heard(self, source: str, body: bytes) -> None:
        if self._cluster is not None:
            self._cluster.heard(source, body)

    def _leader_changed(self) -> None:
        """Clients ask who leads when they come back."""
        for connection in list(self.open):
            connection.end()

    def connection(self, channel: ByteChannel, now_s: float) -> KafkaConnection:
        """The handler of a new byte stream."""
        connection = KafkaConnection(self.broker, self._apis, channel, now_s, self._gone)
        self.open[connection] = None
        self.broker.counters["connections_opened"] += 1
        return connection

    def _gone(self, connection: KafkaConnection) -> None:
        self.open.pop(connection, None)

    async def factory(self) -> SocketFactory:
        self._listener = SocketListener.of_protocol(self, self.broker.settings, self.broker.router.turns)
        return self._listener.channel

    async def shutdown(self) -> None:
        """Close every connection: Kafka has no goodbye, its clients look for the broker again."""
        for connection in list(self.open):
            connection.end()
        if self._listener is not None:
            await self._listener.closed()

    def tick(self, now_s: float) -> None:
        self.broker.timers.run(now_s)
        if self._cluster is not None:
            self._cluster.tick(now_s)
        if now_s >= self._next_idle_check_s:
            self._next_idle_check_s = now_s + IDLE_CHECK_S
            oldest_s = now_s - self.broker.settings.idle_timeout_s
            for connection in [each for each in self.open if each.last_request_s < oldest_s]:
                connection.fail("nothing was asked for too long")

    @property
    def connections(self) -> int:
        return len(self.open)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        gauges = {"connections": len(self.open), "groups": len(self.broker.groups.by_id)}
        return {"kafka": {**gauges, **self.broker.counters}}

    def clients(self) -> Iterable[ClientRow]:
        return [connection.row() for connection in self.open]

    def table(self, name: str) -> Iterable[Mapping[str, Any]]:
        return group_rows(self.broker.groups) if name == "groups" else ()

    @property
    def groups(self) -> Groups:
        return self._groups

    def kick(self, client_id: str) -> bool:
        """Close the connections of a client id."""
        found = [connection for connection in self.open if connection.client_id == client_id]
        for connection in found:
            connection.fail("disconnected by an operator")
        return bool(found)
