"""What comes in as gossip: into the database, and on to the other neighbours. Sans-IO. Used by overlay.py."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from typing import Protocol

from mesh.link.protocol.frames import Gossip
from mesh.topology.gossip.claims import Claims
from mesh.topology.gossip.flood import Peer
from mesh.topology.gossip.own import OwnState
from mesh.topology.linkstate.linkstate import AHEAD_MAX, LinkState, Outcome
from mesh.topology.linkstate.nodestate import (
    Alive,
    BadState,
    Change,
    Digest,
    DigestLine,
    NodeChange,
    NodeInfo,
    NodeRecord,
    NodeState,
    Wanted,
    Whole,
    decode_change,
    decode_entry,
    decode_record,
)
from mesh.topology.linkstate.seals import Seals
from mesh.topology.settings import MeshSettings

EXPIRE_EVERY_S = 0.5


class Host(Protocol):
    """What the overlay does for its gossip."""

    def state_changed(self, name: str, *, links: bool, others: bool) -> None:
        """The database has something new of a node."""
        ...

    def strike(self, peer: Peer, what: str, text: str, *, always: bool = False) -> None: ...

    def links_to(self, name: str) -> Iterable[Peer]:
        """Links to that node that are up: who it is has been proven there."""
        ...

    @property
    def reachable(self) -> Container[str]: ...


class Exchange:
    """The database and those that it is exchanged with."""

    def __init__(self, me: NodeInfo, settings: MeshSettings, host: Host, counts: Counter[str], seals: Seals,
                 now_s: float, clock_ms: Callable[[], int]) -> None:
        self.states = LinkState(
            expiry_s=settings.expiry_s, nodes_max=settings.nodes_max, state_bytes_max=settings.state_bytes_max,
            memory_bytes_max=settings.memory_bytes_max)
        self.seals = seals
        self.own = OwnState(me, self.states, seals, clock_ms(), now_s)
        self.claims = Claims()
        self.peers: dict[int, Peer] = {}                # id of the Neighbour → what it has
        self._me = me
        self._host = host
        self._counts = counts
        self._clock_ms = clock_ms
        self._offer_all = False
        self._expire_due_s = now_s

    def received(self, peer: Peer, frame: Gossip, now_s: float) -> None:
        size = sum(map(len, frame.states)) + 16 * len(frame.states)
        peer.received_bytes += size
        if not peer.received.take(size, now_s):
            self._host.strike(peer, "gossip excess", "endless gossip", always=True)
            return
        behind: dict[str, None] = {}
        self._offer_all = False
        for data in frame.states:
            if peer.cut:
                return
            try:
                self._take(peer, data, behind, now_s)
            except BadState as error:                   # of a newer version perhaps, or a lie
                self._host.strike(peer, "bad gossip", str(error), always=True)
        if self._offer_all and not peer.cut:
            for name in self.states.nodes:
                peer.offer(name, self.states)
        if behind:
            peer.ask(behind, now_s)

    def _take(self, peer: Peer, data: bytes, behind: dict[str, None], now_s: float) -> None:
        entry = decode_entry(data)
        if isinstance(entry, Digest):
            for line in entry.lines:
                if self._is_absurd(line.beat):
                    continue
                if line.node == self._me.name:
                    self._heard_of_us(peer, line.boot, line.version, line.beat, now_s)
                peer.saw(line.node, line.boot, line.version, line.beat, self.states)
            self._offer_all = True                      # once, however many digests a frame has
        elif isinstance(entry, Wanted):
            for name in entry.nodes:
                peer.has.pop(name, None)
                peer.offer(name, self.states)
        elif entry is None:
            self._counts["unknown gossip"] += 1
        else:
            self._take_state(peer, entry, behind, now_s)

    def _take_state(self, peer: Peer, entry: Whole | Change | Alive, behind: dict[str, None], now_s: float) -> None:
        states = self.states
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
        if self._is_absurd(beat):
            return
        if name == self._me.name:
            self._heard_of_us(peer, told.boot, version, beat, now_s)
            return
        if not states.is_old(name, told.boot, version, beat) and not self._is_sealed(peer, entry, told):
            return
        line = DigestLine(name, told.boot, version, beat)
        if self._is_hearsay(peer, line, told.site if isinstance(told, NodeRecord) else "?", now_s):
            peer.saw(name, told.boot, version, beat, states)
            return
        known = states.nodes.get(name)
        before = known.state if known is not None else None
        if isinstance(told, Alive):
            outcome = states.take_alive(told, now_s)
        elif isinstance(told, NodeChange):
            assert isinstance(entry, Change)
            links, others = told.links is not None, bool(told.added or told.removed or told.streams is not None)
            outcome = states.take_change(told, entry.change, entry.age_ms, now_s, peer.neighbour.node)
            if outcome is Outcome.NEW:
                self._host.state_changed(name, links=links, others=others)
        else:
            assert isinstance(entry, Whole)
            outcome = states.take_whole(told, entry.record, entry.age_ms, now_s, peer.neighbour.node)
            if outcome is Outcome.FULL and self._make_room():
                outcome = states.take_whole(told, entry.record, entry.age_ms, now_s, peer.neighbour.node)
            if outcome is Outcome.NEW:
                self._replaced(before, states.nodes[name].state)
        if outcome in (Outcome.EXCESS, Outcome.FULL, Outcome.CROWDED):
            self._counts[f"gossip {outcome.value}"] += 1
            return
        if outcome is Outcome.BEHIND:
            behind[name] = None
        if name in states.nodes:
            peer.saw(name, told.boot, version, beat, states)
        if outcome in (Outcome.NEW, Outcome.ALIVE):
            self.offer(name)

    def _is_sealed(self, peer: Peer, entry: Whole | Change | Alive, told: NodeRecord | NodeChange | Alive) -> bool:
        """Has the node itself said so? Raises BadState where somebody pretends that it has."""
        by = peer.neighbour.node
        if isinstance(told, NodeRecord):
            assert isinstance(entry, Whole)
            return self.seals.takes_record(told, entry.record, by, peer.neighbour.node_key)
        if isinstance(told, NodeChange):
            assert isinstance(entry, Change)
            return self.seals.takes_change(told, entry.change)
        return self.seals.takes_alive(told, by)

    def _is_hearsay(self, peer: Peer, told: DigestLine, site: str, now_s: float) -> bool:
        """What was proven beats what is said: of a node that is linked to us nobody but itself can tell us anything.
        Of two boots of one name, where neither has proven anything, the one that was known first counts.
        """
        name, boot = told.node, told.boot
        if peer.neighbour.node == name:
            if boot != peer.neighbour.boot:
                self._host.strike(peer, "forged", f"it speaks for another start of {name}", always=True)
                return True
            return False
        known = self.states.nodes.get(name)
        proven = self._host.links_to(name)
        if proven:
            self._counts["hearsay"] += 1
            if known is not None and (told.beat, boot) > known.rank and boot != known.boot:
                for one in proven:                      # others believe it: it has to get ahead of that
                    one.tell(told, now_s)
            return True
        if known is None or known.boot == boot:
            return False
        claims = self.claims
        if not claims.is_duplicate(name) and (told.beat, boot) > known.rank:
            claims.changed_boot(name, known.boot, known.state.site, boot, site, now_s)
        if not claims.is_duplicate(name):
            return False
        if claims.is_second(name, boot, now_s):
            self._counts["hearsay"] += 1
            return True
        self.drop(name)                                 # the first one says again who it is
        return False

    def drop(self, name: str) -> None:
        """Forget a node whose state is not its own."""
        if name in self.states.nodes:
            self.states.forget(name)
            self.forget(name)

    def _is_absurd(self, number: int) -> bool:
        """Nobody counts so far. Who believed it could say nothing new of that node ever after, nor could the node."""
        if number <= self._clock_ms() + AHEAD_MAX:
            return False
        self._counts["absurd numbers"] += 1
        return True

    def _replaced(self, before: NodeState | None, state: NodeState) -> None:
        """A node was told as a whole."""
        if before is None:
            self._host.state_changed(state.name, links=True, others=True)
            return
        other_boot = before.boot != state.boot
        self._host.state_changed(
            state.name, links=True,
            others=other_boot or before.interest != state.interest or before.streams != state.streams)

    def _make_room(self) -> bool:
        """A node that cannot be reached has to go for a new one."""
        found = self.states.make_room(self._host.reachable, self._me.name)
        if found is not None:
            self.forget(found)
        return found is not None

    def expire(self, now_s: float) -> None:
        if now_s < self._expire_due_s:
            return
        self._expire_due_s = now_s + EXPIRE_EVERY_S
        for name in self.states.expire(self._me.name, now_s):
            self._counts["expired"] += 1
            self.forget(name)

    def forget(self, name: str) -> None:
        """The database has let go of a node."""
        self._host.state_changed(name, links=True, others=True)
        for peer in self.peers.values():
            peer.forget(name)

    def _heard_of_us(self, peer: Peer, boot: str, version: int, beat: int, now_s: float) -> None:
        """Somebody tells us about our own name: our past, a liar, or another node that is called as we are."""
        if boot == self._me.boot:
            if beat <= self.own.number:
                peer.saw(self._me.name, boot, version, beat, self.states)
                return
            self._counts["forged own state"] += 1
        elif (beat, boot) <= self.states.nodes[self._me.name].rank:
            return
        else:
            self.claims.heard_of_us(self._me.name, self._me.boot, self._me.site, boot, now_s)
            if self.claims.is_duplicate(self._me.name):
                return                                  # it is alive: to outdo each other has no end
        self.own.get_ahead_of(beat)

    def offer(self, name: str) -> None:
        """Have a state sent to all who lack it."""
        for peer in self.peers.values():
            peer.offer(name, self.states)
