"""HistoryNeeds: of which filters this node wants what was published before they were wanted here.

    [[replicate]] from = "earliest", consumers that start at the beginning or at a time ──┐
    consumers that came from another node, from where they stand ─────────────────────────┴─► Branch.plan: back-fills

And the other way round, for a consumer that goes elsewhere: what it was still to get by a back-fill. Used by intake.py.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from mesh.replication.filters import strip_prefix
from mesh.replication.incoming.arrived import Arrived
from mesh.replication.incoming.branch import Branch
from mesh.replication.incoming.late import Wishes, may_hold
from mesh.replication.incoming.pulling import Pulling
from mesh.replication.incoming.wants import Needs, by_time, earliest
from mesh.replication.messages import BY_TIME, WANTS_MAX, Want
from mesh.replication.positions import NO_MORE, Missing, Need
from mesh.replication.settings import From
from mesh.topology.interest.covering import Covering
from routing.event import OriginPartition
from routing.topic import filter_covers

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from mesh.replication.settings import ReplicateSettings
    from routing.consumers.consumer import Consumer
    from routing.router import Router

Placed = dict[OriginPartition, list[Want]]      # history that consumers from elsewhere may lack here


class HistoryNeeds:
    """Filters are as they are written here, with the prefix of the link; of() and Branch have the origin's own."""

    def __init__(self, pulling: Pulling, branches: Mapping[OriginPartition, Branch], wishes: Wishes, arrived: Arrived,
                 router: Router, overlay: Overlay, replicate: Sequence[ReplicateSettings]) -> None:
        """branches: of all partitions that are pulled now."""
        self.skew_ms = pulling.skew_ms
        self._pulling = pulling
        self._branches = branches
        self._wishes = wishes
        self._arrived = arrived
        self._router = router
        self._overlay = overlay
        self._replicate = replicate

    def everywhere(self) -> Needs:
        """Of every node."""
        needs = {table.filter: earliest(table.filter) for table in self._replicate if table.begin is From.EARLIEST}
        for consumer in self._router.registry.by_name.values():
            start = consumer.spec.start
            for pattern in consumer.filters if start == "earliest" or isinstance(start, dict) else ():
                if start == "earliest":
                    needs[pattern] = earliest(pattern)
                elif isinstance(start, dict) and pattern not in needs:
                    needs[pattern] = by_time(pattern, start["time_ms"])
        return needs

    def placed(self) -> Placed:
        """Of single partitions."""
        return self._arrived.needs(self._branches.keys())

    def of(self, branch: Branch, everywhere: Needs, placed: Placed) -> list[Want]:
        """What Branch.plan takes: of each filter the first of a kind."""
        _, prefix = self._pulling.border(branch.origin.node)
        found: dict[tuple[str, int], Want] = {}
        for need in (*everywhere.values(), *placed.get(branch.origin, ())):
            bare = strip_prefix(need.filter, prefix)
            if bare is not None:
                want = Want(bare, need.since, since_ms=need.since_ms)
                kind = bare, min(need.since, 0)
                found[kind] = min(want, found.get(kind, want), key=lambda one: (one.since, one.since_ms))
        return list(found.values())

    # -- consumers between nodes ------------------------------------------------------------------------------

    def is_met(self, need: Need) -> bool:
        """For one that came from elsewhere: nothing more of this comes by a back-fill."""
        origin = need.origin
        node = self._overlay.nodes.get(origin.node)
        if origin.node == self._overlay.me.name or need.stop == NO_MORE or (
                node is not None and node.epoch != origin.epoch):
            return True                                 # our own log, or one that is no more
        branch = self._branches.get(origin)
        if branch is None:
            return need.stop is not None and need.begin.since >= need.stop
        bare = strip_prefix(need.begin.filter, self._pulling.border(origin.node)[1])
        return bare is None or bare[:1] == "$" or not self._may_hold(origin, bare) or branch.has(
            msgspec.structs.replace(need.begin, filter=bare), need.stop)

    def begins(self, consumer: Consumer) -> list[Want]:
        """For one that goes elsewhere: from where on it wants what we never had anything of, by our clock."""
        start = consumer.spec.start
        if start == "earliest":
            return [earliest(pattern) for pattern in consumer.filters]
        if isinstance(start, dict):
            return [by_time(pattern, start["time_ms"]) for pattern in consumer.filters]
        return [by_time(pattern, self._wishes.moment_ms(pattern)) for pattern in consumer.filters]

    def wanted_since(self, begins: list[Want]) -> None:
        """For one that came from elsewhere: what we never had anything of is wanted from there on."""
        for want in begins:
            if want.since == BY_TIME:
                self._wishes.lower(want.filter, want.since_ms)
            else:
                self._wishes.lower_unseen(want.filter, 0)
        self._pulling.on_sync()

    def missing(self, patterns: list[str]) -> Missing:
        """For one that goes elsewhere: what of these filters lies below the live flow and is not here yet."""
        everywhere, placed = self.everywhere(), self.placed()

        def of_origin(origin: OriginPartition) -> list[Want]:
            _, prefix = self._pulling.border(origin.node)
            branch = self._branches.get(origin)
            if branch is None:                          # the node is away since our start: as it is stored
                branch = Branch(self._pulling, origin)
                branch.restore()
            coming = branch.missing(self.of(branch, everywhere, placed))
            counting = Covering(branch.live.history.open())
            found: list[Want] = []
            for pattern in patterns:
                bare = strip_prefix(pattern, prefix)
                if bare is None:
                    continue
                found.extend(msgspec.structs.replace(want, filter=pattern) for want in coming
                             if filter_covers(want.filter, bare))
                if not counting.covers(bare) and self._may_hold(origin, bare):      # the node may not know of it yet
                    found.append(Want(pattern, BY_TIME, branch.stored_floor,
                                      max(0, self._wishes.moment_ms(pattern) + self.skew_ms(origin.node))))
            return found[:WANTS_MAX]

        return of_origin

    def _may_hold(self, origin: OriginPartition, bare: str) -> bool:
        """As far as we know."""
        node = self._overlay.nodes.get(origin.node)
        return node is None or any(
            may_hold(stream.captures, bare) for stream in node.streams if stream.name == origin.stream)
