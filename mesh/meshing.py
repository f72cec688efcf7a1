"""The mesh of one node: overlay, replication and direct lane, connected to the router. Holds no behaviour of its own.

    LinkManager ── neighbour_up/down, received ──► Overlay ──┬── Replication ──┐
                ◄── Neighbour.send ───────────────           └── DirectLane ───┴──► Router
    Router.on_wanted ──► OwnInterest ──► Overlay.set_interest, at the end of the loop's turn or before a direct message

Sans-IO as its parts are, so the simulation runs the very same object; mesh/node.py gives it real clocks and links.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from mesh.administration.messages import is_administration
from mesh.between import is_between
from mesh.direct import DirectLane, is_direct
from mesh.publishers import Publishers
from mesh.questions import is_asking
from mesh.queues.messages import is_of_queues
from mesh.queues.shared import Shared
from mesh.replication.filters import strip_prefix
from mesh.replication.replication import Replication
from mesh.replication.settings import ReplicationConfig
from mesh.topology.interest.covering import Covering, widen
from mesh.topology.interest.interest import LEVELS_OWN_MAX, OwnInterest
from mesh.topology.linkstate.nodestate import NodeInfo, StreamInfo
from mesh.topology.linkstate.seals import Crypto, Pins
from mesh.topology.overlay import Overlay
from mesh.topology.settings import MeshSettings
from routing.router import Router
from routing.topic import filter_matches

STREAMS_EVERY_S = 1.0           # how often a changed configuration of streams is looked for


class Meshing:
    """One per node. start() once the router has recovered; tick() every 5 to 100 ms."""

    def __init__(self, me: NodeInfo, router: Router, settings: MeshSettings, replication: ReplicationConfig, *,
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], rng: random.Random,
                 call_later: Callable[[float, Callable[[], None]], object] | None = None,
                 crypto: Crypto | None = None, pins: Pins | None = None) -> None:
        """crypto, pins: see Overlay."""
        self.me = me
        self.settings = settings
        self.overlay = Overlay(me, clock_s, clock_ms, rng, settings, call_later, crypto, pins)
        publishers = Publishers()
        self.direct = DirectLane(
            me.name, router, self.overlay, clock_ms, self._tell, rng.getrandbits(62), publishers)
        self.replication = Replication(router, self.overlay, clock_s, clock_ms, rng, replication, publishers)
        self.queues = Shared(router, self.overlay, clock_s, clock_ms, rng, settings)
        self.on_between: Callable[[str, bytes], None] = lambda source, body: None     # between.py
        self.on_administration: Callable[[str, bytes], None] = lambda source, body: None      # administration/spread.py
        self.on_asking: Callable[[str, bytes], None] = lambda source, body: None      # set by mesh/management/across
        self._router = router
        self._clock_s = clock_s
        self._replicate = tuple(table.filter for table in replication.replicate)
        self._interest = OwnInterest(filters_max=settings.interest_filters_max, linger_s=settings.interest_linger_s)
        self._untold = False
        self._turn_requested = False
        self._prefixes: frozenset[str] = frozenset()
        self._streams_due_s = 0.0

    def start(self) -> None:
        """From here on others see this node's streams and interest."""
        router = self._router
        for pattern in (*self._replicate, *router.wanted):
            self._interest.want(pattern)
        router.on_wanted.append(self._wanted)
        self.overlay.on_message = self._on_message
        self.overlay.on_nodes_changed = self._on_nodes_changed
        self._tell_streams()
        router.on_streams.append(self._streams_changed)
        self._untold = True
        self._tell()
        router.routes.remote = self.direct
        router.routes.changed()
        self.replication.start()
        self.queues.start()

    def tick(self, now_s: float) -> None:
        if self._interest.tick(now_s):
            self._untold = True
            self._tell()
        if now_s >= self._streams_due_s:
            self._streams_due_s = now_s + STREAMS_EVERY_S
            self._tell_streams()
        self.overlay.tick(now_s)
        self.replication.tick(now_s)
        self.queues.tick(now_s)

    def close(self) -> None:
        """Before the links go down."""
        self._router.routes.remote = None
        self.replication.close()
        self.queues.close()

    @property
    def interest(self) -> tuple[str, ...]:
        """What this node tells the others that it wants."""
        return self._interest.filters

    def wanted_here(self, topic: str) -> bool:
        """Does a subscription, consumer or [[replicate]] of this node want the topic?"""
        return bool(self._router.trie.match(topic)) or any(filter_matches(one, topic) for one in self._replicate)

    def snapshot(self) -> dict[str, Any]:
        """Plain values: nodes, routes, interest, gossip and direct messages. Replication has its own."""
        return {
            **self.overlay.snapshot(), "wanted": self._interest.wanted_count, "widened": self._interest.widened,
            "direct": dict(sorted(self.direct.counts.items())),
        }

    # -- the router's interest --------------------------------------------------------------------------------

    def _wanted(self, pattern: str, appeared: bool) -> None:
        """Router.on_wanted."""
        if appeared:
            if self._interest.want(pattern):
                self._tell_soon()
        elif pattern not in self._replicate:
            self._interest.unwant(pattern, self._clock_s())
        self.replication.wanted_changed(pattern, appeared)

    def _tell_soon(self) -> None:
        self._untold = True
        if not self._turn_requested:
            self._turn_requested = True
            self._router.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn_requested = False
        self._tell()

    def _tell(self) -> None:
        if self._untold:
            self._untold = False
            self.overlay.set_interest(self._with_prefixes(self._interest.filters))

    def _with_prefixes(self, filters: tuple[str, ...]) -> tuple[str, ...]:
        """What enters by a link with a prefix was sent without it: who is behind it must know what to send."""
        if not self._prefixes:
            return filters
        covering = Covering(filters)
        for prefix in sorted(self._prefixes):
            for pattern in filters:
                bare = strip_prefix(pattern, f"{prefix}/")
                if bare is not None:
                    covering.add(bare)
        widen(covering, self.settings.interest_filters_max, LEVELS_OWN_MAX)
        return tuple(sorted(covering.filters))

    def _streams_changed(self) -> None:
        self.replication.streams_changed()
        self._tell_streams()

    def _tell_streams(self) -> None:
        self.overlay.set_streams(streams_of(self._router))

    # -- the overlay ------------------------------------------------------------------------------------------

    def _on_message(self, source: str, body: bytes) -> None:
        if is_direct(body):
            self.direct.on_message(source, body)
        elif is_asking(body):
            self.on_asking(source, body)
        elif is_of_queues(body):
            self.queues.on_message(source, body)
        elif is_between(body):
            self.on_between(source, body)
        elif is_administration(body):
            self.on_administration(source, body)
        else:
            self.replication.on_message(source, body)

    def _on_nodes_changed(self, names: set[str]) -> None:
        if self.overlay.prefixes != self._prefixes:
            self._prefixes = self.overlay.prefixes
            self._tell_soon()
        self.direct.nodes_changed()
        self.replication.on_nodes_changed(names)
        self.queues.on_nodes_changed()


def streams_of(router: Router) -> Iterable[StreamInfo]:
    """What others may pull from this node. What holds only topics that begin with $ is not told."""
    return (
        StreamInfo(stream.origin_name, len(stream.partitions), stream.filters)
        for stream in router.streams if any(not pattern.startswith("$") for pattern in stream.settings.capture)
    )
