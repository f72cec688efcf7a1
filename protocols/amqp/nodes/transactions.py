"""Transactions: messages and answers that count when they are committed, and then together. AMQP 1.0 §4.

    declare ─► txn-id ─► transfers and dispositions with transactional-state ─► discharge ┬ commit: one step of the core
                                                                                          └ fail, or lost: nothing
The step publishes and acks, or does neither, whenever the node is killed (routing/together). Rejected, released and
modified follow when it is done. What was answered in a transaction that is rolled back goes out again, counted.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from protocols.amqp import convert
from protocols.amqp.codec.composite import Composite, composed
from protocols.amqp.codec.conditions import (
    CONDITION_OF_REASON,
    DECODE_ERROR,
    RESOURCE_LIMIT,
    ROLLED_BACK,
    UNKNOWN_TRANSACTION,
    DecodeFault,
    LinkFault,
)
from protocols.amqp.codec.performatives import (
    ACCEPTED,
    Accepted,
    Declare,
    Declared,
    Discharge,
    Error,
    Modified,
    Rejected,
    TransactionalState,
)
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.engine.seams import LooksAtEach
from protocols.amqp.nodes.work import Readable, Work, copy_of
from protocols.scheduling.longwork import in_pieces
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.event import Event, event_size_bytes
from routing.router import Router
from routing.ticket import Ticket

_FAILED = Modified(True)


class Holder(Protocol):
    """Who has handed out a delivery: sources/reading.py."""

    queue: Readable

    def conclude(self, held: Delivery, state: Composite | None) -> None: ...


class Transaction:
    """What is not committed."""

    __slots__ = ("bytes", "error", "events", "internal", "settled")

    def __init__(self) -> None:
        self.bytes = 0
        self.events: list[Event] = []
        self.internal: list[Event] = []
        self.settled: list[tuple[Holder, Delivery, Composite | None]] = []
        self.error: Error | None = None                 # it cannot be committed any more


class Transactions:
    """Of one connection."""

    def __init__(self, router: Router, work: Work, *, count_max: int, bytes_max: int) -> None:
        self._router = router
        self._work = work
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0                                 # of those that are open
        self._under_way = 0                             # of those whose commit is not on disk
        self._held = False                              # nothing is read until less is under way
        self._number = 0
        self._open: dict[bytes, Transaction] = {}

    def declare(self) -> bytes:
        if len(self._open) >= self._count_max:
            raise LinkFault(RESOURCE_LIMIT, f"{len(self._open)} transactions are open on this connection")
        self._number += 1
        txn_id = self._number.to_bytes(8, "big")
        self._open[txn_id] = Transaction()
        return txn_id

    def publish(self, txn_id: bytes, event: Event, delivery: Incoming, *, internal: bool,
                copies: Sequence[str] = ()) -> None:
        """A message of a transaction. It is answered now: that it has come; not that it is on disk.

        internal: the right to send it was asked already. copies: topics of queues that get it besides.
        """
        transaction = self._open.get(txn_id)
        if transaction is None:
            raise LinkFault(UNKNOWN_TRANSACTION, "there is no such transaction")
        size = event_size_bytes(event) * (1 + len(copies))
        transaction.bytes += size
        self._bytes += size
        if self._bytes > self._bytes_max:
            self._forget(txn_id)
            self._roll_back(transaction)
            raise LinkFault(RESOURCE_LIMIT, "the transactions of this connection are too large")
        (transaction.internal if internal else transaction.events).append(event)
        transaction.internal += [copy_of(event, topic) for topic in copies]
        delivery.answer(TransactionalState(txn_id, ACCEPTED))

    def settle(self, txn_id: bytes, holder: Holder, held: Delivery, outcome: Composite | None) -> None:
        """An answer of a transaction. One of a transaction that is not there counts for nothing: it goes out again."""
        transaction = self._open.get(txn_id)
        if transaction is None:
            holder.conclude(held, _FAILED)
        else:
            transaction.settled.append((holder, held, outcome))

    def discharge(self, txn_id: bytes, *, fail: bool, done: Callable[[Composite], None]) -> None:
        """done hears the outcome of the discharge."""
        transaction = self._forget(txn_id)
        if transaction is None:
            done(Rejected(Error(UNKNOWN_TRANSACTION, "there is no such transaction")))
        elif fail:
            self._roll_back(transaction, lambda: done(ACCEPTED))
        else:
            self._commit(transaction, done)

    def _commit(self, transaction: Transaction, done: Callable[[Composite], None]) -> None:
        acked: dict[Consumer, list[Delivery]] = {}
        others: list[tuple[Holder, Delivery, Composite | None]] = []

        def sort(one: tuple[Holder, Delivery, Composite | None]) -> None:
            holder, held, outcome = one
            if outcome is not None and type(outcome) is not Accepted:
                others.append(one)
            elif not holder.queue.is_deleted:
                acked.setdefault(holder.queue.consumer, []).append(held)

        def decided(ticket: Ticket | None = None) -> None:
            self._committed(transaction.bytes)
            if ticket is not None and ticket.refusals:
                refusal = ticket.refusals[min(ticket.refusals)]
                text = f"{ROLLED_BACK}: {refusal.text}"
                outcome = Rejected(Error(CONDITION_OF_REASON[refusal.reason], text[:1000]))
                self._roll_back(transaction, lambda: done(outcome))
                return
            self._work.long_work(_concluded(others, lambda: done(ACCEPTED)))

        def work() -> Iterator[None]:
            yield from in_pieces(transaction.settled, sort)
            self._committing(transaction.bytes)
            if transaction.events or transaction.internal or acked:
                self._router.together.commit(
                    transaction.events, self._work.publisher, acked.items(), transaction.internal).on_done(decided)
            else:
                decided()

        self._work.long_work(work())

    def _committing(self, size: int) -> None:
        """No more is read while so much is on its way to the disk as may be open at a time."""
        self._under_way += size
        if self._under_way > self._bytes_max and not self._held:
            self._held = True
            self._work.hold()

    def _committed(self, size: int) -> None:
        self._under_way -= size
        if self._held and self._under_way <= self._bytes_max:
            self._held = False
            self._work.release()

    def _roll_back(self, transaction: Transaction, done: Callable[[], None] = lambda: None) -> None:
        self._work.long_work(_concluded([(holder, held, _FAILED) for holder, held, _ in transaction.settled], done))

    def _forget(self, txn_id: bytes) -> Transaction | None:
        transaction = self._open.pop(txn_id, None)
        if transaction is not None:
            self._bytes -= transaction.bytes
        return transaction

    def close(self) -> None:
        """The connection has gone: nothing of it counts. What it held goes back with the links."""
        self._open.clear()
        self._bytes = 0


def _concluded(answers: list[tuple[Holder, Delivery, Composite | None]], done: Callable[[], None]) -> Iterator[None]:
    yield from in_pieces(answers, lambda one: one[0].conclude(one[1], one[2]))
    done()


class CoordinatorTarget(LooksAtEach):
    """TargetNode of a link to the coordinator. What it has declared and not discharged goes with it.    §4.2"""

    __slots__ = ("_declared", "_link", "_transactions", "_work")

    def __init__(self, link: ReceivingLink, transactions: Transactions, work: Work) -> None:
        self._link = link
        self._transactions = transactions
        self._work = work
        self._declared: dict[bytes, None] = {}

    def take(self, delivery: Incoming, message: bytes) -> None:
        connection: Any = self._link.session.connection
        try:
            asked = composed(convert.value_of(message))
        except DecodeFault as fault:
            raise LinkFault(DECODE_ERROR, fault.text) from None
        if isinstance(asked, Declare):
            if asked.global_id is not None:
                raise LinkFault("amqp:not-implemented", "there are no distributed transactions here")
            txn_id = self._transactions.declare()
            self._declared[txn_id] = None
            delivery.answer(Declared(txn_id))
            connection.flush_answers()
        elif isinstance(asked, Discharge):
            self._declared.pop(asked.txn_id, None)
            self._work.flush()

            def done(outcome: Composite) -> None:
                delivery.answer(outcome)
                connection.flush_answers()

            self._transactions.discharge(asked.txn_id, fail=bool(asked.fail), done=done)
        else:
            raise LinkFault(DECODE_ERROR, "a coordinator takes declare and discharge")

    def detach(self, *, closed: bool) -> None:
        for txn_id in self._declared:
            self._transactions.discharge(txn_id, fail=True, done=lambda outcome: None)
        self._declared.clear()
