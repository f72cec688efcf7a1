"""Intake: this node as a destination. Which origin partitions it pulls, and what it wants of them.

    subscriptions, consumers, [[replicate]] ── OwnInterest: aggregated, lingering ──► per node (prefix, imports of the
    link that leads there) ──► per stream (its captures) ──► Branch ──► Flow
"""
from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from mesh.publishers import Publishers
from mesh.replication.branch import Branch, Needs, latest
from mesh.replication.caches import CacheMemory
from mesh.replication.destination import Flow
from mesh.replication.filters import Selection, strip_prefix
from mesh.replication.late import LATE_MS, Wishes, may_hold
from mesh.replication.messages import BY_TIME, Batch, Message, Problem, Want
from mesh.replication.needs import HistoryNeeds
from mesh.replication.retained import RetainedIntake
from mesh.replication.settings import ReplicationConfig
from mesh.topology.covering import Covering
from mesh.topology.interest import OwnInterest
from mesh.topology.pace import Bucket
from routing.consumers.consumer import Consumer
from routing.event import OriginPartition
from routing.fairness.steps import in_steps

if TYPE_CHECKING:
    from mesh.link.neighbour import Neighbour
    from mesh.replication.handover import Handover
    from mesh.topology.nodestate import NodeInfo, NodeState
    from routing.replicas.replicas import Replicas
    from routing.router import Router
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

EVERYTHING: Final = "#"
SYNC_BURST: Final = 20          # so many times at once what has changed in a turn of the loop is told in it, then …
SYNCS_PER_S: Final = 20.0       # … so many times per second: who subscribes for an answer publishes the request next
SYNC_STEP: Final = 128          # partitions looked at per turn, some 5 ms; …
OPEN_COST: Final = 8            # … a new one takes as long as so many
FITTING_COST: Final = 40        # … so many pairs of a filter and a capture as one
PLAN_STEP: Final = 64           # partitions per turn
PLAN_S: Final = 1.0             # how often missing history is looked for
PARTITIONS_MAX: Final = 512     # of one node; a gossip can claim any number, and each costs a flow that is looked after
WINDOW_LEAST_BYTES: Final = 64 * 1024


Found = dict[tuple[bool, tuple[str, ...], tuple[str, ...]], dict[str, Want]]    # see Intake._sync_branch


class Overlay(Protocol):
    """What of mesh/topology/overlay.py is used here."""

    me: NodeInfo

    @property
    def nodes(self) -> dict[str, NodeState]: ...
    def send(self, to: str, body: bytes, priority: int) -> bool: ...
    def edge(self, node: str) -> Neighbour | None: ...


class Peer:
    """What we last saw of a node."""

    __slots__ = ("away", "boot", "epoch", "streams", "told_of_bound", "whole")

    def __init__(self, node: NodeState) -> None:
        self.epoch = node.epoch
        self.boot = node.boot
        self.streams = node.streams
        self.away = False
        self.told_of_bound = False
        self.whole = Covering()                 # filters whose retained events are all here

    def differs(self, node: NodeState) -> bool:
        return self.away or (self.epoch, self.boot, self.streams) != (node.epoch, node.boot, node.streams)


class Intake:
    """See the module's head. Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Callable[[str, Message, int], bool],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 config: ReplicationConfig, publishers: Publishers) -> None:
        self.publishers = publishers
        self.replicas: Replicas = router.replicas
        self.limits = config.limits
        self.caches = CacheMemory(self.limits.cache_bytes)
        self.send = send
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.rng = rng
        self.branches: dict[OriginPartition, Branch] = {}
        self.refusals: Counter[str] = Counter()         # node → messages that we did not believe
        self.retained = RetainedIntake(router, send, self, clock_s, rng)
        router.retained.elsewhere = self.has_retained
        self.handover: Handover | None = None           # set by replication.py
        self.needs = HistoryNeeds(self, router, overlay, config.replicate)
        self._config = config
        self._router = router
        self._overlay = overlay
        self._flows: dict[int, Flow] = {}               # by token
        self._unfinished: set[OriginPartition] = set()  # stored flows that want something still
        self._linger_until_s = 0.0                      # what was wanted before the start may be wanted again
        self._interest = OwnInterest(filters_max=self.limits.filters_max, linger_s=self.limits.linger_s)
        self._peers: dict[str, Peer] = {}
        self._borders: dict[str, tuple[tuple[str, ...], str]] = {}
        self._pulled_nodes: set[str] = set()            # from which something was pulled before this start
        self.wishes = Wishes(router.state, clock_ms, self.limits.filters_max)
        self._unsynced: dict[str, None] = {}            # nodes whose flows are to be brought in line
        self._syncing = self._planning = self._closed = False
        self._sync_due_s: float | None = None
        self._sync_pace = Bucket(SYNC_BURST, SYNCS_PER_S, clock_s())
        self._plan_due_s = 0.0
        self._told_of_widening = False
        self._timers: list[tuple[float, Callable[[], None]]] = []

    # -- interest ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._linger_until_s = self.clock_s() + self.limits.linger_s
        counting: list[tuple[str, Iterable[str]]] = []
        for origin, number in self.replicas.flows():
            history = Branch(self, origin).stored_history()
            if number or history.counting(self.replicas.floor(origin, 0) or 0):
                self._unfinished.add(origin)
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
        self.sync()

    def wanted_changed(self, pattern: str, added: bool) -> None:
        """Somebody here wants a filter, or nobody does any more."""
        if added:
            self._want(pattern)
            self.sync_soon()
        elif not self._is_configured(pattern):
            self._interest.unwant(pattern, self.clock_s())      # it lingers, see tick()
            self.wishes.unwant(pattern, self.clock_s())

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
        return self._peers.keys() | self._pulled_nodes

    @property
    def widened(self) -> bool:
        """More is pulled than is wanted, since the filters would be too many otherwise."""
        return self._interest.widened

    @property
    def filters(self) -> tuple[str, ...]:
        """What this node wants of the others."""
        return self._interest.filters

    def sync_soon(self) -> None:
        """Have sync() called: at the end of this turn of the loop, or later where that happens often."""
        if self._sync_due_s is None:
            now_s = self.clock_s()
            self._sync_due_s = now_s + self._sync_pace.wait_s(now_s)
            if self._sync_pace.take(1, now_s):
                self._router.call_soon(self._sync_if_due)

    def _sync_if_due(self) -> None:
        if self._sync_due_s is not None and self.clock_s() >= self._sync_due_s:
            self.sync()

    def sync(self, names: Iterable[str] | None = None) -> None:
        """Bring the flows from these nodes, None: from all, in line with what is wanted now."""
        if names is None:
            self._sync_due_s = None
        self._unsynced.update(dict.fromkeys(list(self._overlay.nodes) if names is None else names))
        if self._unsynced and not self._syncing:
            self._syncing = True
            in_steps(self._router, self._sync_nodes())

    def _sync_nodes(self) -> Iterator[None]:
        """A step is SYNC_STEP partitions. A node that changes meanwhile comes again, after the others."""
        try:
            budget = SYNC_STEP
            needs: Needs | None = None
            while self._unsynced:
                name = next(iter(self._unsynced))
                del self._unsynced[name]
                node = self._overlay.nodes.get(name)
                if node is None:
                    continue
                needs = self.needs.everywhere() if needs is None else needs
                start = node.epoch, node.boot
                for cost in self._sync_node(node, needs):
                    budget -= cost
                    if budget > 0:
                        continue
                    yield
                    if self._closed:
                        return
                    budget, needs = SYNC_STEP, None
                    now = self._overlay.nodes.get(name)
                    if now is None or (now.epoch, now.boot) != start:
                        break                               # nodes_changed() knows of it
                budget -= 1
        finally:
            self._syncing = False

    def _sync_node(self, node: NodeState, needs: Needs) -> Iterator[int]:
        """Yields what each partition has cost."""
        filters = self._filters_for(node.name)
        peer = self._peers.get(node.name)
        if peer is None or (peer.epoch, peer.boot) != (node.epoch, node.boot):
            if peer is not None:
                self._began_anew(node)
            peer = self._peers[node.name] = Peer(node)
        peer.away = False
        peer.streams = node.streams
        left = PARTITIONS_MAX
        found: Found = {}
        for stream in node.streams:
            fitting = [pattern for pattern in filters if may_hold(stream.captures, pattern)]
            yield len(filters) * len(stream.captures) // FITTING_COST
            if stream.partitions > left and not peer.told_of_bound:
                peer.told_of_bound = True
                log.error("node %s claims more than %d partitions; the rest is not pulled", node.name, PARTITIONS_MAX)
            count = min(stream.partitions, left)
            left -= count
            for index in range(count):
                origin = self._router.origins.of(node.name, node.epoch, stream.name, index)
                branch = self.branches.get(origin)
                if branch is None:
                    if not fitting and origin not in self._unfinished:
                        continue
                    if len(self.branches) >= self.limits.flows_max:
                        self.refusals[node.name] += 1
                        return
                    self._unfinished.discard(origin)
                    branch = self._open(origin)
                    yield OPEN_COST
                self._sync_branch(branch, node, stream.captures, fitting, needs, found)
                yield 1
        whole = [pattern for pattern in filters if peer.whole.covers(pattern)]
        peer.whole = Covering(whole)
        for pattern in set(filters).difference(whole):
            self.retained.want(node.name, node.epoch, pattern)
        self.retained.go_on(node.name)

    def _sync_branch(self, branch: Branch, node: NodeState, captures: tuple[str, ...], fitting: list[str],
                     needs: Needs, found: Found) -> None:
        live = branch.live
        only, prefix = self.border(branch.origin.node)
        for flow in branch.flows():
            flow.limit(only, prefix)
        skew_ms = self.needs.skew_ms(node.name)
        before = live.history.open()
        fresh = not before and branch.is_fresh()
        earlier = self._open_in_other_epochs(branch.origin) if fresh else list(before)
        key = fresh, tuple(captures), tuple(earlier)
        desired = found.get(key)                # the same for most partitions of a node
        if desired is None:
            desired = found[key] = self._desired(node, captures, fitting, needs, earlier, prefix, skew_ms, fresh=fresh)
        live.sync(desired)
        for flow in branch.flows():             # with all that is wanted: what is sent before is not sent again
            flow.set_reachable(True)

    def _desired(self, node: NodeState, captures: tuple[str, ...], fitting: list[str], needs: Needs,
                 before: list[str], prefix: str, skew_ms: int, *, fresh: bool) -> dict[str, Want]:
        if fresh:
            return self.wishes.first_wants(captures, fitting, before, needs, prefix, skew_ms)
        desired = {pattern: latest(pattern) for pattern in fitting}
        desired.update(self.wishes.wants(node.name, captures, fitting, before, prefix, skew_ms))
        if self.clock_s() < self._linger_until_s:
            desired.update((pattern, latest(pattern)) for pattern in before)
        return desired

    def _open_in_other_epochs(self, origin: OriginPartition) -> list[str]:
        """Filters that were live on this partition before its log was made anew."""
        found: list[str] = []
        for other, number in self.replicas.flows_of(origin.node, origin.stream):
            if number == 0 and other.epoch != origin.epoch:
                branch = self.branches.get(other) or Branch(self, other)
                found.extend(branch.stored_history().open())
        return found

    def _filters_for(self, node: str) -> list[str]:
        """What is wanted of a node, in its own terms: without the prefix that its topics get on the way in."""
        _, prefix = self.border(node)
        found = (strip_prefix(pattern, prefix) for pattern in self._interest.filters)
        return sorted({pattern for pattern in found if pattern is not None})

    def border(self, node: str) -> tuple[tuple[str, ...], str]:
        """Imports (empty: all) and prefix of the link by which a node is reached, or was."""
        edge = self._overlay.edge(node)
        if edge is not None:
            prefix = edge.prefix if not edge.prefix or edge.prefix.endswith("/") else edge.prefix + "/"
            self._borders[node] = (() if EVERYTHING in edge.imports else tuple(edge.imports)), prefix
        return self._borders.get(node, ((), ""))

    # -- nodes ------------------------------------------------------------------------------------------------

    def nodes_changed(self, names: set[str]) -> None:
        """Nodes appeared, vanished or changed. What they want of us does not matter here."""
        nodes = self._overlay.nodes
        changed: set[str] = set()
        for name in names:
            node, peer = nodes.get(name), self._peers.get(name)
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
            self.sync(changed)

    def _began_anew(self, node: NodeState) -> None:
        """The node was restarted; its log may be another one."""
        self.retained.drop(node.name)
        for branch in [branch for branch in self.branches.values() if branch.origin.node == node.name]:
            if branch.origin.epoch != node.epoch:
                log.warning("node %s has a new log: %s is not pulled any more", node.name, branch.origin.text)
                branch.close(forget=False)
                del self.branches[branch.origin]
            else:
                for flow in branch.flows():
                    flow.set_reachable(False)           # whatever was under way is gone with the old process

    def _open(self, origin: OriginPartition) -> Branch:
        branch = self.branches[origin] = Branch(self, origin)
        self.add(branch.live)
        branch.live.reachable = False                   # not before it knows what is wanted
        branch.open()
        return branch

    # -- flows ------------------------------------------------------------------------------------------------

    def add(self, flow: Flow) -> None:
        self._flows[flow.token] = flow
        flow.limit(*self.border(flow.origin.node))
        flow.reachable = flow.origin.node in self._overlay.nodes

    def drop(self, flow: Flow) -> None:
        self._flows.pop(flow.token, None)

    def put_note(self, flow: Flow) -> Ticket:
        return self.branches[flow.origin].put_note(flow)

    def filter_counts(self, origin: OriginPartition, asked: Want, since: int, *, first: bool) -> None:
        """A live flow knows from where a new filter counts, first: as it begins. When all of the node do, its retained
        events are asked for.
        """
        now_ms = self.clock_ms() + self.needs.skew_ms(origin.node)
        if asked.since == BY_TIME and not first and now_ms - asked.since_ms > LATE_MS:
            self.branches[origin].add_late(asked, since)
        self.retained.go_on(origin.node)

    # -- retained events --------------------------------------------------------------------------------------

    def has_retained(self, pattern: str) -> bool:
        """RetainedEvents.elsewhere."""
        for name in self._overlay.nodes:
            bare = strip_prefix(pattern, self.border(name)[1])
            peer = self._peers.get(name)
            if bare is not None and bare[:1] != "$" and (peer is None or not peer.whole.covers(bare)):
                return False
        return True

    def counts(self, node: str, patterns: list[str]) -> list[bool]:
        """Flows of retained.py."""
        peer = self._peers[node]
        captures = {stream.name: stream.captures for stream in peer.streams}
        flows = [(captures.get(branch.origin.stream, ()), branch.live.history.open())
                 for branch in self.branches.values() if branch.origin.node == node]
        return [all(pattern in counting or not may_hold(captured, pattern) for captured, counting in flows)
                for pattern in patterns]

    def brings(self, node: str, epoch: str, stream: str, index: int) -> Selection | None:
        """Flows of retained.py."""
        branch = self.branches.get(self._router.origins.of(node, epoch, stream, index))
        return Selection(branch.live.history.intervals) if branch is not None else None

    def retained_answered(self, node: str, pattern: str) -> None:
        """Flows of retained.py."""
        self._peers[node].whole.add(pattern)

    # -- flows ------------------------------------------------------------------------------------------------

    def flow_done(self, flow: Flow) -> None:
        branch = self.branches.get(flow.origin)
        if branch is not None and branch.backfill is flow:
            branch.done(flow)

    def window_bytes(self) -> int:
        share = self.limits.window_total_bytes // max(1, len(self._flows))
        return min(self.limits.window_bytes, max(WINDOW_LEAST_BYTES, share))

    def count_refusal(self, origin: OriginPartition, why: str) -> None:
        self.refusals[origin.node] += 1
        if self.refusals[origin.node] & (self.refusals[origin.node] - 1) == 0:     # the 1st, 2nd, 4th …
            log.warning("%s: refused (%d times so far): %s", origin.text, self.refusals[origin.node], why)

    def on_batch(self, source: str, batch: Batch) -> None:
        flow = self._flows.get(batch.token)
        if flow is None:
            return                                      # of a flow that is over
        if flow.origin.node != source:
            self.count_refusal(flow.origin, f"a batch from {source}")
            return
        flow.on_batch(batch)

    def on_problem(self, source: str, problem: Problem) -> None:
        flow = self._flows.get(problem.token)
        if flow is not None and flow.origin.node == source:
            flow.on_problem(problem)

    # -- time -------------------------------------------------------------------------------------------------

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self._timers.append((self.clock_s() + delay_s, work))

    def tick(self, now_s: float) -> None:
        due = [work for at_s, work in self._timers if at_s <= now_s]
        if due:
            self._timers = [entry for entry in self._timers if entry[0] > now_s]
            for work in due:
                work()
        if self._interest.tick(now_s):
            self.sync_soon()
        if 0 < self._linger_until_s <= now_s:
            self._linger_until_s = 0.0
            self.sync_soon()
        if self._sync_due_s is not None and now_s >= self._sync_due_s:
            self.sync()
        if now_s >= self._plan_due_s:
            self._plan_due_s = now_s + PLAN_S
            self.plan()
        for flow in list(self._flows.values()):
            flow.tick(now_s)
        self.retained.tick(now_s)

    def published(self) -> None:
        if self.handover is not None:
            self.handover.published()

    def plan(self) -> None:
        """Begin back-fills, let go of what is idle, follow the ways. Once in a while."""
        if self.widened and not self._told_of_widening:
            log.warning("more than %d filters are wanted here: some were joined into wider ones, so more is pulled "
                        "than is wanted ([replication] filters_max)", self.limits.filters_max)
        self._told_of_widening = self.widened
        self.wishes.forget(self.clock_s() - self.limits.linger_s)
        self._note_told()
        if not self._planning:
            self._planning = True
            in_steps(self._router, self._plan_branches())

    def _plan_branches(self) -> Iterator[None]:
        """A step is PLAN_STEP partitions."""
        try:
            needs = self.needs.everywhere()
            placed = self.needs.placed()
            if self.handover is not None:
                self.handover.has_all(self.branches.keys(), self.needs.is_met)
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
                only, prefix = self.border(branch.origin.node)
                for flow in branch.flows():
                    flow.limit(only, prefix)                # the way may lead over another link by now
                branch.plan(self.needs.of(branch, needs, placed))
        finally:
            self._planning = False

    def _note_told(self) -> None:
        """Filters that count in every partition of a node are no news to it."""
        if self._sync_due_s is not None:
            return
        for name in self.wishes.untold:
            node = self._overlay.nodes.get(name)
            if node is not None:
                captures = {stream.name: stream.captures for stream in node.streams}
                self.wishes.told(name, self.border(name)[1], {     # most partitions of a node count the same filters
                    (captures.get(branch.origin.stream, ()), tuple(branch.live.history.open()))
                    for branch in self.branches.values() if branch.origin.node == name})

    def close(self) -> None:
        self._closed = True
        for branch in self.branches.values():
            branch.close(forget=False)
