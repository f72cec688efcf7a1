"""Intake: this node as a destination. Which origin partitions it pulls, and what it wants of them.

    subscriptions, consumers, [[replicate]] ── OwnInterest: aggregated, lingering ──► per node (prefix, imports of the
    link that leads there) ──► per stream (its captures) ──► Branch ──► Flow
"""
from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from mesh.publishers import Publishers
from mesh.replication.incoming.arrived import Arrived
from mesh.replication.incoming.branch import Branch
from mesh.replication.incoming.late import Wishes
from mesh.replication.incoming.needs import HistoryNeeds
from mesh.replication.incoming.peers import Peers
from mesh.replication.incoming.pulling import Pulling
from mesh.replication.incoming.syncing import Syncing
from mesh.replication.messages import Message
from mesh.replication.retained import RetainedIntake
from mesh.replication.settings import ReplicationConfig
from mesh.topology.interest.interest import OwnInterest
from routing.consumers.consumer import Consumer
from routing.event import OriginPartition
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from routing.router import Router

log = logging.getLogger(__name__)

PLAN_STEP: Final = 64           # partitions per turn
PLAN_S: Final = 1.0             # how often missing history is looked for


class Intake:
    """See the module's head. Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Callable[[str, Message, int], bool],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 config: ReplicationConfig, publishers: Publishers) -> None:
        limits = config.limits
        self.branches: dict[OriginPartition, Branch] = {}
        self.pulling = Pulling(router, overlay, send, clock_s, clock_ms, rng, limits, publishers)
        self.replicas = router.replicas
        self.refusals = self.pulling.refusals
        self.wishes = Wishes(router.state, clock_ms, limits.filters_max)
        self.peers = Peers(self.pulling, self.branches, router, overlay)
        self.retained = RetainedIntake(router, send, self.peers, clock_s, rng)
        self.arrived = Arrived(router, self.pulling.skew_ms)
        self.needs = HistoryNeeds(
            self.pulling, self.branches, self.wishes, self.arrived, router, overlay, config.replicate)
        self._interest = OwnInterest(filters_max=limits.filters_max, linger_s=limits.linger_s)
        self.syncing = Syncing(self.pulling, self.branches, self.peers, self._interest, self.wishes, self.needs,
                               self.retained, router, overlay)
        self.pulling.on_sync = self.syncing.sync_soon
        self.pulling.on_published = self.arrived.published
        self.pulling.on_counts = self.retained.go_on
        router.retained.elsewhere = self.peers.has_retained
        self._config = config
        self._limits = limits
        self._clock_s = clock_s
        self._router = router
        self._overlay = overlay
        self._pulled_nodes: set[str] = set()            # from which something was pulled before this start
        self._planning = self._closed = False
        self._plan_due_s = 0.0
        self._told_of_widening = False

    # -- interest ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.syncing.linger_until_s = self._clock_s() + self._limits.linger_s
        counting: list[tuple[str, Iterable[str]]] = []
        for origin, number in self.replicas.flows():
            history = Branch(self.pulling, origin).stored_history()
            if number or history.counting(self.replicas.floor(origin, 0) or 0):
                self.syncing.unfinished.add(origin)
            if number == 0:
                counting.append((origin.node, history.open()))
        self._pulled_nodes = {node for node, _ in counting}
        wanted = [*(table.filter for table in self._config.replicate), *self._router.wanted]
        self.wishes.restore(wanted, counting)
        for pattern in wanted:
            self._want(pattern)
        registry = self._router.registry
        for consumer in registry.by_name.values():
            self._opened(consumer)
        registry.on_opened.append(self._opened)
        registry.on_filter.append(self._filter_added)
        self.syncing.sync()

    def wanted_changed(self, pattern: str, added: bool) -> None:
        """Somebody here wants a filter, or nobody does any more."""
        if added:
            self._want(pattern)
            self.syncing.sync_soon()
        elif not self._is_configured(pattern):
            self._interest.unwant(pattern, self._clock_s())      # it lingers, see tick()
            self.wishes.unwant(pattern, self._clock_s())

    def _want(self, pattern: str) -> None:
        changed = self._interest.want(pattern)
        self.wishes.want(pattern, self._known_nodes(), lambda: self._interest.filters, changed=changed,
                         durable=self._is_configured(pattern))

    def _is_configured(self, pattern: str) -> bool:
        return any(table.filter == pattern for table in self._config.replicate)

    def _opened(self, consumer: Consumer) -> None:
        """ConsumerRegistry.on_opened: it may be durable from here on."""
        for pattern in consumer.filters:
            self._filter_added(consumer, pattern)

    def _filter_added(self, consumer: Consumer, pattern: str) -> None:
        """ConsumerRegistry.on_filter."""
        if consumer.spec.durable:
            self.wishes.keep(pattern)

    def _known_nodes(self) -> Iterable[str]:
        """Nodes from which something is pulled, or was."""
        return self.peers.by_name.keys() | self._pulled_nodes

    @property
    def widened(self) -> bool:
        """More is pulled than is wanted, since the filters would be too many otherwise."""
        return self._interest.widened

    @property
    def filters(self) -> tuple[str, ...]:
        """What this node wants of the others."""
        return self._interest.filters

    # -- nodes ------------------------------------------------------------------------------------------------

    def nodes_changed(self, names: set[str]) -> None:
        """Nodes appeared, vanished or changed. What they want of us does not matter here."""
        nodes = self._overlay.nodes
        changed: set[str] = set()
        for name in names:
            node, peer = nodes.get(name), self.peers.by_name.get(name)
            if node is None:
                if peer is not None:
                    peer.away = True
                    self.retained.drop(name)
                for branch in self.branches.values():
                    if branch.origin.node == name:
                        for flow in branch.flows():
                            flow.set_reachable(False)
            elif peer is None or peer.differs(node):
                changed.add(name)
        if changed:
            self.syncing.sync(changed)

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        self.pulling.run_timers(now_s)
        if self._interest.tick(now_s):
            self.syncing.sync_soon()
        self.syncing.tick(now_s)
        if now_s >= self._plan_due_s:
            self._plan_due_s = now_s + PLAN_S
            self.plan()
        self.pulling.tick_flows(now_s)
        self.retained.tick(now_s)

    def look_again(self) -> None:
        """Streams of ours are not what they were."""
        self._plan_due_s = 0.0

    def plan(self) -> None:
        """Begin back-fills, let go of what is idle, follow the ways. Once in a while."""
        if self.widened and not self._told_of_widening:
            log.warning("more than %d filters are wanted here: some were joined into wider ones, so more is pulled "
                        "than is wanted ([replication] filters_max)", self._limits.filters_max)
        self._told_of_widening = self.widened
        self.wishes.forget(self._clock_s() - self._limits.linger_s)
        self._note_told()
        if not self._planning:
            self._planning = True
            in_steps(self._router, self._plan_branches())

    def _plan_branches(self) -> Iterator[None]:
        """A step is PLAN_STEP partitions."""
        try:
            needs = self.needs.everywhere()
            placed = self.needs.placed()
            self.arrived.has_all(self.branches.keys(), self.needs.is_met)
            for count, branch in enumerate(list(self.branches.values()), 1):
                if count % PLAN_STEP == 0:
                    yield
                    if self._closed:
                        return
                if self.branches.get(branch.origin) is not branch:
                    continue
                if branch.is_idle():
                    branch.close(forget=True)
                    del self.branches[branch.origin]
                    continue
                only, prefix = self.pulling.border(branch.origin.node)
                for flow in branch.flows():
                    flow.limit(only, prefix)                # the way may lead over another link by now
                branch.plan(self.needs.of(branch, needs, placed))
                branch.live.plan_stored()
        finally:
            self._planning = False

    def _note_told(self) -> None:
        """Filters that count in every partition of a node are no news to it."""
        if self.syncing.due_s is not None:
            return
        for name in self.wishes.untold:
            node = self._overlay.nodes.get(name)
            if node is not None:
                captures = {stream.name: stream.captures for stream in node.streams}
                self.wishes.told(name, self.pulling.border(name)[1], {      # most of its partitions count the same
                    (captures.get(branch.origin.stream, ()), tuple(branch.live.history.open()))
                    for branch in self.branches.values() if branch.origin.node == name})

    def close(self) -> None:
        self._closed = True
        self.syncing.close()
        for branch in self.branches.values():
            branch.close(forget=False)
