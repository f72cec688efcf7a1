"""What all connections of a node share: the core, what is declared, settings, counters. Knows no connection."""
from __future__ import annotations

from typing import Any

from protocols.amqp091.blocking import Blocking
from protocols.amqp091.counters import Counters
from protocols.amqp091.delays import Delays
from protocols.amqp091.far_replies import FarReplies
from protocols.amqp091.replies import DirectReplies
from protocols.amqp091.settings import AmqpSettings
from protocols.amqp091.topology.declared import Declared
from protocols.authentication.authenticator import Authenticator
from protocols.authentication.scram_passwords import ScramPasswords
from protocols.transport.loglimit import LogLimit
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.rights.policy import Identity
from routing.router import Router


class Broker:
    """Made once per tenant. Loop thread only."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: AmqpSettings, *,
                 scram: ScramPasswords, version: str = "", node: str = "") -> None:
        self.router = router
        self.settings = settings
        self.authenticator = authenticator
        self.scram = scram
        self.version = version              # of the product
        self.node = node
        self.counters = Counters()
        self.log_limit = LogLimit(settings.log_lines_per_s)
        self.declared = Declared(router, settings)
        self.replies = DirectReplies(node)
        self.far_replies = FarReplies(router, self.replies, node)
        self.delays = Delays(router, self.declared)
        self.stopping = False
        self.blocked = False                # clients have been told that the disk is full
        self._blocking = Blocking()
        self._connections = Share("AMQP connections", lambda: router.limits.user_share,
                                  router.shares.quotas.cap("connections"))

    def admit(self, identity: Identity) -> Refusal | None:
        """A login that has succeeded: is there room for one more connection of this user?"""
        return self._connections.take(identity.user, self.settings.connections_max)

    def left(self, identity: Identity, owner: Any) -> None:
        """Called once for each that was admitted: it holds nothing any more. owner: of its exclusive queues."""
        self._connections.give(identity.user)
        self.declared.connection_gone(owner)

    def storage_full(self) -> None:
        """The disk did not take a message."""
        self._blocking.full(self.router.clock_s())

    def is_full(self, now_s: float) -> bool:
        """Publishers are to wait."""
        return self._blocking.is_blocked(now_s)
