"""AmqpServer: the AMQP 0-9-1 connections of one node, whatever listener they came by, over its Broker.

The node calls connection() for each new byte stream and tick() every 50 to 100 ms. Loop thread only.
"""
from __future__ import annotations

import logging
from typing import Any

from protocols.amqp091.broker import Broker
from protocols.amqp091.codec.codes import CONNECTION_FORCED
from protocols.amqp091.connections.connection import AmqpConnection
from protocols.amqp091.dead_letters import DeadLetters
from protocols.amqp091.settings import AmqpSettings
from protocols.amqp091.topology.queue import DEAD_LETTER_SCHEME
from protocols.authentication.authenticator import Authenticator
from protocols.authentication.scram_passwords import ScramPasswords
from protocols.transport.wire import ByteChannel
from routing.router import Router

log = logging.getLogger(__name__)

ROUND_S = 0.5               # every connection is looked at once in so long, or a little more
LOOKS = 10                  # every connection is looked at once in so many ticks


class AmqpServer:
    """See the module's head. Made once per tenant; it brings the stored topology back."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: AmqpSettings, *,
                 scram: ScramPasswords, version: str = "", node: str = "") -> None:
        self.broker = Broker(router, authenticator, settings, scram=scram, version=version, node=node)
        self.connections: dict[AmqpConnection, None] = {}
        self._next_round_s = 0.0
        self._to_look_at: list[AmqpConnection] = []
        self.broker.declared.restore()
        self.broker.delays.restore()
        router.queues.resolvers[DEAD_LETTER_SCHEME] = DeadLetters(self.broker.declared).letters

    def connection(self, channel: ByteChannel, now_s: float) -> AmqpConnection:
        """The handler of a new byte stream."""
        connection = AmqpConnection(self.broker, channel, now_s, self._left)
        self.connections[connection] = None
        self.broker.counters.connections_opened += 1
        return connection

    def _left(self, connection: AmqpConnection) -> None:
        self.connections.pop(connection, None)

    def tick(self, now_s: float) -> None:
        """Heartbeats and timeouts: a part of the connections each time. now_s: monotonic seconds."""
        broker = self.broker
        if broker.is_full(now_s) != broker.blocked:
            broker.blocked = not broker.blocked
            for connection in list(self.connections):
                connection.tell_blocked(broker.blocked)
        if not self._to_look_at and now_s >= self._next_round_s:
            self._next_round_s = now_s + ROUND_S
            self._to_look_at = list(self.connections)
        part = -(-len(self.connections) // LOOKS)
        for _ in range(min(part, len(self._to_look_at))):
            self._to_look_at.pop().look(now_s)

    def shutdown(self) -> None:
        """Say goodbye to everybody and take nobody in any more."""
        self.broker.stopping = True
        for connection in list(self.connections):
            connection.fail(CONNECTION_FORCED, "broker forced connection closure with reason 'shutdown'")

    def kick(self, client_id: str) -> bool:
        """Close the connections of a client; False when there is none."""
        found = [one for one in self.connections if one.is_open and one.peer.shown_id == client_id]
        for connection in found:
            connection.fail(CONNECTION_FORCED, "Closed via management")
        return bool(found)

    def clients_snapshot(self) -> list[dict[str, Any]]:
        """For the management API."""
        return [connection.snapshot() for connection in self.connections if connection.is_open]
