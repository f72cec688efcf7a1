"""All links of a node: dialling, admitting, taking over, pausing, reporting. One per node, on the event loop.

    [[links]]       ── tick ─► dial ──► LinkConnection ──┐
    link listener ── accept ─────────► LinkConnection ──┤─► introduced ▸ credentials ▸ rivals ▸ neighbour_up ▸ up
    overlay ◄── neighbour_up, received, neighbour_down ──┘

Taking over: a new connection of a node and link that has one already replaces it, because a dialler that comes again
knows that its old connection is dead. Where the newcomer is another process (boot), the old connections of that name
are first asked for a sign of life: an answer means that two nodes have the same name, and the newcomer is refused.
"""
from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from mesh.link.dialling.backoff import PAUSED_BY_PEER_S, Backoff
from mesh.link.dialling.dialler import DialError, dial
from mesh.link.dialling.target import Target
from mesh.link.link import Link, LinkNeighbour
from mesh.link.proof.credentials import Doorkeeper
from mesh.link.proof.introductions import Introductions
from mesh.link.proof.prepare import PreparedLinks
from mesh.link.proof.strangers import choose
from mesh.link.protocol.bucket import Uplink
from mesh.link.protocol.codes import Code, code_name
from mesh.link.protocol.frames import Gossip, Relay
from mesh.link.protocol.neighbour import LinkEvents
from mesh.link.protocol.peer import Me, Peer
from mesh.link.protocol.session import LinkSession, Phase
from mesh.link.settings import LinkLimits, LinkTable
from mesh.link.transport import LinkConnection
from mesh.system.names.names import Names
from routing.errors import ConfigError, Reason
from routing.fairness.turns import Turns

logger = logging.getLogger(__name__)

NAME_THREADS = 4            # for the names of links alone
REPLACED_LIVE = ("paused", "rate_bytes", "priority")      # settings of a link that change without a new connection
ENDINGS = {Code.REFUSED, Code.DUPLICATE_NAME, Code.LIED, Code.SELF, Code.FLOOD, Code.BAD_FRAME, Code.UNEXPECTED_FRAME}


class LinkManager:
    """See the file's docstring. apply() gives it its configuration, tick() its time."""

    def __init__(
        self, me: Me, limits: LinkLimits, events: LinkEvents, *, clock_s: Callable[[], float],
        clock_ms: Callable[[], int], rng: random.Random, turns: Turns | None = None,
    ) -> None:
        """turns: shared by everybody who works on this loop; None: of each connection alone, in tests."""
        self.me = me
        self._turns = turns
        self._names = Names(NAME_THREADS, clock_s, failed_max_s=limits.retry_max_s)
        self.limits = limits
        self.events = events
        self.links: dict[str, Link] = {}
        self.counters: Counter[str] = Counter()
        self.on_change: list[Callable[[str, str, str], None]] = []      # told of a node: up, down or refused, and why
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._rng = rng
        self._uplink = Uplink(limits.rate_bytes)
        self._connections: dict[LinkConnection, Link | None] = {}       # open sockets, in order; None: a stranger
        self._introductions = Introductions(self, limits.blocked_after_s, clock_s, clock_ms)
        self._stopping = False

    # -- configuration --------------------------------------------------------------------------------------------

    def apply(self, prepared: PreparedLinks) -> None:
        """Take a configuration, the first one or a changed one. Links that did not change stay as they are."""
        self._introductions.doorkeeper = Doorkeeper(prepared.entries, anonymous=prepared.anonymous)
        wanted = {target.name: target for target in prepared.targets}
        for link in list(self.links.values()):
            unwanted = link.name not in wanted if link.target is not None else (
                link.entry not in prepared.entries and not prepared.anonymous)
            if unwanted:
                self._remove(link)
        for target in prepared.targets:
            known = self.links.get(target.name)
            if known is None or known.target is None:
                self.links[target.name] = self._dialled(target.name, target)
            else:
                self._change(known, known.target.table, target)

    def _change(self, link: Link, before: LinkTable, target: Target) -> None:
        after = target.table
        link.target, link.rules = target, after
        changed = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
        if "paused" in changed:
            self._set_paused(link, after.paused)
        if link.connection is not None:
            link.connection.session.set_rules(after.rate_bytes, after.priority)
        if any(name not in REPLACED_LIVE for name in changed):
            self.close(link, Code.REMOVED, "the settings of this link have changed")
            link.next_dial_s = 0.0

    def _dialled(self, name: str, target: Target) -> Link:
        backoff = Backoff(self.limits.retry_min_s, self.limits.retry_max_s, self._rng)
        link = Link(name, name, target.table, target=target, backoff=backoff)
        link.next_dial_s = self._clock_s() + backoff.after_good()
        return link

    def _remove(self, link: Link) -> None:
        if link.dialling is not None:
            link.dialling.cancel()
        self.close(link, Code.REMOVED)
        self.links.pop(link.identifier, None)

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Heartbeats, deadlines, rates and dials. Called some 20 times a second."""
        now_ms = self._clock_ms()
        for connection, link in list(self._connections.items()):
            session = connection.session
            session.tick(now_s, now_ms)
            self._introductions.expire(connection, now_ms)
            if session.phase is Phase.CLOSING:
                self.ended(connection)
            if session.outbox.frames or (link is None and session.phase is Phase.CLOSING):
                connection.flush()
        self._introductions.tick(now_s)
        if self._stopping:
            return
        for link in self.links.values():
            if link.target is not None and not link.paused and link.connection is None and link.dialling is None \
                    and now_s >= link.next_dial_s:
                link.dialling = asyncio.get_running_loop().create_task(self._dial(link))

    async def _dial(self, link: Link) -> None:
        target = link.target
        assert target is not None and link.backoff is not None
        try:
            token = target.token()
            connection = await dial(target, self.limits, lambda: self._outgoing(link, token), self._names)
            logger.debug("link %s: connected to %s", link.identifier, connection.remote)
        except (DialError, ConfigError) as error:
            link.dial_failures += 1
            self.counters["dial_failures"] += 1
            if link.last_error != str(error):
                logger.warning("link %s: %s", link.identifier, error)
            link.last_error = str(error)
            link.next_dial_s = self._clock_s() + link.backoff.after_failure()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("link %s: dialling failed", link.identifier)
            link.next_dial_s = self._clock_s() + link.backoff.after_failure()
        finally:
            link.dialling = None

    def _outgoing(self, link: Link, token: str | None) -> LinkConnection:
        target = link.target
        assert target is not None

        def say_hello(session: LinkSession) -> None:
            session.dial(link.name, token, target.table.cost, self._clock_ms())

        def make(connection: LinkConnection, now_s: float) -> LinkSession:
            link.connection = connection
            self._connections[connection] = link
            return self._session(connection, now_s)

        self.counters["dialled"] += 1
        return LinkConnection(
            self, self.limits, make, uri=target.uri, compress=target.table.compress, clock_s=self._clock_s,
            clock_ms=self._clock_ms, dial=say_hello, turns=self._turns)

    # -- accept side ----------------------------------------------------------------------------------------------

    def accept(self) -> LinkConnection:
        """The protocol object of a connection that came in; the factory of the link listener."""
        def make(connection: LinkConnection, now_s: float) -> LinkSession:
            self._make_room(connection)
            self._connections[connection] = None
            return self._session(connection, now_s)

        self.counters["accepted"] += 1
        return LinkConnection(
            self, self.limits, make, clock_s=self._clock_s, clock_ms=self._clock_ms, turns=self._turns)

    def _make_room(self, newcomer: LinkConnection) -> None:
        """For one more stranger: another one has to go, or the newcomer."""
        strangers = [known for known, link in self._connections.items() if link is None and not known.is_gone]
        if len(strangers) < self.limits.handshakes_max:
            return
        self.counters["handshakes_evicted"] += 1
        index = choose(strangers, newcomer.remote, self._rng)
        goes = newcomer if index is None else strangers[index]
        goes.problem = "too many handshakes at once"
        goes.abort()

    def _session(self, connection: LinkConnection, now_s: float) -> LinkSession:
        def introduced(peer: Peer, token: str | None) -> None:
            self._introductions.introduced(connection, self._connections.get(connection), peer, token)

        return LinkSession(
            self.me, self.limits, introduced, now_s, uplink=self._uplink)

    def admit(self, connection: LinkConnection) -> None:
        session, peer = connection.session, connection.session.peer
        assert peer is not None
        link = self._connections.get(connection) or self._accepted(connection, peer)
        if link is None:
            session.close(Code.LIMIT)
            return
        if link.paused:
            session.close(Code.PAUSED, "paused by an operator of the other node")
            return
        if link.connection is not connection:
            self.close(link, Code.REPLACED)
            link.connection = connection
            self._connections[connection] = link
        session.set_rules(link.rules.rate_bytes, link.rules.priority)
        session.admit(self._clock_s(), self._clock_ms())
        link.peer = peer
        neighbour = LinkNeighbour(link, connection, peer)
        refusal = self.events.neighbour_up(neighbour)
        if refusal is not None:
            session.close(Code.DUPLICATE_NAME if refusal.reason is Reason.CONFLICT else Code.REFUSED, refusal.text)
            return
        if session.phase is not Phase.UP:       # the overlay sent it away meanwhile
            self.events.neighbour_down(neighbour, session.end.text if session.end is not None else "closed")
            return
        link.neighbour = neighbour
        link.connects += 1
        link.since_ms = self._clock_ms()
        link.last_error = None
        self.counters["up"] += 1
        logger.info("link %s: up with %s (site %s) at %s, protocol %d%s", link.identifier, peer.node, peer.site,
                    connection.remote, peer.protocol, ", TLS" if connection.secure else "")
        self.tell(peer.node, "up", f"{link.identifier} at {connection.remote}")

    def tell(self, node: str, what: str, text: str) -> None:
        for told in self.on_change:
            told(node, what, text)

    def _accepted(self, connection: LinkConnection, peer: Peer) -> Link | None:
        """The link that a peer's connection belongs to; None when there are too many."""
        admission = self._introductions.admission(connection)
        identifier = f"{peer.node}:{peer.link}"
        link = self.links.get(identifier)
        if link is None:
            incoming = [known for known in self.links.values() if not known.outgoing]
            if len(incoming) >= self.limits.links_max:
                forgotten = next((known for known in incoming if known.connection is None and not known.paused), None)
                if forgotten is None:
                    return None
                del self.links[forgotten.identifier]
            link = self.links[identifier] = Link(identifier, peer.link, admission.entry.table, entry=admission.entry)
        link.entry, link.rules = admission.entry, admission.entry.table
        return link

    # -- host of the connections ----------------------------------------------------------------------------------

    def received(self, connection: LinkConnection, frames: list[Gossip | Relay]) -> None:
        link = self._connections.get(connection)
        neighbour = link.neighbour if link is not None and link.connection is connection else None
        if neighbour is None or connection.session.draining:
            return
        received = self.events.received
        for frame in frames:
            received(neighbour, frame)
            if connection.session.phase is not Phase.UP:        # the overlay caught it in a lie
                return

    def changed(self, connection: LinkConnection) -> None:
        if connection.session.phase is Phase.CLOSING:
            self.ended(connection)

    def closed(self, connection: LinkConnection) -> None:
        self.ended(connection)
        self._connections.pop(connection, None)

    def ended(self, connection: LinkConnection) -> None:
        """The session is over, the socket perhaps not yet. Does its work once."""
        self._introductions.forget(connection)
        link = self._connections.get(connection)
        if connection.reported:
            return
        connection.reported = True
        end = connection.session.end
        if end is None:
            connection.session.gone()
        text = (end.text if end is not None else connection.problem) or "connection lost"
        kind = code_name(end.code) if end is not None else "lost"
        self.counters[f"ended.{kind}"] += 1
        if link is None or link.connection is not connection:
            if link is None:
                logger.info("link from %s ended before it was up: %s (%s)", connection.remote, text, kind)
            return
        was_up, now_s = link.neighbour is not None, self._clock_s()
        if end is None and not was_up and text.startswith("connection lost"):
            text += link.asked_for()
        if was_up:
            self._down(link, text)
        elif text != link.last_error:
            logger.warning("link %s: %s", link.identifier, text)
        link.totals.add(connection)
        link.connection = None
        link.last_error = text
        if link.backoff is not None:
            lasted_s = now_s - connection.session.up_since_s if connection.session.up_since_s is not None else 0.0
            if end is not None and end.by_peer and end.code == Code.PAUSED:
                wait_s = PAUSED_BY_PEER_S
            elif was_up and lasted_s >= self.limits.good_after_s and (end is None or end.code not in ENDINGS):
                wait_s = link.backoff.after_good()
            else:
                wait_s = link.backoff.after_failure()
            link.next_dial_s = now_s + wait_s

    def _down(self, link: Link, text: str) -> None:
        neighbour, link.neighbour = link.neighbour, None
        link.since_ms = self._clock_ms()
        if neighbour is not None:
            logger.info("link %s: down: %s", link.identifier, text)
            self.events.neighbour_down(neighbour, text)
            self.tell(neighbour.node, "down", f"{link.identifier}: {text}")

    def close(self, link: Link, code: Code, text: str = "") -> None:
        connection = link.connection
        if connection is not None:
            connection.session.close(code, text)
            self.ended(connection)
            connection.wake()

    # -- operators ------------------------------------------------------------------------------------------------

    def pause(self, identifier: str) -> bool:
        """End the connection and keep it from coming back; False when there is no such link."""
        link = self.links.get(identifier)
        if link is not None:
            self._set_paused(link, True)
        return link is not None

    def resume(self, identifier: str) -> bool:
        link = self.links.get(identifier)
        if link is not None:
            self._set_paused(link, False)
        return link is not None

    def drain(self, identifier: str) -> bool:
        """Pause, but send what is queued first. The overlay uses other links from now on."""
        link = self.links.get(identifier)
        if link is None:
            return False
        if link.connection is not None and link.up:
            self._down(link, "draining")
            link.connection.session.drain(Code.PAUSED, self._clock_s())
        link.paused = True
        return True

    def kick(self, identifier: str) -> bool:
        """Close the connection; the dialler may come again at once."""
        link = self.links.get(identifier)
        if link is None or link.connection is None:
            return False
        self.close(link, Code.KICKED)
        link.next_dial_s = 0.0
        return True

    def _set_paused(self, link: Link, paused: bool) -> None:
        link.paused = paused
        if paused:
            if link.dialling is not None:
                link.dialling.cancel()
            self.close(link, Code.PAUSED)
        else:
            link.next_dial_s = 0.0

    @property
    def sockets(self) -> int:
        """Open connections, those that nobody has admitted yet included."""
        return len(self._connections)

    def snapshot(self) -> list[dict[str, Any]]:
        """Every link, in the order of its id."""
        now_s = self._clock_s()
        return [self.links[identifier].snapshot(now_s) for identifier in sorted(self.links)]

    async def shutdown(self) -> None:
        """Say Goodbye on every link and wait for the sockets to close, two seconds at most."""
        self._stopping = True
        for link in self.links.values():
            if link.dialling is not None:
                link.dialling.cancel()
        for connection in list(self._connections):
            connection.session.close(Code.STOPPING)
            self.ended(connection)
            connection.flush()
        while self._connections:
            await asyncio.sleep(0.01)
