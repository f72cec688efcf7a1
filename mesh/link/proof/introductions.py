"""Introductions: a peer says who it is, and it is decided whether that is so and whether it may come in.

    introduced ▸ credentials, of who came in ▸ the name that was expected, of whom we dialled ▸ not ourselves
               ▸ rivals: others of that name, who are asked for a sign of life ▸ admit, by manager.py
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from mesh.link.link import Link
from mesh.link.proof.credentials import Admission, Doorkeeper
from mesh.link.proof.rivals import Rivals
from mesh.link.protocol.codes import Code
from mesh.link.protocol.peer import Me, Peer
from mesh.link.protocol.session import Phase
from mesh.link.transport import LinkConnection
from mesh.values.address import is_loopback

logger = logging.getLogger(__name__)


class House(Protocol):
    """What it needs of the manager."""

    me: Me
    links: dict[str, Link]

    def admit(self, connection: LinkConnection) -> None:
        """It is who it says, and may come in."""

    def ended(self, connection: LinkConnection) -> None: ...
    def close(self, link: Link, code: Code) -> None: ...
    def tell(self, node: str, what: str, text: str) -> None: ...


class Introductions:
    """Of one manager."""

    def __init__(self, house: House, patience_s: float, clock_s: Callable[[], float], clock_ms: Callable[[], int],
                 ) -> None:
        """patience_s: for a sign of life of a rival."""
        self.doorkeeper = Doorkeeper([], anonymous=False)
        self._house = house
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._admissions: dict[LinkConnection, Admission] = {}
        self._rivals = Rivals(patience_s)

    def admission(self, connection: LinkConnection) -> Admission:
        """Of one that came in and showed good credentials."""
        return self._admissions[connection]

    def forget(self, connection: LinkConnection) -> None:
        self._admissions.pop(connection, None)

    def expire(self, connection: LinkConnection, now_ms: int) -> None:
        """A token that has expired ends its connection."""
        admission = self._admissions.get(connection)
        if admission is not None and admission.expires_ms is not None and now_ms >= admission.expires_ms:
            connection.session.close(Code.BAD_CREDENTIALS, "the token has expired; come again with a new one")

    def introduced(self, connection: LinkConnection, link: Link | None, peer: Peer, token: str | None) -> None:
        """link: None of one that came in. Ends in admit() or close(), perhaps only after its rivals were asked."""
        session, me = connection.session, self._house.me
        if link is None:
            loopback = is_loopback(connection.remote.rpartition(":")[0].strip("[]"))
            admission = self.doorkeeper.check(
                peer.node, token, connection.certificate_name, loopback=loopback, now_ms=self._clock_ms())
            if admission is None:
                session.close(Code.BAD_CREDENTIALS)
                self._house.tell(peer.node, "refused", f"at {connection.remote}: no [[link_peers]] entry lets it in")
                return
            self._admissions[connection] = admission
        elif link.target is not None and link.target.table.node not in ("", peer.node):
            session.close(Code.REFUSED, f"expected node {link.target.table.node}")
            return
        if peer.node == me.node:
            session.close(Code.SELF if peer.boot == me.boot else Code.DUPLICATE_NAME)
            return
        rivals = [other.connection for other in rivals_of(peer, self._house.links) if other.connection is not None]
        if rivals:
            self._rivals.ask(connection, rivals, self._clock_s(), self._clock_ms())
        else:
            self._house.admit(connection)

    def tick(self, now_s: float) -> None:
        for connection, alive in self._rivals.settled(now_s):
            self._decide(connection, alive)

    def _decide(self, connection: LinkConnection, alive: bool) -> None:
        """The rivals of a newcomer have answered (alive), or they are gone."""
        if connection.lost or connection.session.phase not in (Phase.CHECKING_HELLO, Phase.CHECKING_WELCOME):
            return
        peer = connection.session.peer
        if alive:
            node = peer.node if peer is not None else ""
            logger.error("two live nodes have the name %s; the one at %s is refused", node, connection.remote)
            connection.session.close(Code.DUPLICATE_NAME)
            self._house.ended(connection)
        else:
            for link in rivals_of(peer, self._house.links) if peer is not None else []:
                self._house.close(link, Code.REPLACED)
            self._house.admit(connection)
        connection.phase_changed()
        connection.wake()


def rivals_of(peer: Peer, links: Mapping[str, Link]) -> list[Link]:
    """Links that are up with another process of that name."""
    return [link for link in links.values()
            if link.neighbour is not None and link.neighbour.node == peer.node and link.neighbour.boot != peer.boot]
