"""AmqpServer: the AMQP 0-9-1 connections and the topology of one node, whatever listener they came by.

The node calls connection() for each new byte stream and tick() every 50 to 100 ms. Loop thread only.
"""
from __future__ import annotations

import logging
from typing import Any

from protocols.amqp091.channels.replies import DirectReplies
from protocols.amqp091.codec.codes import CONNECTION_FORCED
from protocols.amqp091.connection import AmqpConnection
from protocols.amqp091.counters import Counters, LogLimit
from protocols.amqp091.dead_letters import DeadLetters
from protocols.amqp091.settings import AmqpSettings
from protocols.amqp091.topology.declared import Declared
from protocols.amqp091.topology.queue import DEAD_LETTER_SCHEME
from protocols.server import Authenticator
from protocols.wire import ByteChannel
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.rights.policy import Identity
from routing.router import Router

log = logging.getLogger(__name__)

BLOCKED_S = 2.0             # after the disk has refused something, publishers are asked to wait so long
ROUND_S = 0.5               # every connection is looked at once in so long, or a little more
LOOKS = 10                  # every connection is looked at once in so many ticks


class AmqpServer:
    """See the module's head. Made once per tenant; it brings the stored topology back."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: AmqpSettings, *, version: str = "",
                 node: str = "") -> None:
        self.router = router
        self.settings = settings
        self.authenticator = authenticator
        self.version = version
        self.node = node
        self.counters = Counters()
        self.log_limit = LogLimit(settings.log_lines_per_s)
        self.connections: dict[AmqpConnection, None] = {}
        self.declared = Declared(router, settings)
        self.replies = DirectReplies()
        self._connections_share = Share("AMQP connections", lambda: router.limits.user_share)
        self.stopping = False
        self.blocked = False                # connections have been told that the disk is full
        self._blocked_until_s = 0.0
        self._next_round_s = 0.0
        self._to_look_at: list[AmqpConnection] = []
        self.declared.restore()
        router.queues.resolvers[DEAD_LETTER_SCHEME] = DeadLetters(self.declared).letters

    # -- connections ------------------------------------------------------------------------------------------

    def connection(self, channel: ByteChannel, now_s: float) -> AmqpConnection:
        """The handler of a new byte stream."""
        connection = AmqpConnection(self, channel, now_s)
        self.connections[connection] = None
        self.counters.connections_opened += 1
        return connection

    def admit(self, identity: Identity) -> Refusal | None:
        """A login that has succeeded: is there room for one more connection of this user?"""
        return self._connections_share.take(identity.user, self.settings.connections_max)

    def left_login(self, connection: AmqpConnection) -> None:
        """Called once for each that was admitted: it holds nothing any more."""
        self._connections_share.give(connection.identity.user)
        self.declared.connection_gone(connection)

    def left(self, connection: AmqpConnection) -> None:
        self.connections.pop(connection, None)

    def tick(self, now_s: float) -> None:
        """Heartbeats and timeouts: a part of the connections each time. now_s: monotonic seconds."""
        if not self._to_look_at and now_s >= self._next_round_s:
            self._next_round_s = now_s + ROUND_S
            self._to_look_at = list(self.connections)
            if self.blocked and now_s >= self._blocked_until_s:
                self.blocked = False
                for connection in list(self.connections):
                    connection.tell_blocked(False)
        part = -(-len(self.connections) // LOOKS)
        for _ in range(min(part, len(self._to_look_at))):
            self._to_look_at.pop().look(now_s)

    def storage_full(self) -> None:
        """The disk did not take a message: tell publishers to wait."""
        self._blocked_until_s = self.router.clock_s() + BLOCKED_S
        if not self.blocked:
            self.blocked = True
            for connection in list(self.connections):
                connection.tell_blocked(True)

    def shutdown(self) -> None:
        """Say goodbye to everybody and take nobody in any more."""
        self.stopping = True
        for connection in list(self.connections):
            connection.fail(CONNECTION_FORCED, "broker forced connection closure with reason 'shutdown'")

    def kick(self, client_id: str) -> bool:
        """Close the connections of a client; False when there is none."""
        found = [one for one in self.connections if one.is_open and one.shown_id == client_id]
        for connection in found:
            connection.fail(CONNECTION_FORCED, "Closed via management")
        return bool(found)

    def clients_snapshot(self) -> list[dict[str, Any]]:
        """For the management API."""
        return [connection.snapshot() for connection in self.connections if connection.is_open]
