"""Outlets: this node as an origin. What the other nodes pull of its partitions, and the bounds on that."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from mesh.link.frames import PRIORITY_GOSSIP
from mesh.replication.bodies import BodyEncoder
from mesh.replication.borders import exports_of
from mesh.replication.caches import CacheMemory
from mesh.replication.hold import Hold
from mesh.replication.lookups import LookUps
from mesh.replication.messages import Close, Message, Problem, Pull, Trouble
from mesh.replication.origin import Outlet
from mesh.replication.settings import ReplicationSettings
from routing.errors import TopicError
from routing.fairness.shares import Share
from routing.topic import check_filter

if TYPE_CHECKING:
    from mesh.replication.intake import Overlay
    from routing.router import Router

log = logging.getLogger(__name__)

AWAY_EXPIRY_S: Final = 15.0     # a flow of a node to which there is no way is let go so soon
NEIGHBOUR_SHARE: Final = 0.5    # of what the others leave
TICK_S: Final = 0.003           # for the timers of flows, of one turn
EXPIRE_S: Final = 0.5           # how often flows that nobody pulls, or may not pull any more, are looked for
FILTER_BYTES: Final = 600       # of memory for one filter of a Pull, about, beside its text, which stands there twice
LEVELS_MAX: Final = 65_536      # of the filters of one Pull, together: what a filter bomb may cost

Key = tuple[str, str, int, int]         # node, stream, partition, flow


class Outlets:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Callable[[str, Message, int], bool],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], limits: ReplicationSettings) -> None:
        self.router = router
        self.limits = limits
        self.send = send
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.encoder = BodyEncoder()
        self.by_key: dict[Key, Outlet] = {}
        self.refusals: Counter[str] = Counter()         # node → pulls that we refused
        self.hold = Hold(router, clock_s, limits)
        self.caches = CacheMemory(limits.cache_bytes)
        self._overlay = overlay
        self._flows = Share("flows", lambda: NEIGHBOUR_SHARE)                   # by neighbour: what nodes behind it
        self._filters = Share("bytes of filters", lambda: NEIGHBOUR_SHARE)      # want counts as its own
        self._stalled: dict[Outlet, None] = {}          # try again with the next tick
        self._ready: list[Outlet] = []                  # go on with the next turn
        self._look_ups = LookUps(router)
        self._expire_due_s = 0.0
        self._to_tick: list[Outlet] = []

    # -- messages ---------------------------------------------------------------------------------------------

    def on_pull(self, node: str, pull: Pull) -> None:
        key = (node, pull.stream, pull.index, pull.flow)
        outlet = self.by_key.get(key)
        if outlet is None or outlet.token != pull.token:
            outlet = self._open(key, pull, outlet)
            if outlet is None:
                return
        elif pull.wants is None:
            if self._is_narrowed(key, outlet):
                return
        elif not self._check(node, pull) or not self._hold_filters(outlet, pull):
            return
        outlet.on_pull(pull)

    def _open(self, key: Key, pull: Pull, before: Outlet | None) -> Outlet | None:
        """A flow that is new here: of a destination that starts, or after a pause in which we forgot it."""
        node = key[0]
        if pull.epoch != self._overlay.me.epoch:
            self._refuse(node, pull, Trouble.WRONG_EPOCH, "this log is another one")
            return None
        partition = self.router.streams.partition_of_origin(pull.stream, pull.index)
        if partition is None:
            self._refuse(node, pull, Trouble.NO_PARTITION, f"no partition {pull.index} of {pull.stream[:100]}")
            return None
        if pull.wants is None:
            self.send(node, Problem(pull.token, Trouble.UNKNOWN_FLOW), PRIORITY_GOSSIP)
            return None
        if not self._check(node, pull):
            return None
        if before is not None:
            self._close(key, before)                    # the destination has started afresh
        account = self._account_of(node)
        refusal = self._flows.take(account, self.limits.flows_max)
        if refusal is not None:
            self._refuse(node, pull, Trouble.TOO_MUCH, f"{len(self.by_key)} flows are open, that is the limit")
            return None
        outlet = self.by_key[key] = Outlet(self, node, partition, pull)
        outlet.account = account
        if not self._hold_filters(outlet, pull):
            self._close(key, outlet)
            return None
        return outlet

    def _account_of(self, node: str) -> str:
        """Whose share it is: that of the neighbour by which the node is reached."""
        edge = self._overlay.edge(node)
        return f"neighbour {edge.node if edge is not None else node}"

    def _hold_filters(self, outlet: Outlet, pull: Pull) -> bool:
        """Count what the filters of a Pull take, in place of those before. False: there is no room, and it is told."""
        assert pull.wants is not None
        texts = (*(want.filter for want in pull.wants), *(want.filter for want in pull.excludes), *pull.only)
        size = FILTER_BYTES * len(texts) + 2 * sum(map(len, texts))
        self._filters.give(outlet.account, outlet.filters_bytes)
        outlet.filters_bytes = 0
        refusal = self._filters.take(outlet.account, self.limits.filters_bytes, size)
        if refusal is not None:
            self._refuse(outlet.node, pull, Trouble.TOO_MUCH, "the filters of this neighbour take too much memory")
            key = outlet.node, pull.stream, pull.index, pull.flow
            if key in self.by_key:
                self._close(key, outlet)
            return False
        outlet.filters_bytes = size
        return True

    def _check(self, node: str, pull: Pull) -> bool:
        """Filters from outside: grammar and cost."""
        levels = 0
        assert pull.wants is not None
        for pattern in (*(want.filter for want in pull.wants), *(want.filter for want in pull.excludes), *pull.only):
            levels += pattern.count("/") + 1
            try:
                check_filter(pattern)
            except TopicError as error:
                self._refuse(node, pull, Trouble.BAD_PULL, str(error))
                return False
        if levels > LEVELS_MAX:
            self._refuse(node, pull, Trouble.TOO_MUCH, f"filters of {levels} levels, at most {LEVELS_MAX} are taken")
            return False
        return True

    def _refuse(self, node: str, pull: Pull, trouble: Trouble, text: str) -> None:
        self.refusals[node] += 1
        self.send(node, Problem(pull.token, trouble, text), PRIORITY_GOSSIP)

    def streams_changed(self) -> None:
        """Streams may be gone, and with them what is sent of them."""
        for key, outlet in list(self.by_key.items()):
            if self.router.streams.partition_of_origin(key[1], key[2]) is not outlet.partition:
                self._close(key, outlet)

    def on_close(self, node: str, close: Close) -> None:
        for key, outlet in list(self.by_key.items()):
            if key[0] == node and outlet.token == close.token:
                self._close(key, outlet)
                if close.forget:
                    self.hold.forgotten(node, key[1:])

    def _close(self, key: Key, outlet: Outlet) -> None:
        self.hold.closed(outlet)
        outlet.close()
        if self.by_key.pop(key, None) is not None:
            self._flows.give(outlet.account)
            self._filters.give(outlet.account, outlet.filters_bytes)
        self._look_ups.drop(outlet)
        self._stalled.pop(outlet, None)

    # -- for outlets ------------------------------------------------------------------------------------------

    def exports_to(self, node: str) -> tuple[str, ...]:
        """What may leave by the link that leads to a node; empty: everything."""
        return exports_of(self._overlay.edge(node))

    def _is_narrowed(self, key: Key, outlet: Outlet) -> bool:
        """What may leave for its node is not what it was: the flow ends, the destination says anew what it wants."""
        edge = self._overlay.edge(outlet.node)
        if edge is None or exports_of(edge) == outlet.exports:
            return False                        # without a way nothing leaves anyway
        self._close(key, outlet)
        self.send(outlet.node, Problem(outlet.token, Trouble.UNKNOWN_FLOW), PRIORITY_GOSSIP)
        return True

    def confirmed(self, outlet: Outlet) -> None:
        self.hold.confirmed(outlet)

    def stalled(self, outlet: Outlet) -> None:
        self._stalled[outlet] = None

    def next_turn(self, outlet: Outlet) -> None:
        if not self._ready:
            self.router.call_soon(self._go_on)
        self._ready.append(outlet)

    def look_up(self, outlet: Outlet, work: Iterator[None]) -> None:
        self._look_ups.add(outlet, work)

    def _go_on(self) -> None:
        ready, self._ready = self._ready, []
        for outlet in ready:
            if outlet.is_open:
                outlet.pump()

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        stalled, self._stalled = self._stalled, {}
        for outlet in stalled:
            outlet.wake()
        self._tick_some(now_s)
        self.hold.tick(now_s, self._overlay.nodes)
        if now_s >= self._expire_due_s:
            self._expire_due_s = now_s + EXPIRE_S
            for key, outlet in list(self.by_key.items()):
                silent_s = now_s - outlet.heard_s
                if silent_s >= self.limits.flow_expiry_s or (
                        silent_s >= AWAY_EXPIRY_S and self._overlay.edge(outlet.node) is None):
                    self._close(key, outlet)
                else:
                    self._is_narrowed(key, outlet)

    def _tick_some(self, now_s: float) -> None:
        """Of thousands of flows not all at once."""
        if not self._to_tick:
            self._to_tick = list(self.by_key.values())
        until_s = self.clock_s() + TICK_S
        while self._to_tick:
            outlet = self._to_tick.pop()
            if outlet.is_open:
                outlet.tick(now_s)
                if self.clock_s() >= until_s:
                    break

    def close(self) -> None:
        for key, outlet in list(self.by_key.items()):
            self._close(key, outlet)
