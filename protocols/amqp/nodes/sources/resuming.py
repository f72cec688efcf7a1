"""ResumingReader: a receiver's link to a queue that may be resumed. What the next one of its name says decides. §2.6.13

    of what this side has unsettled     the receiver says           then
                                        an outcome                  it counts, and is settled
                                        no state, received(…)       sent again with resume, from its first byte
                                        nothing                     ready again, counted; while its map is
                                                                    incomplete: kept for the next attach
    of what it has not                  accepted, rejected          of an event that a killed node had sent: it counts,
                                                                    unless another member has it by now
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from protocols.amqp import convert
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.performatives import SECOND, Accepted, Attach, Modified, Rejected, Released, Source
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.engine.unsettled import TAG_BYTES, tags_of
from protocols.amqp.nodes.addresses import address_of
from protocols.amqp.nodes.sources.reading import QueueReader
from protocols.amqp.nodes.work import Work
from protocols.amqp.resuming.suspended import Expiry, Key, Termini
from protocols.amqp.resuming.tags import Tags
from protocols.scheduling.longwork import in_pieces
from routing.cursors.delivery import Delivery
from routing.queues.queue import Queue
from routing.rights.policy import Identity
from routing.router import Router

PAGE = 100                      # deliveries sent again in one turn
_OUTCOMES = (Accepted, Rejected, Released, Modified)


class Held:
    """Deliveries that no link holds, and in whose place a later one may stand. Kept of suspended.py."""

    __slots__ = ("deliveries", "queue")

    def __init__(self, queue: Queue, deliveries: dict[bytes, Delivery]) -> None:
        """They are its own from now on."""
        self.queue = queue
        self.deliveries = deliveries
        for delivery in deliveries.values():
            delivery.member = self

    @property
    def size_bytes(self) -> int:
        return sum([len(one.event.payload) for one in self.deliveries.values()]) + TAG_BYTES * len(self.deliveries)

    def give_up(self) -> None:
        if not self.queue.is_deleted:
            self.queue.release(self)        # type: ignore[arg-type]  # whoever holds them is enough


class ResumingReader(QueueReader):
    """See the module's head. Deliveries are known by their tags."""

    __slots__ = ("_again", "_expiry", "_gone", "_held", "_is_scheduled", "_key", "_queue", "_settling", "_tags",
                 "_termini", "is_stolen")

    def __init__(self, link: SendingLink, queue: Queue, identity: Identity, router: Router, work: Work,
                 transactions: Any, termini: Termini, key: Key, expiry: Expiry, *,
                 default_outcome: Composite | None, on_detach: Callable[[bool], None], selects: bool, named: bool,
                 notes: convert.Marks | None) -> None:
        super().__init__(link, queue, identity, router, work, transactions, default_outcome=default_outcome,
                         on_detach=on_detach, selects=selects, named=named, notes=notes, tag=self._tagged)
        self._queue = queue
        self._termini = termini
        self._key = key
        self._expiry = expiry
        self._tags = Tags(router.store.epoch, queue)
        self._held: dict[int, tuple[bytes, Delivery]] = {}      # by identity: sent and not settled, or to be sent again
        self._again: dict[bytes, Delivery] = {}         # of those, what is to be sent again
        self._is_scheduled = False
        self._gone = False
        self.is_stolen = False                          # another link of this name takes its place
        self._settling: list[tuple[int, Composite | None]] = []

    # -- taking over ------------------------------------------------------------------------------------------

    def claim(self) -> Held:
        """What an earlier link has left. It is attached no more, if it was."""
        kept = self._termini.claim(self._key, self)
        if isinstance(kept, Held) and kept.queue is self._queue:
            return kept
        if kept is not None:                            # the name was for another queue then
            kept.give_up()
        return Held(self._queue, {})

    def refused(self, kept: Held) -> None:
        """It cannot be a member of the queue."""
        self._termini.left(self._key, self, kept, None)

    def resume(self, kept: Held, attach: Attach, echo: Source) -> Iterator[None]:
        """Settle and take over by what the receiver says is unsettled, and answer its attach."""
        answered = False
        try:
            is_complete = not attach.incomplete_unsettled
            yield from in_pieces(tags_of(attach.unsettled).items(), lambda one: self._compare(kept, *one))
            if not is_complete:
                self._take(kept.deliveries)
            kept.give_up()
            self._work.flush()
            answered = True
            self._when_stored(lambda: self._accept(echo))
        finally:
            if not answered:                            # its connection is gone, or said what nobody can
                kept.give_up()
                self.detach(closed=False)

    def _compare(self, kept: Held, tag: bytes, state: Composite | None) -> None:
        delivery = kept.deliveries.get(tag)
        if delivery is None:
            if type(state) is Accepted:
                self._tags.accepted(tag, kept)
            elif type(state) is Rejected or (type(state) is Modified and state.undeliverable_here):
                self._tags.rejected(tag, kept)
        elif isinstance(state, _OUTCOMES):
            del kept.deliveries[tag]
            self.conclude(delivery, state)
        else:
            self._again[tag] = kept.deliveries.pop(tag)
            self._take({tag: delivery})

    def _take(self, deliveries: dict[bytes, Delivery]) -> None:
        for tag, delivery in deliveries.items():
            delivery.member = self
            self._held[id(delivery)] = tag, delivery

    def _when_stored(self, work: Callable[[], None]) -> None:
        """Once what was settled stays so: the receiver forgets it then."""
        self._queue.consumer.checkpoint()
        self._router.queues.when_stored(work)

    def _accept(self, echo: Source) -> None:
        """Say what is to be sent again, in the order of the log; what has no room waits for the next attach."""
        link = self.link
        connection: Any = link.session.connection
        if not link.is_waiting:
            self.detach(closed=False)
            return
        connection.guarded(link, lambda: self._answer(echo))

    def _answer(self, echo: Source) -> None:
        link = self.link
        if link.attach.rcv_settle_mode == SECOND:
            link.settle_later = self._settle_later
        again = self._again = dict(sorted(self._again.items(), key=lambda one: one[1].event.offset))
        link.accept(self, echo, unsettled=dict.fromkeys(again))
        if link.resumes_only:
            told = link.told or {}
            self._again = {tag: one for tag, one in again.items() if tag in told}
            self.credit = self.demand = 0
        if link.is_attached:
            self.credit_changed()

    # -- SourceNode -------------------------------------------------------------------------------------------

    def credit_changed(self) -> None:
        if self._again:
            self._send_again()
        if not self._again and not self.link.resumes_only:
            super().credit_changed()

    def drain(self) -> None:
        if self._again and self.link.credit > 0:
            return                                      # they go before; then it is asked again
        if self.link.resumes_only:
            self.link.drained()
        else:
            super().drain()

    def settle(self, held: Delivery, state: Composite | None, *, settled: bool) -> None:
        self._held.pop(id(held), None)
        super().settle(held, state, settled=settled)

    def accepted(self, held: list[Delivery]) -> None:
        for delivery in held:
            self._held.pop(id(delivery), None)
        super().accepted(held)

    def detach(self, *, closed: bool) -> None:
        if self._gone:
            return
        connection: Any = self.link.session.connection
        lasts = (not closed or self.is_stolen) and not connection.identity.revoked
        kept = self._let_go()
        super().detach(closed=closed)
        self._termini.left(self._key, self, kept, self._expiry if lasts and not self._queue.is_deleted else None)

    def hand_over(self) -> Held:
        kept = self._let_go()
        super().detach(closed=False)
        self._gone = True
        return kept

    # -- inside -----------------------------------------------------------------------------------------------

    def _let_go(self) -> Held:
        held, self._held, self._again = self._held, {}, {}
        return Held(self._queue, dict(held.values()))

    def _settle_later(self, number: int, state: Composite | None) -> None:
        """Second settle mode: it is settled when that is on disk."""
        self._settling.append((number, state))
        if len(self._settling) == 1:
            self._work.when_flushed(self._store_settled)

    def _store_settled(self) -> None:
        settling, self._settling = self._settling, []
        self._when_stored(lambda: self._say_settled(settling))

    def _say_settled(self, settling: list[tuple[int, Composite | None]]) -> None:
        link = self.link
        if link.is_attached:
            connection: Any = link.session.connection
            connection.cork()
            for number, state in settling:
                link.settled(number, state)
            connection.uncork()

    def _tagged(self, delivery: Delivery) -> bytes:
        tag = self._tags.write(delivery)
        self._held[id(delivery)] = tag, delivery
        return tag

    def _send_again(self) -> None:
        """A page of them; they go before what is new."""
        link, router = self.link, self._router
        connection: Any = link.session.connection
        count = min(link.room(), PAGE, len(self._again))
        now_ms = router.clock_ms()
        connection.cork()
        for tag in list(self._again)[:count]:
            delivery = self._again.pop(tag)
            message = convert.outward(
                delivery.event, delivery.attempts - 1, now_ms, router.ledger.lost, address_of, named=self._named,
                notes=self._notes)
            link.send(message, delivery, settled=False, tag=tag, resumed=True)
        connection.uncork()
        connection.container.count("resumed", count)
        if count and not self._is_scheduled and (link.room() > 0 or link.draining):
            self._is_scheduled = True
            router.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_scheduled = False
        if self.link.is_attached:
            self.credit_changed()
            if self.link.is_attached and self.link.draining:
                self.drain()
