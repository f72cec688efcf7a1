"""Sending: what all flows to other nodes share: the log, the way out, bounds, and whose turn it is.

Each Outlet has it; it knows of an outlet only that it can be woken.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from mesh.replication.bodies import BodyEncoder
from mesh.replication.borders import exports_of
from mesh.replication.caches import CacheMemory
from mesh.replication.messages import Message
from mesh.replication.outgoing.hold import Hold
from mesh.replication.outgoing.lookups import LookUps
from mesh.replication.settings import ReplicationSettings

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from routing.router import Router


class Sender(Protocol):
    """An Outlet."""

    is_open: bool

    def wake(self) -> None:
        """Try again to send."""
        ...

    def pump(self) -> None:
        """Go on with the next step of the log."""
        ...


class Sending:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Callable[[str, Message, int], bool],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int], limits: ReplicationSettings) -> None:
        self.router = router
        self.limits = limits
        self.send = send
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.hold = Hold(router, clock_s, limits)
        self.caches = CacheMemory(limits.cache_bytes)
        self.encoder = BodyEncoder(self.caches)
        self.look_ups = LookUps(router)
        self._overlay = overlay
        self._stalled: dict[Sender, None] = {}          # try again with the next tick
        self._ready: list[Sender] = []                  # go on with the next turn

    def exports_to(self, node: str) -> tuple[str, ...]:
        """What may leave by the link that leads to a node; empty: everything."""
        return exports_of(self._overlay.edge(node))

    def stalled(self, outlet: Sender) -> None:
        self._stalled[outlet] = None

    def next_turn(self, outlet: Sender) -> None:
        if not self._ready:
            self.router.call_soon(self._go_on)
        self._ready.append(outlet)

    def look_up(self, outlet: Sender, work: Iterator[None]) -> None:
        self.look_ups.add(outlet, work)

    def drop(self, outlet: Sender) -> None:
        """It is closed."""
        self.look_ups.drop(outlet)
        self._stalled.pop(outlet, None)

    def _go_on(self) -> None:
        ready, self._ready = self._ready, []
        for outlet in ready:
            if outlet.is_open:
                outlet.pump()

    def tick(self) -> None:
        stalled, self._stalled = self._stalled, {}
        for outlet in stalled:
            outlet.wake()
