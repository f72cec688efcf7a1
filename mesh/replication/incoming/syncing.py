"""Syncing: the flows from each node are brought in line with what is wanted here now.

    wanted, aggregated ──► per node (prefix, imports of the link that leads there) ──► per stream (its captures)
    ──► per partition: a Branch, whose live flow is told what it is to bring

In steps, since a node may have thousands of partitions and there may be thousands of filters. Used by intake.py.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from mesh.replication.filters import strip_prefix
from mesh.replication.incoming.branch import Branch
from mesh.replication.incoming.late import Wishes, may_hold
from mesh.replication.incoming.needs import HistoryNeeds
from mesh.replication.incoming.peers import Peer, Peers
from mesh.replication.incoming.pulling import Pulling
from mesh.replication.incoming.wants import Needs, latest
from mesh.replication.messages import Want
from mesh.replication.retained import RetainedIntake
from mesh.topology.interest.covering import Covering
from mesh.topology.interest.interest import OwnInterest
from mesh.topology.linkstate.pace import Bucket
from routing.event import OriginPartition
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from mesh.topology.linkstate.nodestate import NodeState
    from routing.router import Router

log = logging.getLogger(__name__)

SYNC_BURST: Final = 20          # so many times at once what has changed in a turn of the loop is told in it, then …
SYNCS_PER_S: Final = 20.0       # … so many times per second: who subscribes for an answer publishes the request next
SYNC_STEP: Final = 128          # partitions looked at per turn, some 5 ms; …
OPEN_COST: Final = 8            # … a new one takes as long as so many
FITTING_COST: Final = 40        # … so many pairs of a filter and a capture as one
PARTITIONS_MAX: Final = 512     # of one node; a gossip can claim any number, and each costs a flow that is looked after

Found = dict[tuple[bool, tuple[str, ...], tuple[str, ...]], dict[str, Want]]    # see Syncing._sync_branch


class Syncing:
    """Loop thread only."""

    def __init__(self, pulling: Pulling, branches: dict[OriginPartition, Branch], peers: Peers, interest: OwnInterest,
                 wishes: Wishes, needs: HistoryNeeds, retained: RetainedIntake, router: Router,
                 overlay: Overlay) -> None:
        self.unfinished: set[OriginPartition] = set()   # stored flows that want something still
        self.linger_until_s = 0.0                       # what was wanted before the start may be wanted again
        self.due_s: float | None = None                 # a sync is to come
        self.is_busy = False
        self._pulling = pulling
        self._branches = branches
        self._peers = peers
        self._interest = interest
        self._wishes = wishes
        self._needs = needs
        self._retained = retained
        self._router = router
        self._overlay = overlay
        self._unsynced: dict[str, None] = {}            # nodes whose flows are to be brought in line
        self._pace = Bucket(SYNC_BURST, SYNCS_PER_S, pulling.clock_s())
        self._closed = False

    def sync_soon(self) -> None:
        """Have sync() called: at the end of this turn of the loop, or later where that happens often."""
        if self.due_s is None:
            now_s = self._pulling.clock_s()
            self.due_s = now_s + self._pace.wait_s(now_s)
            if self._pace.take(1, now_s):
                self._router.call_soon(self._sync_if_due)

    def _sync_if_due(self) -> None:
        if self.due_s is not None and self._pulling.clock_s() >= self.due_s:
            self.sync()

    def sync(self, names: Iterable[str] | None = None) -> None:
        """Bring the flows from these nodes, None: from all, in line with what is wanted now."""
        if names is None:
            self.due_s = None
        self._unsynced.update(dict.fromkeys(list(self._overlay.nodes) if names is None else names))
        if self._unsynced and not self.is_busy:
            self.is_busy = True
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
                needs = self._needs.everywhere() if needs is None else needs
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
            self.is_busy = False

    def _sync_node(self, node: NodeState, needs: Needs) -> Iterator[int]:
        """Yields what each partition has cost."""
        filters = self._filters_for(node.name)
        peer = self._peers.by_name.get(node.name)
        if peer is None or (peer.epoch, peer.boot) != (node.epoch, node.boot):
            if peer is not None:
                self._began_anew(node)
            peer = self._peers.by_name[node.name] = Peer(node)
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
                branch = self._branches.get(origin)
                if branch is None:
                    if not fitting and origin not in self.unfinished:
                        continue
                    if len(self._branches) >= self._pulling.limits.flows_max:
                        self._pulling.refusals[node.name] += 1
                        return
                    self.unfinished.discard(origin)
                    branch = self._open(origin)
                    yield OPEN_COST
                self._sync_branch(branch, node, stream.captures, fitting, needs, found)
                yield 1
        whole = [pattern for pattern in filters if peer.whole.covers(pattern)]
        peer.whole = Covering(whole)
        for pattern in set(filters).difference(whole):
            self._retained.want(node.name, node.epoch, pattern)
        self._retained.go_on(node.name)

    def _sync_branch(self, branch: Branch, node: NodeState, captures: tuple[str, ...], fitting: list[str],
                     needs: Needs, found: Found) -> None:
        live = branch.live
        only, prefix = self._pulling.border(branch.origin.node)
        for flow in branch.flows():
            flow.limit(only, prefix)
        skew_ms = self._needs.skew_ms(node.name)
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
            return self._wishes.first_wants(captures, fitting, before, needs, prefix, skew_ms)
        desired = {pattern: latest(pattern) for pattern in fitting}
        desired.update(self._wishes.wants(node.name, captures, fitting, before, prefix, skew_ms))
        if self._pulling.clock_s() < self.linger_until_s:
            desired.update((pattern, latest(pattern)) for pattern in before)
        return desired

    def _open_in_other_epochs(self, origin: OriginPartition) -> list[str]:
        """Filters that were live on this partition before its log was made anew."""
        found: list[str] = []
        for other, number in self._pulling.replicas.flows_of(origin.node, origin.stream):
            if number == 0 and other.epoch != origin.epoch:
                branch = self._branches.get(other) or Branch(self._pulling, other)
                found.extend(branch.stored_history().open())
        return found

    def _filters_for(self, node: str) -> list[str]:
        """What is wanted of a node, in its own terms: without the prefix that its topics get on the way in."""
        _, prefix = self._pulling.border(node)
        found = (strip_prefix(pattern, prefix) for pattern in self._interest.filters)
        return sorted({pattern for pattern in found if pattern is not None})

    def _began_anew(self, node: NodeState) -> None:
        """The node was restarted; its log may be another one."""
        self._retained.drop(node.name)
        for branch in [branch for branch in self._branches.values() if branch.origin.node == node.name]:
            if branch.origin.epoch != node.epoch:
                log.warning("node %s has a new log: %s is not pulled any more", node.name, branch.origin.text)
                branch.close(forget=False)
                del self._branches[branch.origin]
            else:
                for flow in branch.flows():
                    flow.set_reachable(False)           # whatever was under way is gone with the old process

    def _open(self, origin: OriginPartition) -> Branch:
        branch = self._branches[origin] = Branch(self._pulling, origin)
        self._pulling.add(branch.live)
        branch.live.reachable = False                   # not before it knows what is wanted
        branch.open()
        return branch

    def tick(self, now_s: float) -> None:
        if 0 < self.linger_until_s <= now_s:
            self.linger_until_s = 0.0
            self.sync_soon()
        if self.due_s is not None and now_s >= self.due_s:
            self.sync()

    def close(self) -> None:
        self._closed = True
