"""A link and what is known about it, connected or not; and the Neighbour that the overlay sees while it is up."""
from __future__ import annotations

import asyncio
from typing import Any

from mesh.link.dialling.backoff import Backoff
from mesh.link.dialling.target import Target
from mesh.link.proof.credentials import PeerEntry
from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import Frame
from mesh.link.protocol.health import LinkState
from mesh.link.protocol.peer import Peer
from mesh.link.settings import LinkPeerTable, LinkTable
from mesh.link.transport import LinkConnection


class Totals:
    """What passed on a link, all its connections together."""

    __slots__ = ("bytes_received", "bytes_sent", "dropped", "frames_received", "frames_sent", "gossip_dropped")

    def __init__(self) -> None:
        self.frames_sent = self.frames_received = self.bytes_sent = self.bytes_received = 0
        self.dropped = self.gossip_dropped = 0

    def add(self, connection: LinkConnection) -> None:
        session = connection.session
        self.frames_sent += session.frames_sent
        self.frames_received += session.frames_received
        self.bytes_sent += session.sent.total
        self.bytes_received += session.received.total
        self.dropped += sum(session.outbox.dropped) + session.too_large
        self.gossip_dropped += session.gossip_dropped

    def plus(self, connection: LinkConnection | None) -> Totals:
        """These and what a connection that is still open has so far."""
        found = Totals()
        for name in self.__slots__:
            setattr(found, name, getattr(self, name))
        if connection is not None:
            found.add(connection)
        return found


class Link:
    """One that is dialled (target) or one that came in (entry)."""

    def __init__(
        self, identifier: str, name: str, rules: LinkTable | LinkPeerTable, *, target: Target | None = None,
        entry: PeerEntry | None = None, backoff: Backoff | None = None,
    ) -> None:
        self.identifier = identifier        # unique on this node: NAME of a dialled link, NODE:NAME of an accepted one
        self.name = name
        self.rules = rules
        self.target = target
        self.entry = entry
        self.backoff = backoff
        self.paused = rules.paused
        self.connection: LinkConnection | None = None
        self.neighbour: LinkNeighbour | None = None
        self.peer: Peer | None = None       # of the last connection that was up
        self.dialling: asyncio.Task[None] | None = None
        self.next_dial_s = 0.0
        self.connects = 0
        self.dial_failures = 0
        self.last_error: str | None = None
        self.since_ms: int | None = None    # of the last time that it came up or went down
        self.totals = Totals()

    @property
    def outgoing(self) -> bool:
        return self.target is not None

    @property
    def up(self) -> bool:
        return self.neighbour is not None

    def asked_for(self) -> str:
        """What the other end may want, when it hung up before a word of ours: with TLS it cannot say."""
        rules = self.rules
        if not isinstance(rules, LinkTable):
            return ""
        if rules.to.startswith("ws:"):
            return " before the link was up: does the other end have TLS (wss://)?"
        if rules.cert is None:
            return " before the link was up: does the other end want a certificate (cert, key)?"
        return ""

    def state(self, now_s: float) -> LinkState:
        if self.paused:
            return LinkState.PAUSED
        return LinkState.DOWN if self.connection is None else self.connection.session.state(now_s)

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """Plain values for JSON. Times in milliseconds, rates in bytes per second; None is "not known"."""
        connection, peer, rules = self.connection, self.peer, self.rules
        session = None if connection is None else connection.session
        totals = self.totals.plus(connection)
        round_trip = None if session is None else session.health.round_trip
        smooth_s = None if round_trip is None else round_trip.smooth_s
        skew_ms = None if round_trip is None else round_trip.skew_ms
        backlog_s = None if session is None else session.backlog_s(now_s)
        return {
            "id": self.identifier, "name": self.name, "direction": "out" if self.outgoing else "in",
            "state": self.state(now_s).value, "draining": session is not None and session.draining,
            "node": None if peer is None else peer.node, "site": None if peer is None else peer.site,
            "version": None if peer is None else peer.version, "protocol": None if peer is None else peer.protocol,
            "to": self.target.table.to if self.target is not None else None,
            "proxy": self.target.table.proxy if self.target is not None else None,
            "remote": None if connection is None else connection.remote,
            "tls": connection is not None and connection.secure,
            "compressed": connection is not None and connection.compressed,
            "cost": self.cost, "priority": rules.priority, "rate_bytes": rules.rate_bytes,
            "export": list(rules.exports), "import": list(rules.imports), "prefix": rules.prefix,
            "console": list(rules.console), "administer": rules.administer, "entrust": rules.entrust,
            "since_ms": self.since_ms, "connects": self.connects, "dial_failures": self.dial_failures,
            "last_error": self.last_error,
            "rtt_ms": None if smooth_s is None else round(smooth_s * 1000, 3),
            "skew_ms": None if skew_ms is None else round(skew_ms, 1),
            "backlog": {
                "frames": 0 if session is None else session.outbox.frames,
                "bytes": 0 if connection is None else connection.backlog_bytes,
                "unconfirmed_bytes": 0 if session is None else session.unconfirmed_bytes,
                "seconds": None if backlog_s is None else round(backlog_s, 3),
            },
            "sent": {"frames": totals.frames_sent, "bytes": totals.bytes_sent,
                     "bytes_s": 0 if session is None else round(session.sent.rate(now_s)),
                     "confirmed_bytes_s": 0 if session is None else round(session.health.confirmed.rate(now_s))},
            "received": {"frames": totals.frames_received, "bytes": totals.bytes_received,
                         "bytes_s": 0 if session is None else round(session.received.rate(now_s))},
            "dropped_frames": totals.dropped, "dropped_gossip": totals.gossip_dropped,
        }

    @property
    def cost(self) -> int:
        if self.target is not None:
            return self.target.table.cost
        return 1 if self.peer is None else self.peer.cost


class LinkNeighbour:
    """See neighbour.Neighbour."""

    __slots__ = (
        "_connection", "administer", "boot", "console", "cost", "entrust", "epoch", "exports", "frame_bytes_max",
        "imports", "link", "node", "node_key", "prefix", "protocol", "site", "version",
    )

    def __init__(self, link: Link, connection: LinkConnection, peer: Peer) -> None:
        self._connection = connection
        self.link = link.name
        self.node = peer.node
        self.site = peer.site
        self.epoch = peer.epoch
        self.boot = peer.boot
        self.version = peer.version
        self.protocol = peer.protocol
        self.cost = peer.cost
        self.exports = link.rules.exports
        self.imports = link.rules.imports
        self.prefix = link.rules.prefix
        self.console = link.rules.console
        self.administer = link.rules.administer
        self.entrust = link.rules.entrust
        self.node_key = link.rules.node_key
        self.frame_bytes_max = peer.frame_bytes_max

    def __repr__(self) -> str:
        return f"LinkNeighbour({self.node!r}, link={self.link!r})"

    @property
    def rtt_s(self) -> float | None:
        return self._connection.session.health.round_trip.smooth_s

    @property
    def skew_ms(self) -> float | None:
        return self._connection.session.health.round_trip.skew_ms

    @property
    def backlog_bytes(self) -> int:
        return self._connection.backlog_bytes

    def send(self, frame: Frame, priority: int) -> bool:
        connection = self._connection
        if not connection.session.send(frame, priority):
            return False
        connection.wake()
        return True

    def lied(self, text: str) -> None:
        self._connection.session.close(Code.LIED, text)
        self._connection.wake()
