"""Departures: durable consumers that go from here to another node. See handover.py.

Stored: "handover/out/<name>" from the commit in which the consumer is deleted here until the new node says DONE.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.link.protocol.frames import PRIORITY_GOSSIP
from mesh.replication.borders import may_leave
from mesh.replication.messages import Export, ExportAsk, Step
from mesh.replication.moving.homes import Homes, Send
from mesh.replication.positions import Moved, describe
from routing.consumers.definition.members import Mode
from routing.errors import StorageError
from routing.rights.policy import INTERNAL
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.replication.incoming.needs import HistoryNeeds
    from mesh.replication.overlay import Overlay
    from routing.consumers.consumer import Consumer
    from routing.router import Router
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

OUT: Final = "handover/out/"
RESERVED_S: Final = 60.0        # a consumer is kept for the node that asked for it


class Outgoing(msgspec.Struct, array_like=True):
    """A consumer that left, until the new node has it durably."""

    user: str
    to: str
    moved: Moved
    left_ms: int


class Departures:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Send, clock_s: Callable[[], float],
                 clock_ms: Callable[[], int], history: HistoryNeeds, catching_up: dict[str, Moved],
                 homes: Homes) -> None:
        """catching_up: consumers that came here and have not got everything yet, by name."""
        self.count = 0                          # since the start
        self.gone: dict[str, Outgoing] = {}     # by name
        self._router = router
        self._overlay = overlay
        self._send = send
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._history = history
        self._catching_up = catching_up
        self._homes = homes
        self._unstored: set[str] = set()        # of those that are gone, not on disk yet
        self._leaving: set[str] = set()         # being described

    def start(self) -> None:
        self.gone.update(self._router.state.decoded(OUT, Outgoing, "handover"))

    def used_ms(self, source: str, ask: ExportAsk, *, is_looking: bool) -> int:
        """When the consumer was last read here; -1: there is none that may go to this node. is_looking: we look for
        it ourselves.
        """
        consumer, outgoing = self._find(ask.name, is_looking)
        if outgoing is not None:
            free = outgoing.to == source or (
                self._clock_ms() - outgoing.left_ms > RESERVED_S * 1000
                and may_leave(self._overlay.edge(source), outgoing.moved.filters))
            return outgoing.left_ms if outgoing.user == ask.user and free else -1
        if (consumer is None or not consumer.spec.durable
                or (consumer.identity.user != ask.user and not self._homes.is_home(ask.name, source))
                or consumer.identity is INTERNAL or is_looking or consumer.spec.queue is not None
                or (consumer.members.all and consumer.spec.mode is not Mode.EXCLUSIVE)
                or not may_leave(self._overlay.edge(source), consumer.filters)):
            return -1
        since_s = consumer.attachment.detached_since_s
        return self._clock_ms() - (round((self._clock_s() - since_s) * 1000) if since_s is not None else 0)

    def _find(self, name: str, is_looking: bool) -> tuple[Consumer | None, Outgoing | None]:
        """A consumer that is here goes before what is left of one that went."""
        consumer = self._router.registry.by_name.get(name)
        return consumer, self.gone.get(name) if consumer is None or is_looking else None

    def move_out(self, source: str, ask: ExportAsk, *, is_looking: bool) -> None:
        """Answer MOVE."""
        if ask.name in self._leaving:
            return                              # under way; the answer comes with the next question
        if self.used_ms(source, ask, is_looking=is_looking) < 0:
            self._send(source, Export(ask.request, ask.name, Step.MOVE, False), PRIORITY_GOSSIP)
            return
        consumer, outgoing = self._find(ask.name, is_looking)
        if outgoing is not None:
            if ask.name in self._unstored:      # a full disk: the new node asks again
                self._keep(ask.name, outgoing, lambda: None)
                return
            outgoing.to = source
            self._send(source, Export(
                ask.request, ask.name, Step.MOVE, True, outgoing.left_ms, msgspec.msgpack.encode(outgoing.moved)),
                PRIORITY_GOSSIP)
            return
        assert consumer is not None
        if consumer.members.all:                # a connection is proof, and the name of a user in a question is none
            self._send(source, Export(ask.request, ask.name, Step.MOVE, True, busy=True), PRIORITY_GOSSIP)
            return
        self._leaving.add(ask.name)
        consumer.pause()
        out: list[Moved] = []
        missing = self._history.missing(list(consumer.filters))
        steps = describe(self._router, consumer, self._overlay.me.name, self._overlay.me.epoch, missing,
                         self._history.begins(consumer), self._catching_up.get(ask.name), out)

        def work() -> Iterator[None]:
            try:
                yield from steps
            except StorageError as error:
                log.error("consumer %s cannot be moved: %s", ask.name, error)
                consumer.resume()
                return
            finally:
                self._leaving.discard(ask.name)
            if consumer.closed or not out:
                return
            out[0].homes = self._homes.nodes(ask.name, source)
            left = self.gone[ask.name] = Outgoing(ask.user, source, out[0], self._clock_ms())
            # One commit: the position is kept, the consumer is gone.
            self._keep(ask.name, left, lambda: self.move_out(source, ask, is_looking=False))
            self._router.registry.delete(ask.name, f"the consumer goes on at node {source}")
            self.count += 1

        in_steps(self._router, work())

    def _keep(self, name: str, outgoing: Outgoing, kept: Callable[[], None]) -> None:
        """Store a consumer that left. Until that is on disk its position is given to nobody."""
        self._unstored.add(name)

        def stored(done: Ticket) -> None:
            if not done.refusals:
                self._unstored.discard(name)
                kept()

        self._router.state.put(OUT + name, msgspec.msgpack.encode(outgoing)).on_done(stored)

    def forget(self, name: str) -> None:
        """The new node has it durably."""
        self._unstored.discard(name)
        self.gone.pop(name, None)
        self._router.state.delete(OUT + name)
