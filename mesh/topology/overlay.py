"""The overlay of one node: who is there, how to reach them, what they want. Sans-IO: clocks and random are injected.

    links (mesh/link) ── Gossip ──► LinkState ──► Routes ──► nodes, on_nodes_changed
                     └── Relay ───► ours: on_message(source, body)     not ours: on to the next hop
    send(to, body, priority) ──► Relay by the neighbour on the shortest path

A message may be lost, doubled or overtaken; what is on top must live with that. Gossip of the moment is always sent
before a message of priority 2 or less, so that a request never overtakes the interest in its answer.
"""
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Container, Iterable
from itertools import islice
from typing import Any

from mesh.link.protocol.frames import HOPS_MAX, PRIORITY_DIRECT, PRIORITY_GOSSIP, Gossip, Relay
from mesh.link.protocol.neighbour import Neighbour
from mesh.topology.envelopes import Envelopes
from mesh.topology.gossip.flood import Peer, Timer, lines_of
from mesh.topology.gossip.gossip import Exchange
from mesh.topology.gossip.strikes import Strikes
from mesh.topology.interest.interest import Wants
from mesh.topology.linkstate.nodestate import (
    STREAMS_MAX,
    NodeInfo,
    NodeState,
    StreamInfo,
)
from mesh.topology.linkstate.pace import Bucket
from mesh.topology.linkstate.seals import Crypto, Pins, Seals
from mesh.topology.neighbours import Neighbours
from mesh.topology.paths.paths import Paths
from mesh.topology.settings import MeshSettings
from mesh.topology.view import overlay_snapshot
from routing.errors import Reason, Refusal

RELAY_OVERHEAD_BYTES = 256      # of a Relay frame around its body
MEASURED_EVERY_S = 0.5
ROUTES_UNIT = 200               # nodes whose graph takes some 3 ms: …
ROUTES_BURST = 8.0              # … so many of those at once, and …
ROUTES_PER_S = 20.0             # … so many per second
CALM_S = 3.0                    # no route has changed for so long


class Overlay:
    """One per node. Loop thread only."""

    def __init__(self, me: NodeInfo, clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 settings: MeshSettings,
                 call_later: Callable[[float, Callable[[], None]], object] | None = None,
                 crypto: Crypto | None = None, pins: Pins | None = None) -> None:
        """call_later(seconds, work): without it gossip that must wait a few ms waits for the next tick().

        crypto, pins: keys of the node, and those that it has seen of others. Without them nothing is signed.
        """
        self.me = me
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.on_message: Callable[[str, bytes], None] = lambda source, body: None
        # names that appeared or vanished, or whose boot, epoch, streams, interest or way has changed
        self.on_nodes_changed: Callable[[set[str]], None] = lambda names: None
        self.came_by: Neighbour | None = None           # the link of the message that on_message is called with
        self._clock_s = clock_s
        self._rng = rng
        self.seals = Seals(crypto, pins, self.counts, required=settings.require_signed)
        self._envelopes = Envelopes(me.name, self.seals, lambda name: self._paths.nodes.get(name))
        self._exchange = Exchange(me, settings, self, self.counts, self.seals, clock_s(), clock_ms)
        self._states = self._exchange.states
        self._own = self._exchange.own
        self._claims = self._exchange.claims
        self._wants = Wants()
        self._paths = Paths(me)
        self._neighbours = Neighbours(self._exchange.peers, self._states, self._paths)
        self._peers = self._neighbours.peers
        self._strikes = Strikes(self.counts, clock_s)
        self._changed: set[str] = set()                 # to be told by on_nodes_changed
        self._routes_stale = False
        self._routes_changed_s = clock_s()
        self._routes_pace = Bucket(ROUTES_BURST, ROUTES_PER_S, clock_s())
        self._beat_due_s = clock_s() + rng.uniform(0.5, 1.0) * settings.gossip_interval_s
        self._measured_due_s = clock_s()
        self._timer = Timer(call_later, self.flush)
        self._wants_timer = Timer(call_later, self._want_more)

    # -- for those above --------------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, NodeState]:
        """Reachable nodes but us, by name. Not to be changed."""
        return self._paths.nodes

    def send(self, to: str, body: bytes, priority: int) -> bool:
        """False: no route, too large for the link, or its queue is full."""
        if priority <= PRIORITY_DIRECT:
            self._say_own(urgent=True)
        peers = self._next_hop(to)
        if not peers or not self._speaks(to):
            self.counts["unroutable"] += 1
            return False
        node = self._paths.nodes[to]
        if node.next_hop != to:                         # a link proves who its two ends are, and nobody else
            body = self._envelopes.wrap(node, body)
        return self._put(peers, Relay(to, self.me.name, HOPS_MAX, priority, body))

    def neighbours(self) -> list[Neighbour]:
        """Links that are up."""
        return [peer.neighbour for peer in self._peers.values()]

    def behind(self, neighbour: Neighbour) -> dict[str, str]:
        """Nodes that are reached by a neighbour now, with their sites; itself included."""
        return {name: node.site for name, node in self.nodes.items() if node.next_hop == neighbour.node}

    def send_beside(self, neighbour: Neighbour, body: bytes) -> bool:
        """To the node at the other end of a link, by that link alone: what two neighbours tell each other."""
        return neighbour.send(Relay(neighbour.node, self.me.name, 0, PRIORITY_GOSSIP, body), PRIORITY_GOSSIP)

    def set_interest(self, filters: tuple[str, ...]) -> None:
        """What this node wants; aggregated and capped by the caller (OwnInterest)."""
        self._own.set_interest(filters)
        self.flush()

    def set_streams(self, streams: Iterable[StreamInfo]) -> None:
        """Of a hundred thousand those are looked at that can be told, and one more."""
        self._own.set_streams(tuple(islice(streams, STREAMS_MAX + 1)))
        self.flush()

    def wants(self, topic: str) -> tuple[str, ...]:
        """Reachable nodes whose interest matches the topic."""
        return self._wants.of(topic)

    def edge(self, node: str) -> Neighbour | None:
        """The link by which a node is reached now, with what all links on the way there let pass."""
        self._refresh_routes()
        return self._neighbours.edge(node)

    @property
    def prefixes(self) -> frozenset[str]:
        """Of the links that are up: what they put before the topics that enter."""
        return self._neighbours.prefixes

    def tick(self, now_s: float) -> None:
        """Timers: signs of life, expiry, what could not be sent. Every 50 to 100 ms."""
        if now_s >= self._measured_due_s:               # what was not measured yet when the link came up
            self._measured_due_s = now_s + MEASURED_EVERY_S
            if any(info.skew_ms is None for info in self._own.links):
                self._refresh_links()
        if now_s >= self._beat_due_s:
            self._beat_due_s = now_s + self._rng.uniform(0.8, 1.0) * self.settings.gossip_interval_s
            self._refresh_links()
            if not self._own.dirty:
                self._own.beat(now_s)
                self._exchange.offer(self.me.name)
            self._claims.expire(now_s)
            self._strikes.clear()
        self._exchange.expire(now_s)
        self._wants.step()
        self.flush()

    # -- LinkEvents -------------------------------------------------------------------------------------------

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        now_s = self._clock_s()
        refusal = self._refuse(neighbour, now_s)
        if refusal is not None:
            self.counts["refused neighbours"] += 1
            return refusal
        lines = list(lines_of(self._states))            # who starts again must hear of its past, to get ahead of it
        known = self._states.nodes.get(neighbour.node)
        if known is not None and known.boot != neighbour.boot and neighbour.node not in self._neighbours.by_node:
            self._exchange.drop(neighbour.node)         # its past, or what somebody else has said in its name
        peer = Peer(neighbour, self.settings.gossip_rate_bytes, now_s)
        self._neighbours.add(peer)
        self._own.sign()
        self._refresh_links()
        self._update_routes()
        self._say_own(urgent=True)
        peer.greet(lines)
        peer.offer(self.me.name, self._states)
        self.flush()
        return None

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None:
        peer = self._peers.pop(id(neighbour), None)
        if peer is None:
            return
        self._strikes.forget(peer)
        if self._neighbours.remove(peer):
            self._edge_changed(neighbour.node)
        self._refresh_links()
        self._update_routes()
        self.flush()

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None:
        peer = self._peers.get(id(neighbour))
        if peer is None or peer.cut:
            return                                      # refused, or gone already
        if isinstance(frame, Relay):
            self._relay(peer, frame)
        else:
            self._exchange.received(peer, frame, self._clock_s())
            self.flush()

    # -- relay ------------------------------------------------------------------------------------------------

    def _relay(self, peer: Peer, frame: Relay) -> None:
        neighbour = peer.neighbour
        if frame.hops_left > HOPS_MAX:
            self._strikes.lie(peer, f"a relay with {frame.hops_left} hops left, at most {HOPS_MAX} are possible")
            return
        self._refresh_routes()
        if frame.source == self.me.name:
            self.strike(peer, "looped", "messages of our own came back")
        elif not self._may_come(frame.source, neighbour.node):
            self.strike(peer, "forged", f"a message of {frame.source[:64]}, which does not stand behind it")
        elif frame.to == self.me.name:
            self._deliver(neighbour, frame)
        elif not frame.hops_left:
            self.counts["hops exceeded"] += 1
        else:
            self._forward(peer, frame)

    def _deliver(self, neighbour: Neighbour, frame: Relay) -> None:
        body: bytes | None = frame.body
        if frame.source != neighbour.node:
            body = self._envelopes.open(self._paths.nodes.get(frame.source), frame.body)
        if body is None:
            self.counts["not theirs"] += 1              # who brings it may be honest, and have been given it so
            return
        self.counts["delivered"] += 1
        self.came_by = neighbour
        self.on_message(frame.source, body)

    def _may_come(self, source: str, neighbour: str) -> bool:
        """A node that is linked to us, and best reached by that link, speaks for itself; nobody passes its words on."""
        node = self._paths.nodes.get(source)
        if node is not None and node.next_hop == source:
            return neighbour == source
        return self._paths.may_come(source, neighbour)

    def _forward(self, peer: Peer, frame: Relay) -> None:
        peers = self._next_hop(frame.to)
        if not peers:
            self.counts["unroutable"] += 1
        elif peers[0].neighbour.node == peer.neighbour.node:    # the two of us see different routes: for a moment
            self.counts["looped"] += 1
        elif self._put(peers, Relay(frame.to, frame.source, frame.hops_left - 1, frame.priority, frame.body)):
            self.counts["forwarded"] += 1
            self.counts["forwarded bytes"] += len(frame.body)

    def _put(self, peers: list[Peer], frame: Relay) -> bool:
        """By the best link that takes it."""
        now_s = self._clock_s()
        for peer in peers:
            if len(frame.body) + RELAY_OVERHEAD_BYTES > peer.neighbour.frame_bytes_max:
                self.counts["too large"] += 1
                continue
            if frame.priority <= PRIORITY_DIRECT and peer.busy:
                peer.flush(self._states, now_s)
            if peer.neighbour.send(frame, frame.priority):
                return True
        self.counts["not taken"] += 1
        return False

    def _next_hop(self, to: str) -> list[Peer]:
        self._refresh_routes()
        return self._neighbours.way_to(to)

    def _speaks(self, to: str) -> bool:
        """False for a reachable node that has no version of the protocol in common with us."""
        node = self._paths.nodes.get(to)
        return node is None or node.protocol > 0

    # -- time and state ---------------------------------------------------------------------------------------

    @property
    def reachable(self) -> Container[str]:
        return self._paths.nodes

    def links_to(self, name: str) -> Iterable[Peer]:
        return self._neighbours.by_node.get(name, ())

    def state_changed(self, name: str, *, links: bool, others: bool) -> None:
        """The database has something new of a node."""
        if links:
            self._routes_stale = True
        if others:
            self._changed.add(name)

    def flush(self) -> None:
        """Say and pass on what is due, and tell those above what has changed."""
        now_s = self._clock_s()
        self._refresh_routes()
        self._say_own(urgent=False)
        for peer in list(self._peers.values()):
            if peer.busy:
                due_s = peer.due_s(now_s)
                if due_s <= now_s:
                    peer.flush(self._states, now_s)
                    due_s = peer.due_s(now_s)
                if peer.busy:
                    self._timer.at(due_s, now_s)
        if self._changed:
            names, self._changed = self._changed, set()
            for name in names:
                node = self._paths.nodes.get(name)
                self._wants.set(name, node.interest if node is not None and node.protocol else ())
            self.on_nodes_changed(names)
            if self._wants.is_behind:
                self._wants_timer.at(now_s, now_s)

    def _want_more(self) -> None:
        """The next turn: what nodes with thousands of filters want is put in place step by step."""
        if self._wants.step():
            now_s = self._clock_s()
            self._wants_timer.at(now_s, now_s)

    def _say_own(self, *, urgent: bool) -> None:
        """urgent: a message follows that must not overtake it."""
        if self._own.dirty:
            now_s = self._clock_s()
            due_s = self._own.due_s(now_s, urgent=urgent)
            if due_s > now_s:
                self._timer.at(due_s, now_s)
                return
            self._own.say(now_s)
            self._exchange.offer(self.me.name)

    def _refresh_routes(self) -> None:
        """Look at the graph anew if it has changed; less often the larger it is, should it change without end."""
        if self._routes_stale:
            now_s = self._clock_s()
            if self._routes_pace.take(max(1.0, len(self._states.nodes) / ROUTES_UNIT), now_s):
                self._update_routes()
            else:
                self._timer.at(now_s + self._routes_pace.wait_s(now_s), now_s)

    def _update_routes(self) -> None:
        self._routes_stale = False
        changed = self._paths.update(self._states, self._own.links)
        changed.update(self._neighbours.edges_changed())
        if changed:
            self._changed |= changed
            self._routes_changed_s = self._clock_s()

    def _refresh_links(self) -> None:
        """Our own links as we tell them: one per neighbour, its best. Figures change only when they differ much."""
        for node in self._neighbours.sort():
            self._edge_changed(node)
        links = self._neighbours.infos(self._own.links)
        if self._own.set_links(links):
            self._routes_stale = True

    def _edge_changed(self, neighbour: str) -> None:
        """Another link leads to the neighbour and what is behind it: its filters and prefix may differ."""
        self._changed.update(name for name, node in self._paths.nodes.items() if node.next_hop == neighbour)

    # -- bad neighbours ---------------------------------------------------------------------------------------

    def _refuse(self, neighbour: Neighbour, now_s: float) -> Refusal | None:
        name = neighbour.node
        if name == self.me.name:
            if neighbour.boot == self.me.boot:
                return Refusal(Reason.CONFLICT, "this node has dialled itself")
            self._claims.is_live(name, self.me.boot, self.me.site, neighbour.boot, neighbour.site, now_s)
            return Refusal(Reason.CONFLICT, f"duplicate node name: this node is called {name} too")
        return None                     # links to an earlier run of the neighbour are the link layer's to close

    def strike(self, peer: Peer, what: str, text: str, *, always: bool = False) -> None:
        """Something that should not be. While routes change it may happen; always: it may not."""
        calm = not self._routes_stale and self._clock_s() - self._routes_changed_s >= CALM_S \
            and peer.neighbour.node in self.nodes               # its own state has come
        self._strikes.add(peer, what, text, calm=calm, always=always)

    # -- outside ----------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What an operator should know of: duplicate names, clocks, versions."""
        found = [*self._claims.problems(), *self._own.problems, *self.seals.problems()]
        for name, node in sorted(self._paths.nodes.items()):
            if node.skew_ms is not None and abs(node.skew_ms) > self.settings.skew_warn_ms:
                found.append(f"the clock of {name} is {abs(node.skew_ms) / 1000:.1f} s "
                             f"{'ahead of' if node.skew_ms > 0 else 'behind'} this node's")
            if not node.protocol:
                found.append(f"{name} speaks protocol {node.protocol_min} to {node.protocol_max}, this node "
                             f"{self.me.protocol_min} to {self.me.protocol_max}: no events between the two")
        return found

    def snapshot(self) -> dict[str, Any]:
        """Plain values, see view.py."""
        return overlay_snapshot(self.me, self._paths.nodes, self._own, self._states, list(self._peers.values()),
                                self._wants, self.counts, self.problems(), self._clock_s())

