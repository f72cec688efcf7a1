"""KafkaServer: the connections of one node, whatever listener they came by. The node calls connection() and tick()."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.kafka.api import find_apis
from protocols.kafka.broker import Broker
from protocols.kafka.logins.authenticator import Authenticator
from protocols.kafka.runtime.connection import KafkaConnection
from protocols.kafka.settings import KafkaSettings
from protocols.wire import ByteChannel
from routing.router import Router

IDLE_CHECK_S = 5.0


class KafkaServer:
    """Made once per tenant. Loop thread only."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: KafkaSettings) -> None:
        self.broker = Broker(router, authenticator, settings)
        self.connections: dict[KafkaConnection, None] = {}
        self._apis = find_apis()
        self.broker.api_rows = [
            {"api_key": api.schema.key, "min_version": api.schema.listed_from, "max_version": api.schema.last}
            for api in self._apis.values()]
        self._next_idle_check_s = 0.0
        self._stopping = False

    def connection(self, channel: ByteChannel, now_s: float) -> KafkaConnection:
        """The handler of a new byte stream."""
        connection = KafkaConnection(self.broker, self._apis, channel, now_s, self._gone)
        self.connections[connection] = None
        self.broker.counters["connections_opened"] += 1
        return connection

    def _gone(self, connection: KafkaConnection) -> None:
        self.connections.pop(connection, None)

    def tick(self, now_s: float) -> None:
        """Timers. now_s: monotonic seconds."""
        self.broker.timers.run(now_s)
        if now_s >= self._next_idle_check_s:
            self._next_idle_check_s = now_s + IDLE_CHECK_S
            oldest_s = now_s - self.broker.settings.idle_timeout_s
            for connection in [each for each in self.connections if each.last_request_s < oldest_s]:
                connection.fail("nothing was asked for too long")

    def shutdown(self) -> None:
        """Close every connection: Kafka has no goodbye, its clients look for the broker again."""
        self._stopping = True
        for connection in list(self.connections):
            connection.fail("the node shuts down")

    def counters(self) -> dict[str, int]:
        return {"connections": len(self.connections), "groups": len(self.broker.groups.by_id),
                **self.broker.counters}

    def clients(self) -> list[Mapping[str, Any]]:
        """For operators: who is connected."""
        return [
            {"client_id": connection.client_id, "address": connection.address, "software": connection.software,
             "user": connection.identity.user,
             "requests": connection.requests, "connected": True}
            for connection in self.connections]

    def kick(self, client_id: str) -> bool:
        """Close the connections of a client id; False when there is none."""
        found = [connection for connection in self.connections if connection.client_id == client_id]
        for connection in found:
            connection.fail("disconnected by an operator")
        return bool(found)
