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
from collections.abc import Callable, Iterable
from typing import Any

from mesh.link.frames import HOPS_MAX, PRIORITY_DIRECT, Gossip, Relay
from mesh.link.neighbour import Neighbour
from mesh.topology.claims import Claims
from mesh.topology.flood import Peer, Timer, lines_of
from mesh.topology.interest import Wants
from mesh.topology.linkstate import LinkState, Outcome
from mesh.topology.nodestate import (
    Alive,
    BadState,
    Change,
    Digest,
    LinkInfo,
    NodeChange,
    NodeInfo,
    NodeRecord,
    NodeState,
    StreamInfo,
    Wanted,
    Whole,
    decode_change,
    decode_entry,
    decode_record,
)
from mesh.topology.own import OwnState
from mesh.topology.paths import Paths
from mesh.topology.settings import MeshSettings
from mesh.topology.view import overlay_snapshot
from routing.errors import Reason, Refusal

RELAY_OVERHEAD_BYTES = 256      # of a Relay frame around its body
STRIKES_MAX = 16                # frames that cannot be, from one neighbour while the mesh is calm: it lies
CALM_S = 3.0                    # no route has changed for so long
SKEW_STEP_MS = 200              # a smaller change of a clock is not worth telling


class Overlay:
    """One per node. Loop thread only."""

    def __init__(self, me: NodeInfo, clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 settings: MeshSettings,
                 call_later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        """call_later(seconds, work): without it gossip that must wait a few ms waits for the next tick()."""
        self.me = me
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.on_message: Callable[[str, bytes], None] = lambda source, body: None
        # names that appeared or vanished, or whose boot, epoch, streams, interest or way has changed
        self.on_nodes_changed: Callable[[set[str]], None] = lambda names: None
        self._clock_s = clock_s
        self._rng = rng
        self._states = LinkState(
            expiry_s=settings.expiry_s, nodes_max=settings.nodes_max, state_bytes_max=settings.state_bytes_max)
        self._own = OwnState(me, self._states, clock_ms(), clock_s())
        self._claims = Claims()
        self._wants = Wants()
        self._peers: dict[int, Peer] = {}               # id of the Neighbour → what it has
        self._by_node: dict[str, list[Peer]] = {}       # neighbour → its links, the best one first
        self._paths = Paths(me)
        self._strikes: Counter[int] = Counter()
        self._changed: set[str] = set()                 # to be told by on_nodes_changed
        self._routes_stale = False
        self._routes_changed_s = clock_s()
        self._beat_due_s = clock_s() + rng.uniform(0.5, 1.0) * settings.gossip_interval_s
        self._timer = Timer(call_later, self.flush)

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
        return self._put(peers, Relay(to, self.me.name, HOPS_MAX, priority, body))

    def set_interest(self, filters: tuple[str, ...]) -> None:
        """What this node wants; aggregated and capped by the caller (OwnInterest)."""
        self._own.set_interest(filters)
        self.flush()

    def set_streams(self, streams: Iterable[StreamInfo]) -> None:
        self._own.set_streams(tuple(streams))
        self.flush()

    def wants(self, topic: str) -> tuple[str, ...]:
        """Reachable nodes whose interest matches the topic."""
        return self._wants.of(topic)

    def edge(self, node: str) -> Neighbour | None:
        """The link by which a node is reached now."""
        peers = self._next_hop(node)
        return peers[0].neighbour if peers else None

    @property
    def prefixes(self) -> frozenset[str]:
        """Of the links that are up: what they put before the topics that enter."""
        return frozenset(peer.neighbour.prefix for peer in self._peers.values() if peer.neighbour.prefix)

    def tick(self, now_s: float) -> None:
        """Timers: signs of life, expiry, what could not be sent. Every 50 to 100 ms."""
        if now_s >= self._beat_due_s:
            self._beat_due_s = now_s + self._rng.uniform(0.8, 1.0) * self.settings.gossip_interval_s
            self._refresh_links()
            if not self._own.dirty:
                self._own.beat(now_s)
                self._offer(self.me.name)
            self._claims.expire(now_s)
            self._strikes.clear()
        for name in self._states.expire(self.me.name, now_s):
            self._vanished(name)
        self.flush()

    # -- LinkEvents -------------------------------------------------------------------------------------------

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        now_s = self._clock_s()
        refusal = self._refuse(neighbour, now_s)
        if refusal is not None:
            self.counts["refused neighbours"] += 1
            return refusal
        peer = Peer(neighbour, self.settings.gossip_bytes_per_s, now_s)
        self._peers[id(neighbour)] = peer
        self._by_node.setdefault(neighbour.node, []).append(peer)
        self._refresh_links()
        self._say_own(urgent=True)
        peer.greet(lines_of(self._states))
        peer.offer(self.me.name, self._states)
        self.flush()
        return None

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None:
        peer = self._peers.pop(id(neighbour), None)
        self._strikes.pop(id(neighbour), None)
        if peer is None:
            return
        left = self._by_node[neighbour.node]
        if left[0] is peer:
            self._edge_changed(neighbour.node)
        left.remove(peer)
        if not left:
            del self._by_node[neighbour.node]
        self._refresh_links()
        self.flush()

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None:
        peer = self._peers.get(id(neighbour))
        if peer is None:
            return                                      # refused, or gone already
        if isinstance(frame, Relay):
            self._relay(peer, frame)
        else:
            self._gossip(peer, frame)

    # -- relay ------------------------------------------------------------------------------------------------

    def _relay(self, peer: Peer, frame: Relay) -> None:
        neighbour = peer.neighbour
        if frame.hops_left > HOPS_MAX:
            self._lie(peer, f"a relay with {frame.hops_left} hops left, at most {HOPS_MAX} are possible")
            return
        if self._routes_stale:
            self._update_routes()
        if frame.source == self.me.name:
            self._strike(peer, "looped", "messages of our own came back")
        elif not self._paths.may_come(frame.source, neighbour.node):
            self._strike(peer, "forged", f"a message of {frame.source[:64]}, which does not stand behind it")
        elif frame.to == self.me.name:
            self.counts["delivered"] += 1
            self.on_message(frame.source, frame.body)
        elif not frame.hops_left:
            self.counts["hops exceeded"] += 1
        else:
            self._forward(peer, frame)

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
        if self._routes_stale:
            self._update_routes()
        node = self._paths.nodes.get(to)
        return self._by_node.get(node.next_hop, []) if node is not None else []

    def _speaks(self, to: str) -> bool:
        """False for a reachable node that has no version of the protocol in common with us."""
        node = self._paths.nodes.get(to)
        return node is None or node.protocol > 0

    # -- gossip -----------------------------------------------------------------------------------------------

    def _gossip(self, peer: Peer, frame: Gossip) -> None:
        now_s = self._clock_s()
        size = sum(map(len, frame.states)) + 16 * len(frame.states)
        peer.received_bytes += size
        if not peer.received.take(size, now_s):
            self.counts["gossip excess"] += 1
            self._strike(peer, "gossip excess", "endless gossip", always=True)
            return
        behind: dict[str, None] = {}
        for data in frame.states:
            try:
                self._take(peer, data, behind, now_s)
            except BadState as error:                   # of a newer version perhaps, or a lie
                self._strike(peer, "bad gossip", str(error), always=True)
        if behind:
            peer.ask(behind, now_s)
        self.flush()

    def _take(self, peer: Peer, data: bytes, behind: dict[str, None], now_s: float) -> None:
        entry = decode_entry(data)
        if isinstance(entry, Digest):
            for line in entry.lines:
                if line.node == self.me.name:
                    self._heard_of_us(peer, line.boot, line.version, line.beat, now_s)
                peer.saw(line.node, line.boot, line.version, line.beat, self._states)
            for name in self._states.nodes:
                peer.offer(name, self._states)
        elif isinstance(entry, Wanted):
            for name in entry.nodes:
                peer.has.pop(name, None)
                peer.offer(name, self._states)
        elif entry is None:
            self.counts["unknown gossip"] += 1
        else:
            self._take_state(peer, entry, behind, now_s)

    def _take_state(self, peer: Peer, entry: Whole | Change | Alive, behind: dict[str, None], now_s: float) -> None:
        states = self._states
        told: NodeRecord | NodeChange | Alive
        if isinstance(entry, Whole):
            states.check_size(len(entry.record))
            told = decode_record(entry.record)
        elif isinstance(entry, Change):
            states.check_size(len(entry.change))
            told = decode_change(entry.change)
        else:
            told = entry
        version, beat = (told.version, told.beat) if isinstance(told, Alive) else (told.sequence, told.sequence)
        name = told.node
        if name == self.me.name:
            if isinstance(told, NodeRecord) and told.boot != self.me.boot:
                self._claims.note(name, told.boot, told.started_ms, told.site, now_s)
            self._heard_of_us(peer, told.boot, version, beat, now_s)
            return
        known = states.nodes.get(name)
        before = known.state if known is not None else None
        if isinstance(told, Alive):
            outcome = states.take_alive(told, now_s)
        elif isinstance(told, NodeChange):
            assert isinstance(entry, Change)
            links, others = told.links is not None, bool(told.added or told.removed or told.streams is not None)
            outcome = states.take_change(told, entry.change, entry.age_ms, now_s)
            if outcome is Outcome.NEW:
                self._state_changed(name, links=links, others=others)
        else:
            assert isinstance(entry, Whole)
            outcome = states.take_whole(told, entry.record, entry.age_ms, now_s)
            if outcome is Outcome.FULL and states.make_room(self._paths.nodes.keys() | {self.me.name}):
                outcome = states.take_whole(told, entry.record, entry.age_ms, now_s)
            if outcome is Outcome.NEW:
                self._replaced(before, states.nodes[name].state, now_s)
        if outcome in (Outcome.EXCESS, Outcome.FULL):
            self.counts[f"gossip {outcome.value}"] += 1
            return
        if outcome is Outcome.BEHIND:
            behind[name] = None
        if name in states.nodes:
            peer.saw(name, told.boot, version, beat, states)
        if outcome in (Outcome.NEW, Outcome.ALIVE):
            self._offer(name)

    def _replaced(self, before: NodeState | None, state: NodeState, now_s: float) -> None:
        """A node was told as a whole."""
        if before is None:
            self._state_changed(state.name, links=True, others=True)
            return
        other_boot = before.boot != state.boot
        if other_boot and self._claims.changed_boot(before, state, now_s):
            self._expel(state.name)
        self._state_changed(
            state.name, links=True,
            others=other_boot or before.interest != state.interest or before.streams != state.streams)

    def _state_changed(self, name: str, *, links: bool, others: bool) -> None:
        if links:
            self._routes_stale = True
        if others:
            self._changed.add(name)

    def _heard_of_us(self, peer: Peer, boot: str, version: int, beat: int, now_s: float) -> None:
        """Somebody tells us about our own name: our past, a liar, or another node that is called as we are."""
        if boot == self.me.boot:
            if beat <= self._own.number:
                peer.saw(self.me.name, boot, version, beat, self._states)
                return
            self.counts["forged own state"] += 1
        elif (beat, boot) <= self._states.nodes[self.me.name].rank:
            return
        else:
            self._claims.heard_of_us(self.me.name, self.me.boot, self._own.started_ms, self.me.site, boot, now_s)
            if self._claims.has_to_go(self.me.name, self.me.boot):
                return                                  # the other one was here first
        self._own.get_ahead_of(beat)

    def _expel(self, name: str) -> None:
        """Two nodes are called so: cut the links of the one that has to go."""
        for peer in list(self._by_node.get(name, ())):
            if self._claims.has_to_go(name, peer.neighbour.boot):
                self._lie(peer, f"duplicate node name: another node is called {name}")

    def _offer(self, name: str) -> None:
        for peer in self._peers.values():
            peer.offer(name, self._states)

    # -- time and state ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Say and pass on what is due, and tell those above what has changed."""
        now_s = self._clock_s()
        if self._routes_stale:
            self._update_routes()
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

    def _say_own(self, *, urgent: bool) -> None:
        """urgent: a message follows that must not overtake it."""
        if self._own.dirty:
            now_s = self._clock_s()
            due_s = self._own.due_s(now_s, urgent=urgent)
            if due_s > now_s:
                self._timer.at(due_s, now_s)
                return
            self._own.say(now_s)
            self._offer(self.me.name)

    def _update_routes(self) -> None:
        self._routes_stale = False
        changed = self._paths.update(self._states, self._own.links)
        if changed:
            self._changed |= changed
            self._routes_changed_s = self._clock_s()

    def _vanished(self, name: str) -> None:
        self.counts["expired"] += 1
        self._state_changed(name, links=True, others=True)
        for peer in self._peers.values():
            peer.forget(name)

    def _refresh_links(self) -> None:
        """Our own links as we tell them: one per neighbour, its best. Figures change only when they differ much."""
        told = {info.node: info for info in self._own.links}
        for node, peers in self._by_node.items():
            best = peers[0]
            peers.sort(key=self._preference)
            if peers[0] is not best:
                self._edge_changed(node)
            told[node] = link_info(peers[0].neighbour, told.get(node))
        links = tuple(told[node] for node in sorted(self._by_node))
        if self._own.set_links(links):
            self._routes_stale = True

    def _edge_changed(self, neighbour: str) -> None:
        """Another link leads to the neighbour and what is behind it: its filters and prefix may differ."""
        self._changed.update(name for name, node in self._paths.nodes.items() if node.next_hop == neighbour)

    def _preference(self, peer: Peer) -> tuple[bool, int, float, str]:
        """Order of parallel links. One to an earlier run of the neighbour goes last: it is about to break."""
        neighbour = peer.neighbour
        known = self._states.nodes.get(neighbour.node)
        stale = known is not None and known.boot != neighbour.boot
        return stale, neighbour.cost, neighbour.rtt_s or 0.0, neighbour.link

    # -- bad neighbours ---------------------------------------------------------------------------------------

    def _refuse(self, neighbour: Neighbour, now_s: float) -> Refusal | None:
        name = neighbour.node
        if name == self.me.name:
            if neighbour.boot == self.me.boot:
                return Refusal(Reason.CONFLICT, "this node has dialled itself")
            self._claims.is_live(name, neighbour.boot, neighbour.site, now_s)
            return Refusal(Reason.CONFLICT, f"duplicate node name: this node is called {name} too")
        if self._claims.has_to_go(name, neighbour.boot):
            return Refusal(Reason.CONFLICT, f"duplicate node name: another node is called {name}")
        return None                     # links to an earlier run of the neighbour are the link layer's to close

    def _strike(self, peer: Peer, what: str, text: str, *, always: bool = False) -> None:
        """Something that should not be. While routes change it may happen; always: it may not."""
        self.counts[what] += 1
        if always or self._clock_s() - self._routes_changed_s >= CALM_S:
            self._strikes[id(peer.neighbour)] += 1
            if self._strikes[id(peer.neighbour)] > STRIKES_MAX:
                self._lie(peer, text)

    def _lie(self, peer: Peer, text: str) -> None:
        """The link layer says goodbye and closes; neighbour_down follows."""
        self.counts["lies"] += 1
        self._strikes.pop(id(peer.neighbour), None)
        peer.neighbour.lied(text)

    # -- outside ----------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What an operator should know of: duplicate names, clocks, versions."""
        found = self._claims.problems() + self._own.problems
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


def link_info(neighbour: Neighbour, told: LinkInfo | None) -> LinkInfo:
    """told: what we said before; it stays while the figures are about the same."""
    skew_ms = None if neighbour.skew_ms is None else round(neighbour.skew_ms)
    rtt_us = None if neighbour.rtt_s is None else round(neighbour.rtt_s * 1e6)
    if told is not None and told.cost == neighbour.cost:
        same_skew = told.skew_ms == skew_ms or (
            told.skew_ms is not None and skew_ms is not None and abs(told.skew_ms - skew_ms) < SKEW_STEP_MS)
        same_rtt = told.rtt_us == rtt_us or (
            told.rtt_us is not None and rtt_us is not None and told.rtt_us / 2 <= rtt_us <= told.rtt_us * 2 + 1000)
        if same_skew and same_rtt:
            return told
    return LinkInfo(neighbour.node, neighbour.cost, "up", skew_ms, rtt_us)
