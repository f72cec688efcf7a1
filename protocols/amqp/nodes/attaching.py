"""Attaching: which node a link is attached to, and is there room for one more. Raises LinkFault, which refuses it.

    a receiver's link ─► sources/        a sender's link ─► targets/        how both find queues: finding.py
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.codec.conditions import NOT_FOUND, RESOURCE_LIMIT, STOLEN, LinkFault
from protocols.amqp.codec.performatives import Attach
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.finding import Finding
from protocols.amqp.nodes.management import Management
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.resuming import ResumingReader
from protocols.amqp.nodes.sources.sources import Sources
from protocols.amqp.nodes.targets.destinations import Destinations
from protocols.amqp.nodes.targets.resuming import ResumingTarget
from protocols.amqp.resuming.suspended import Termini
from protocols.amqp.settings import Amqp10Settings
from protocols.declaring import Declaring
from routing.router import Router


class Attaching:
    """One per server. parts of a connection: connection.parts."""

    def __init__(self, router: Router, settings: Amqp10Settings, declaring: Declaring | None,
                 new_token: Callable[[Any, bytes, Callable[[bool], None]], None], termini: Termini) -> None:
        """declaring: who keeps exchanges, None: nobody on this node. new_token(connection, token, done)."""
        self._declaring = declaring
        self._new_token = new_token
        self._settings = settings
        self.finding = Finding(router, settings, declaring)
        self._sources = Sources(router, settings, declaring, self.finding, self._management, termini)
        self._destinations = Destinations(router, settings, declaring, self.finding, self._management, termini)

    def admit(self, link: SendingLink | ReceivingLink) -> None:
        """A connection has a bound of links, and of two with one name and direction the newer takes over.   §2.6.1"""
        connection: Any = link.session.connection
        parts: Parts = connection.parts
        count = sum(len(session.links) for session in connection.sessions.values())
        if count > self._settings.links_max:
            raise LinkFault(RESOURCE_LIMIT, f"a connection has at most {self._settings.links_max} links")
        if len(parts.names) > 2 * count + 64:           # with those that have gone
            parts.names = {key: one for key, one in parts.names.items() if not one.is_gone}
        other = parts.names.get((link.role, link.name))
        parts.names[link.role, link.name] = link
        if other is not None and other.is_attached:
            if isinstance(other.node, (ResumingReader, ResumingTarget)):
                other.node.is_stolen = True             # what it has is the newer one's
            other.fail(LinkFault(STOLEN, "another link of this name has been attached"))

    def source(self, link: SendingLink, attach: Attach) -> None:
        """A receiver wants to read."""
        self._sources.source(link, attach)

    def target(self, link: ReceivingLink, attach: Attach) -> None:
        """A sender wants to send."""
        self._destinations.target(link, attach)

    def _management(self, connection: Any) -> Management:
        parts: Parts = connection.parts
        if self._declaring is None:
            raise LinkFault(NOT_FOUND, "this node serves no AMQP 0-9-1, which keeps queues, exchanges and bindings")
        if parts.management is None:
            parts.management = Management(
                self._declaring, self._declaring.declarer(connection.identity), connection,
                lambda token, done: self._new_token(connection, token, done))
        return parts.management
