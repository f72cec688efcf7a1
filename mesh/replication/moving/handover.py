"""Handover: a durable consumer that is opened on another node goes on there from where it was.

    new node ── LOOK ──► who may bring it   paused meanwhile; nobody has it: it begins here as it was asked for
             ◄─ found ──
             ── MOVE ──► the one that has it: closes it, keeps its position durably for the new node
             ◄─ state ──
             places its cursors, asks for history that it lacks, stores both
             ── DONE ──► forgets it

Nothing is lost: what was not acked there is delivered here. What may have been delivered before is marked as repeated.
It moves only to the same user, over links that let all of its events out there and in here: the user is what the other
node says. From under a reader it is never taken: an exclusive one waits here until the reader there has gone.
Stored: "handover/out/<name>" at the old node until DONE, "handover/in/<name>" at the new one until it has caught up.
"""
from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.link.protocol.frames import PRIORITY_GOSSIP
from mesh.replication.borders import may_enter
from mesh.replication.incoming.arrived import IN, Arrived
from mesh.replication.messages import Export, ExportAsk, Step
from mesh.replication.moving.departures import Departures
from mesh.replication.moving.homes import Homes, Send
from mesh.replication.moving.silent import Silent
from mesh.replication.positions import Moved, later, place
from routing.errors import StorageError
from routing.rights.policy import INTERNAL
from routing.state import decode_stored
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.replication.incoming.needs import HistoryNeeds
    from mesh.replication.overlay import Overlay
    from mesh.replication.settings import ReplicationSettings
    from routing.consumers.consumer import Consumer
    from routing.router import Router
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0             # for the answers of all that are asked; who is silent so long is not waited for
SILENT_LOOK_S: Final = 0.5      # for those that were silent the last time
RESTART_S: Final = 5.0          # after a start, until the links are up
ASK_AGAIN_S: Final = 0.5
LOOKED_PER_TICK: Final = 500    # consumers: are they still there? some 0.1 ms
MOVE_S: Final = 30.0            # without its state, and the log says so: it may be gone there already
LOOKING: Final = b"?"           # since when, by our wall clock, and of whom it is taken: stored while we ask


class _Incoming:
    """A consumer of ours that may have been elsewhere before."""

    __slots__ = ("again_s", "answered", "asked", "consumer", "due_s", "is_patient", "moved", "request", "since_ms",
                 "source", "told", "unhindered_s", "used_ms")

    def __init__(self, consumer: Consumer, request: int, now_s: float, since_ms: int) -> None:
        self.consumer = consumer
        self.request = request
        self.since_ms = since_ms
        self.moved: Moved | None = None
        self.is_patient = False                 # not content with the answers of those who are in sight
        self.look_again(now_s)

    def look_again(self, now_s: float) -> None:
        self.told: set[str] = set()             # nodes that were asked
        self.answered: set[str] = set()         # those of them that have answered
        self.source: str | None = None          # the best answer so far
        self.used_ms = -1
        self.asked = False                      # MOVE was said
        self.due_s = now_s + LOOK_S
        self.unhindered_s = now_s + SILENT_LOOK_S
        self.again_s = now_s + ASK_AGAIN_S

    @property
    def missing(self) -> set[str]:
        """Nodes that have not answered."""
        return self.told - self.answered

    def after_start(self, source: str) -> None:
        """The others are not in sight yet. source: has been asked for it, "": nobody has."""
        self.is_patient = True
        self.due_s += RESTART_S
        if source:
            self.source, self.asked = source, True


def looked(stored: bytes) -> tuple[int, str]:
    """Since when, 0: it does not say; and the node that was asked for the consumer, "": none was."""
    digits, _, source = stored.removeprefix(LOOKING).partition(b" ")
    return int(digits) if digits.isdigit() else 0, source.decode(errors="replace")


class Handover:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, send: Send, clock_s: Callable[[], float],
                 clock_ms: Callable[[], int], rng: random.Random, limits: ReplicationSettings,
                 history: HistoryNeeds, arrived: Arrived) -> None:
        self.moved_in = 0
        self._router = router
        self._overlay = overlay
        self._send = send
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._rng = rng
        self._exports_max = limits.exports_max
        self._history = history
        self._silent = Silent(clock_s)
        self._known: dict[str, Consumer] = {}
        self._round: deque[str] = deque()                       # of those, to be looked at before all others again
        self._incoming: dict[str, _Incoming] = {}               # by name of the consumer
        self._arrived = arrived
        self._homes = Homes(router, overlay, send, clock_s, rng, limits.group_kept_s * 1000)
        self.departures = Departures(router, overlay, send, clock_s, clock_ms, history, arrived.by_name, self._homes)

    def start(self) -> None:
        state = self._router.state
        self._known = dict(self._router.registry.by_name)
        self.departures.start()
        self._homes.start()
        for key, value in state.items(IN):
            name = key.removeprefix(IN)
            consumer = self._known.get(name)
            if consumer is None:
                state.delete(key)
            elif value[:1] == LOOKING:          # stopped in the middle of asking; the others are not in sight yet
                since_ms, source = looked(value)
                self._begin(consumer, since_ms)
                self._incoming[name].after_start(source)
            elif (moved := decode_stored(key, value, Moved, "handover")) is not None:
                self._arrived.by_name[name] = moved
                self._resume(consumer)
        self._router.registry.on_opened.append(self._opened)

    # -- the new node -----------------------------------------------------------------------------------------

    def _opened(self, consumer: Consumer) -> None:
        """ConsumerRegistry.on_opened: created, or its options changed."""
        if self._known.get(consumer.name) is consumer:
            return
        self._known[consumer.name] = consumer
        if not consumer.spec.durable or consumer.identity is INTERNAL or consumer.paused:
            return
        if consumer.spec.queue is not None:     # its parts stay where they are: mesh/queues
            return
        if (consumer.name in self.departures.gone or self._asked(consumer)) and len(self._incoming) < self._exports_max:
            self._begin(consumer)

    def _asked(self, consumer: Consumer) -> list[str]:
        """Nodes in sight from which it may come. What the others would say decides nothing."""
        return [node for node in self._overlay.nodes
                if (edge := self._overlay.edge(node)) is None or may_enter(edge, consumer.filters)]

    def _begin(self, consumer: Consumer, since_ms: int = 0) -> None:
        """since_ms: when it was opened, 0: now."""
        entry = self._incoming[consumer.name] = _Incoming(
            consumer, self._rng.getrandbits(63), self._clock_s(), since_ms or self._clock_ms())
        consumer.pause()
        self._store_looking(entry)
        own = self.departures.gone.get(consumer.name)
        if own is not None and own.user == consumer.identity.user:
            entry.source, entry.used_ms = self._overlay.me.name, own.left_ms
        self._look(entry)

    def _store_looking(self, entry: _Incoming) -> None:
        source = entry.source.encode() if entry.asked and entry.source is not None else b""
        self._router.state.put(IN + entry.consumer.name, LOOKING + b"%d %s" % (entry.since_ms, source))

    def _look(self, entry: _Incoming) -> None:
        consumer = entry.consumer
        ask = ExportAsk(entry.request, consumer.name, consumer.identity.user, Step.LOOK, entry.since_ms)
        entry.told.update(self._asked(consumer))
        for node in entry.missing:
            self._send(node, ask, PRIORITY_GOSSIP)

    def on_export(self, source: str, export: Export) -> None:
        self._silent.heard(source)
        if export.step == Step.NEEDED:
            self._homes.on_answer(source, export)
            return
        entry = self._incoming.get(export.name)
        if entry is None or entry.request != export.request:
            return
        if export.step == Step.LOOK and not entry.asked:
            entry.answered.add(source)
            if export.found and export.used_ms > entry.used_ms and self._may_come(source, entry.consumer.filters):
                entry.source, entry.used_ms = source, export.used_ms
            if not entry.missing and (entry.source is not None or not entry.is_patient):
                self._choose(entry)
        elif export.step == Step.MOVE and entry.asked and source == entry.source and entry.moved is None:
            if not export.found:
                self._fresh(entry)              # somebody else was faster
                return
            if export.busy:
                entry.due_s = self._clock_s() + MOVE_S
                return
            try:
                moved = msgspec.msgpack.decode(export.state, type=Moved)
            except msgspec.MsgspecError as error:
                log.warning("node %s: the state of consumer %s cannot be read: %s", source, export.name, error)
                self._fresh(entry)
                return
            if not self._may_come(source, moved.filters):
                log.warning("node %s: consumer %s has filters that its link may not bring", source, export.name)
                self._fresh(entry)
                return
            moved.begins = [later(want, -self._history.skew_ms(source)) for want in moved.begins]     # by our clock
            self._place(entry, moved)

    def _may_come(self, source: str, patterns: Iterable[str]) -> bool:
        """A node that may bring nothing of this decides nothing about who reads it."""
        return may_enter(self._overlay.edge(source), patterns)

    def _choose(self, entry: _Incoming) -> None:
        if entry.source is None:
            self._fresh(entry)
        elif entry.source != self._overlay.me.name:
            entry.asked = True
            entry.due_s = self._clock_s() + MOVE_S
            self._store_looking(entry)
            self._move(entry)
        elif (own := self.departures.gone.get(entry.consumer.name)) is not None:
            entry.asked = True
            self._place(entry, own.moved)
        else:
            entry.look_again(self._clock_s())           # it has arrived at the other node meanwhile
            self._look(entry)

    def _move(self, entry: _Incoming) -> None:
        consumer = entry.consumer
        assert entry.source is not None
        entry.again_s = self._clock_s() + ASK_AGAIN_S
        self._send(entry.source, ExportAsk(
            entry.request, consumer.name, consumer.identity.user, Step.MOVE), PRIORITY_GOSSIP)

    def _fresh(self, entry: _Incoming) -> None:
        """Nobody has it: it begins here."""
        self._incoming.pop(entry.consumer.name, None)
        self._router.state.delete(IN + entry.consumer.name)
        if not entry.consumer.closed:
            self._resume(entry.consumer)

    def _resume(self, consumer: Consumer) -> None:
        """In the commit of this turn, so that no crash leaves it paused for ever."""
        consumer.resume()
        self._router.registry.checkpoint(consumer)

    def _place(self, entry: _Incoming, moved: Moved) -> None:
        entry.moved = moved
        consumer = entry.consumer
        for pattern in moved.filters if not consumer.filters else ():
            consumer.add_filter(pattern, consumer.identity)
        self._history.wanted_since(moved.begins)
        me = self._overlay.me
        steps = place(self._router, consumer, me.name, me.epoch, moved, self._history.skew_ms)

        def work() -> Iterator[None]:
            try:
                yield from steps
            except StorageError as error:
                log.error("consumer %s cannot be placed yet: %s", consumer.name, error)
                entry.moved = None              # with the next answer
                return
            if consumer.closed or self._incoming.get(consumer.name) is not entry:
                return
            self._router.state.put(IN + consumer.name, msgspec.msgpack.encode(moved))
            self._homes.arrived(consumer.name, moved.homes)
            ticket = self._router.registry.checkpoint(consumer)
            assert ticket is not None
            ticket.on_done(lambda done: self._placed(entry, done))

        in_steps(self._router, work())

    def _placed(self, entry: _Incoming, ticket: Ticket) -> None:
        consumer = entry.consumer
        if ticket.refusals:                     # such as a full disk: tried again with the next MOVE
            entry.moved = None
            return
        if consumer.closed or self._incoming.get(consumer.name) is not entry:
            return
        del self._incoming[consumer.name]
        assert entry.moved is not None
        self._arrived.by_name[consumer.name] = entry.moved
        self.moved_in += 1
        log.info("consumer %s goes on here, it came from node %s", consumer.name, entry.source)
        if consumer.name in self.departures.gone:
            self.departures.forget(consumer.name)       # also one that left long ago, for a node that never said DONE
        if entry.source is not None and entry.source != self._overlay.me.name:
            self._send(entry.source, ExportAsk(
                entry.request, consumer.name, consumer.identity.user, Step.DONE), PRIORITY_GOSSIP)
        self._resume(consumer)

    # -- the old node -----------------------------------------------------------------------------------------

    def on_ask(self, source: str, ask: ExportAsk) -> None:
        self._silent.heard(source)
        if ask.step == Step.LOOK:
            if self._goes_first(source, ask):
                return                          # we shall have it: the answer comes with the next question
            used_ms = self.departures.used_ms(source, ask, is_looking=ask.name in self._incoming)
            self._send(source, Export(ask.request, ask.name, Step.LOOK, used_ms >= 0, max(used_ms, 0)), PRIORITY_GOSSIP)
        elif ask.step == Step.MOVE:
            self.departures.move_out(source, ask, is_looking=ask.name in self._incoming)
        elif ask.step == Step.DONE:
            outgoing = self.departures.gone.get(ask.name)
            if outgoing is not None and outgoing.to == source:
                self.departures.forget(ask.name)
        elif ask.step == Step.NEEDED:
            self._homes.on_ask(source, ask)

    def _goes_first(self, source: str, ask: ExportAsk) -> bool:
        """Two nodes look for one consumer: the one that began first has it, and the other gets it from there."""
        entry = self._incoming.get(ask.name)
        if entry is None or entry.consumer.identity.user != ask.user:
            return False
        theirs_ms = ask.since_ms - self._history.skew_ms(source) if ask.since_ms else self._clock_ms()
        return entry.asked or (entry.since_ms, entry.request) < (theirs_ms, ask.request)

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        self._homes.tick(now_s)
        for entry in list(self._incoming.values()):
            if entry.consumer.closed:
                self._incoming.pop(entry.consumer.name, None)
                self._router.state.delete(IN + entry.consumer.name)
            elif entry.moved is not None:
                continue
            elif now_s >= entry.due_s:
                if entry.asked:
                    log.error("consumer %s waits for node %s, which has its position and does not answer; if it is "
                              "gone for good, delete the consumer and open it again", entry.consumer.name, entry.source)
                    entry.due_s = now_s + MOVE_S
                    self._move(entry)
                else:
                    self._silent.add(entry.missing)
                    self._choose(entry)
            elif self._is_held_up(entry, now_s):
                self._choose(entry)
            elif now_s >= entry.again_s:
                if entry.source == self._overlay.me.name and entry.asked:
                    self._choose(entry)
                elif entry.asked:
                    self._move(entry)
                else:
                    entry.again_s = now_s + ASK_AGAIN_S
                    self._look(entry)
        self._look_round()

    def _is_held_up(self, entry: _Incoming, now_s: float) -> bool:
        """Only by nodes that were silent the last time."""
        return not (entry.asked or entry.is_patient) and now_s >= entry.unhindered_s and all(
            node in self._silent for node in entry.missing)

    def _look_round(self) -> None:
        if not self._round:
            self._round.extend(self._known)
        for _ in range(min(LOOKED_PER_TICK, len(self._round))):     # of 100,000, each tick would look at all of them
            name = self._round.popleft()
            known = self._known.get(name)
            if known is not None and known.closed:
                del self._known[name]
