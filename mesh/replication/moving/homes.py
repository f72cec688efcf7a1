"""Homes: nodes where a consumer was before, whose sessions that are away still count on it. See holders.py.

    here                                     a home of it
    the last user goes: it stays ── NEEDED ──► opens it, if a session shares it: it moves there by handover.py,
                                               with its place, as any other
                                  ◄── no ────  nobody does. When all have said so, it is deleted here.

A home that does not answer is asked again, for group_kept_s at most.
"""
from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mesh.link.protocol.frames import PRIORITY_GOSSIP
from mesh.replication.borders import may_enter
from mesh.replication.messages import Export, ExportAsk, Message, Step

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from routing.router import Router

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 10.0
ASKED_PER_TICK: Final = 50

Send = Callable[[str, Message, int], bool]


class Homes:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Send, clock_s: Callable[[], float],
                 rng: random.Random, kept_ms: float) -> None:
        self._router = router
        self._holders = router.registry.holders
        self._overlay = overlay
        self._send = send
        self._clock_s = clock_s
        self._kept_ms = kept_ms
        self._request = rng.getrandbits(63)                 # one for all: who answers what is told by the name
        self._due: deque[tuple[float, str]] = deque()       # consumers that have ended here, when to ask again

    def start(self) -> None:
        for name in list(self._holders.elsewhere):
            if name not in self._router.consumers:
                self._holders.forget(name)
            elif self._holders.ended_for_ms(name) is not None:
                self._ended(name)
        self._holders.on_ended = self._ended

    def _ended(self, name: str) -> None:
        self._due.appendleft((self._clock_s(), name))

    def nodes(self, name: str, to: str) -> list[str]:
        """Of a consumer that goes from here to another node: who counts on it, as of now."""
        held = self._holders.elsewhere.get(name)
        found = [node for node in (held.nodes if held is not None else ()) if node not in (to, self._overlay.me.name)]
        return [*found, self._overlay.me.name] if self._holders.held_here(name) else found

    def arrived(self, name: str, nodes: list[str]) -> None:
        self._holders.came(name, [node for node in nodes if node != self._overlay.me.name])

    def is_home(self, name: str, node: str) -> bool:
        """Does it stay here for the sake of that node, though everybody here has gone?"""
        held = self._holders.elsewhere.get(name)
        return held is not None and bool(held.ended_ms) and node in held.nodes

    def on_ask(self, source: str, ask: ExportAsk) -> None:
        """A node that may bring nothing of it decides nothing about who reads it."""
        known = self._router.consumers.get(ask.name)
        needed = known is None and any(
            may_enter(self._overlay.edge(source), local.filters(ask.name)) and local.reopen(ask.name)
            for local in self._holders.local if local.holds(ask.name))
        looking = known is not None and known.paused and self._holders.held_here(ask.name)      # it was opened before
        self._send(source, Export(ask.request, ask.name, Step.NEEDED, needed or looking), PRIORITY_GOSSIP)

    def on_answer(self, source: str, export: Export) -> None:
        if export.request == self._request and not export.found and self.is_home(export.name, source) and (
                self._holders.let_go(export.name, source)):
            self._router.delete_consumer(export.name)

    def tick(self, now_s: float) -> None:
        for _ in range(ASKED_PER_TICK):
            if not self._due or self._due[0][0] > now_s:
                return
            _, name = self._due.popleft()
            consumer, ended_ms = self._router.consumers.get(name), self._holders.ended_for_ms(name)
            if consumer is None or ended_ms is None:
                continue
            if ended_ms > self._kept_ms:
                log.warning("consumer %s: no session here shares it, and nodes where it was have not answered for so "
                            "long that it is deleted: %s", name, ", ".join(self._holders.elsewhere[name].nodes))
                self._router.delete_consumer(name)
                continue
            ask = ExportAsk(self._request, name, consumer.identity.user, Step.NEEDED)
            for node in self._holders.elsewhere[name].nodes:
                self._send(node, ask, PRIORITY_GOSSIP)
            self._due.append((now_s + ASK_AGAIN_S, name))
