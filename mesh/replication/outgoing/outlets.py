"""Outlets: this node as an origin. What the other nodes pull of its partitions, and the bounds on that."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mesh.link.protocol.frames import PRIORITY_GOSSIP
from mesh.replication.borders import exports_of
from mesh.replication.messages import Close, Message, Problem, Pull, Trouble
from mesh.replication.outgoing.outlet import Outlet
from mesh.replication.outgoing.sending import Sending
from mesh.replication.settings import ReplicationSettings
from routing.errors import TopicError
from routing.fairness.shares import Share
from routing.topic import check_filter

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
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
        self.by_key: dict[Key, Outlet] = {}
        self.refusals: Counter[str] = Counter()         # node → pulls that we refused
        self._router = router
        self._overlay = overlay
        self._send = send
        self._clock_s = clock_s
        self._limits = limits
        self._sending = Sending(router, overlay, send, clock_s, clock_ms, limits)
        self.hold = self._sending.hold
        self.exports_to = self._sending.exports_to
        self._flows = Share("flows", lambda: NEIGHBOUR_SHARE)                   # by neighbour: what nodes behind it
        self._filters = Share("bytes of filters", lambda: NEIGHBOUR_SHARE)      # want counts as its own
        self._expire_due_s = 0.0
        self._to_tick: list[Outlet] = []

    # -- messages ---------------------------------------------------------------------------------------------

    def on_pull(self, node: str, pull: Pull) -> None:
        if self._overlay.edge(node) is None:
            return                              # nobody knows what may leave for it; it asks again
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
        partition = self._router.streams.partition_of_origin(pull.stream, pull.index)
        if partition is None:
            self._refuse(node, pull, Trouble.NO_PARTITION, f"no partition {pull.index} of {pull.stream[:100]}")
            return None
        if pull.wants is None:
            self._send(node, Problem(pull.token, Trouble.UNKNOWN_FLOW), PRIORITY_GOSSIP)
            return None
        if not self._check(node, pull):
            return None
        if before is not None:
            self._close(key, before)                    # the destination has started afresh
        account = self._account_of(node)
        refusal = self._flows.take(account, self._limits.flows_max)
        if refusal is not None:
            self._refuse(node, pull, Trouble.TOO_MUCH, f"{len(self.by_key)} flows are open, that is the limit")
            return None
        outlet = self.by_key[key] = Outlet(self._sending, node, partition, pull)
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
        refusal = self._filters.take(outlet.account, self._limits.filters_bytes, size)
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
        self._send(node, Problem(pull.token, trouble, text), PRIORITY_GOSSIP)

    def streams_changed(self) -> None:
        """Streams may be gone, and with them what is sent of them."""
        for key, outlet in list(self.by_key.items()):
            if self._router.streams.partition_of_origin(key[1], key[2]) is not outlet.partition:
                self._close(key, outlet)

    def on_close(self, node: str, close: Close) -> None:
        for key, outlet in list(self.by_key.items()):
            if key[0] == node and outlet.token == close.token:
                self._close(key, outlet)
                if close.forget:
                    self.hold.forgotten(node, key[1:])

    def _close(self, key: Key, outlet: Outlet) -> None:
        self.hold.closed(outlet.node, outlet.place, outlet.selection)
        outlet.close()
        if self.by_key.pop(key, None) is not None:
            self._flows.give(outlet.account)
            self._filters.give(outlet.account, outlet.filters_bytes)
        self._sending.drop(outlet)

    def _is_narrowed(self, key: Key, outlet: Outlet) -> bool:
        """What may leave for its node is not what it was: the flow ends, the destination says anew what it wants."""
        edge = self._overlay.edge(outlet.node)
        if edge is None or exports_of(edge) == outlet.exports:
            return False                        # without a way nothing leaves: Outlet._send
        self._close(key, outlet)
        self._send(outlet.node, Problem(outlet.token, Trouble.UNKNOWN_FLOW), PRIORITY_GOSSIP)
        return True

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        self._sending.tick()
        self._tick_some(now_s)
        self.hold.tick(now_s, self._overlay.nodes)
        if now_s >= self._expire_due_s:
            self._expire_due_s = now_s + EXPIRE_S
            for key, outlet in list(self.by_key.items()):
                silent_s = now_s - outlet.heard_s
                if silent_s >= self._limits.flow_expiry_s or (
                        silent_s >= AWAY_EXPIRY_S and self._overlay.edge(outlet.node) is None):
                    self._close(key, outlet)
                else:
                    self._is_narrowed(key, outlet)

    def _tick_some(self, now_s: float) -> None:
        """Of thousands of flows not all at once."""
        if not self._to_tick:
            self._to_tick = list(self.by_key.values())
        until_s = self._clock_s() + TICK_S
        while self._to_tick:
            outlet = self._to_tick.pop()
            if outlet.is_open:
                outlet.tick(now_s)
                if self._clock_s() >= until_s:
                    break

    def close(self) -> None:
        for key, outlet in list(self.by_key.items()):
            self._close(key, outlet)
