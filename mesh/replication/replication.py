"""Replication of one node: what it pulls from others (Intake) and what others pull from it (Outlets).

The entry of this room. Sans-IO: the overlay carries the messages, clocks and random are injected, tick() is called
every few ms. Wired by mesh/meshing.py and by the simulation.
"""
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from mesh.publishers import Publishers
from mesh.replication.incoming.intake import Intake
from mesh.replication.lag import Lag
from mesh.replication.messages import (
    BadMessage,
    Batch,
    Close,
    Export,
    ExportAsk,
    Message,
    Problem,
    Pull,
    RetainedAsk,
    RetainedPage,
    decode,
    encode,
)
from mesh.replication.moving.handover import Handover
from mesh.replication.outgoing.outlets import Outlets
from mesh.replication.overlay import Overlay
from mesh.replication.retained import RetainedOutlet
from mesh.replication.settings import ReplicationConfig
from mesh.replication.view import View
from routing.router import Router


class Replication:
    def __init__(self, router: Router, overlay: Overlay, clock_s: Callable[[], float], clock_ms: Callable[[], int],
                 rng: random.Random, settings: ReplicationConfig, publishers: Publishers) -> None:
        self.counts: Counter[str] = Counter()
        self._overlay = overlay
        self.intake = Intake(router, overlay, self._send, clock_s, clock_ms, rng, settings, publishers)
        self.outlets = Outlets(router, overlay, self._send, clock_s, clock_ms, settings.limits)
        self.retained = RetainedOutlet(
            router, self._send, self.outlets.exports_to, lambda: overlay.me.epoch, clock_ms, settings.limits)
        self.handover = Handover(
            router, overlay, self._send, clock_s, clock_ms, rng, settings.limits, self.intake.needs,
            self.intake.arrived)
        self._view = View(router, self.intake, self.outlets, self.counts, clock_s, clock_ms)
        self._started = False

    def start(self) -> None:
        """The overlay can be asked; what is stored is restored."""
        self._started = True
        self.intake.start()
        self.handover.start()

    def on_message(self, source: str, body: bytes) -> None:
        """A message from another node, by the overlay."""
        if not self._started:
            return
        try:
            message = decode(body)
        except BadMessage:
            self.counts["bad messages"] += 1
            return
        if isinstance(message, Batch):
            self.intake.pulling.on_batch(source, message)
        elif isinstance(message, Pull):
            self.outlets.on_pull(source, message)
        elif isinstance(message, Problem):
            self.intake.pulling.on_problem(source, message)
        elif isinstance(message, Close):
            self.outlets.on_close(source, message)
        elif isinstance(message, RetainedAsk):
            if self._overlay.edge(source) is not None:      # else nobody knows what may leave for it; it asks again
                self.retained.on_ask(source, message)
        elif isinstance(message, RetainedPage):
            self.intake.retained.on_page(source, message)
        elif isinstance(message, ExportAsk):
            self.handover.on_ask(source, message)
        elif isinstance(message, Export):
            self.handover.on_export(source, message)

    def on_nodes_changed(self, names: set[str]) -> None:
        """Nodes appeared, vanished, or changed boot, epoch, streams or links."""
        if self._started:
            self.intake.nodes_changed(names)

    def streams_changed(self) -> None:
        """router.on_streams: streams of ours were made, changed or deleted."""
        self.outlets.streams_changed()
        self.intake.look_again()

    def wanted_changed(self, pattern: str, added: bool) -> None:
        """router.on_wanted: somebody here wants a filter, or nobody does any more."""
        if self._started:
            self.intake.wanted_changed(pattern, added)

    def tick(self, now_s: float) -> None:
        """Every 5 to 50 ms."""
        if self._started:
            self.intake.tick(now_s)
            self.outlets.tick(now_s)
            self.handover.tick(now_s)
            self._view.tick(now_s)

    def snapshot(self, *, filters: bool = True) -> dict[str, Any]:
        """Plain values for the CLI, the console and metrics: see view.py."""
        return self._view.snapshot(filters=filters)

    def lags(self, *, look: bool) -> dict[str, Lag]:
        """What waits for each destination: see view.py."""
        return self._view.lags(look=look)

    def disk(self) -> dict[str, Any]:
        """Of the snapshot."""
        return self._view.disk()

    def watch_disk(self, free_bytes: Callable[[], int | None]) -> None:
        """free_bytes(): of the disk that the log is on, None when it is not known. Asked once a second."""
        self.outlets.hold.free_bytes = free_bytes

    def close(self) -> None:
        """Tell the others that nothing more is pulled for now."""
        if self._started:
            self._started = False
            self.intake.close()
            self.outlets.close()

    def _send(self, to: str, message: Message, priority: int) -> bool:
        return self._overlay.send(to, encode(message), priority)
