"""Pulling: what everything that this node pulls from others shares: replicas, the way out, clocks, borders, windows.

Flows and branches have it and do not know what stands above them. Set by intake.py: the three functions on_….
"""
from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from mesh.publishers import Publishers
from mesh.replication.borders import bounds_of
from mesh.replication.caches import CacheMemory
from mesh.replication.messages import Batch, Message, Problem
from mesh.replication.settings import ReplicationSettings
from routing.event import OriginPartition
from routing.replicas.stored import stored_topic

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from routing.replicas.replicas import Replicas
    from routing.router import Router

log = logging.getLogger(__name__)

WINDOW_LEAST_BYTES: Final = 64 * 1024


class Pulled(Protocol):
    """A Flow."""

    origin: OriginPartition
    reachable: bool

    @property
    def token(self) -> int: ...
    def limit(self, only: tuple[str, ...], prefix: str) -> None: ...
    def on_batch(self, batch: Batch) -> None: ...
    def on_problem(self, problem: Problem) -> None: ...
    def tick(self, now_s: float) -> None: ...


class Pulling:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Callable[[str, Message, int], bool],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 limits: ReplicationSettings, publishers: Publishers) -> None:
        self.replicas: Replicas = router.replicas
        self.send = send
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.rng = rng
        self.limits = limits
        self.publishers = publishers
        self.caches = CacheMemory(limits.cache_bytes)
        self.flows: dict[int, Pulled] = {}              # by token
        self.refusals: Counter[str] = Counter()         # node → messages that we did not believe
        self.on_sync: Callable[[], None] = _nothing     # what is wanted is to be compared with what is pulled
        self.on_published: Callable[[], None] = _nothing            # events of others were put into our log
        self.on_counts: Callable[[str], None] = lambda node: None   # a filter counts in one more flow from a node
        self._streams = router.streams
        self._overlay = overlay
        self._borders: dict[str, tuple[tuple[str, ...], str]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    # -- the other node -----------------------------------------------------------------------------------------

    def border(self, node: str) -> tuple[tuple[str, ...], str]:
        """Imports (empty: all) and prefix of the link by which a node is reached, or was."""
        edge = self._overlay.edge(node)
        if edge is not None:
            prefix = edge.prefix if not edge.prefix or edge.prefix.endswith("/") else edge.prefix + "/"
            self._borders[node] = bounds_of(edge.imports), prefix
        return self._borders.get(node, ((), ""))

    def stored_topic(self, origin: OriginPartition) -> str | None:
        """See routing/replicas/stored.py; "" too where a link changes topics, or the node does not tell of the stream.
        None: the node is not in sight, so nobody knows.
        """
        node = self._overlay.nodes.get(origin.node)
        only, prefix = self.border(origin.node)
        if node is None:
            return None
        if only or prefix:
            return ""
        partitions = next((stream.partitions for stream in node.streams if stream.name == origin.stream), 0)
        return stored_topic(self._streams, origin, partitions)

    def skew_ms(self, name: str) -> int:
        """Of a node: its clock less ours, 0 when it is not in sight."""
        node = self._overlay.nodes.get(name)
        return round(node.skew_ms or 0) if node is not None else 0

    def count_refusal(self, origin: OriginPartition, why: str) -> None:
        self.refusals[origin.node] += 1
        if self.refusals[origin.node] & (self.refusals[origin.node] - 1) == 0:     # the 1st, 2nd, 4th …
            log.warning("%s: refused (%d times so far): %s", origin.text, self.refusals[origin.node], why)

    # -- flows ------------------------------------------------------------------------------------------------

    def add(self, flow: Pulled) -> None:
        self.flows[flow.token] = flow
        flow.limit(*self.border(flow.origin.node))
        flow.reachable = flow.origin.node in self._overlay.nodes

    def drop(self, flow: Pulled) -> None:
        self.flows.pop(flow.token, None)

    def window_bytes(self) -> int:
        """What one flow may have under way."""
        share = self.limits.window_total_bytes // max(1, len(self.flows))
        return min(self.limits.window_bytes, max(WINDOW_LEAST_BYTES, share))

    def on_batch(self, source: str, batch: Batch) -> None:
        flow = self.flows.get(batch.token)
        if flow is None:
            return                                      # of a flow that is over
        if flow.origin.node != source:
            self.count_refusal(flow.origin, f"a batch from {source}")
            return
        flow.on_batch(batch)

    def on_problem(self, source: str, problem: Problem) -> None:
        flow = self.flows.get(problem.token)
        if flow is not None and flow.origin.node == source:
            flow.on_problem(problem)

    # -- time -------------------------------------------------------------------------------------------------

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self._timers.append((self.clock_s() + delay_s, work))

    def run_timers(self, now_s: float) -> None:
        due = [work for at_s, work in self._timers if at_s <= now_s]
        if due:
            self._timers = [entry for entry in self._timers if entry[0] > now_s]
            for work in due:
                work()

    def tick_flows(self, now_s: float) -> None:
        for flow in list(self.flows.values()):
            flow.tick(now_s)


def _nothing() -> None:
    pass
