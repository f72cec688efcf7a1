"""Methods of classes tx and confirm: what is published and acked counts when it is committed, and then together.

Sources: AMQP 0-9-1 §1.9; confirm.select is RabbitMQ's. What is not committed stands in channels/transaction.py.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.transaction import Transaction
from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError, refused
from protocols.amqp091.codec.methods import (
    ConfirmSelect,
    ConfirmSelectOk,
    TxCommit,
    TxCommitOk,
    TxRollback,
    TxRollbackOk,
    TxSelect,
    TxSelectOk,
)
from protocols.amqp091.methods.settling import acked, give_back
from protocols.scheduling.longwork import in_pieces
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.ticket import when_all


def confirm_select(channel: Channel, method: ConfirmSelect) -> None:
    if channel.transaction is not None:
        raise SoftError(PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
    channel.confirms.on = True
    if not method.nowait:
        channel.send(ConfirmSelectOk())


def select(channel: Channel, method: TxSelect) -> None:
    if channel.confirms.on:
        raise SoftError(PRECONDITION_FAILED, "cannot switch from confirm to tx mode", method.id)
    if channel.transaction is None:
        channel.transaction = Transaction(channel.peer.broker.settings.transaction_bytes_max)
    channel.send(TxSelectOk())


def commit(channel: Channel, method: TxCommit) -> None:
    """Publish and ack in one step, and answer when that is durable. What is given back is so afterwards."""
    channel.peer.long_work(_commit(channel, _of(channel, method.id), method.id))


def _commit(channel: Channel, transaction: Transaction, method: tuple[int, int]) -> Iterator[None]:
    settled = list(transaction.settled)
    to_ack: dict[Consumer, list[Delivery]] = {}

    def add(tag: int) -> None:
        held = channel.window.unacked.get(tag)
        if held is not None:
            to_ack.setdefault(held.queue.core.consumer, []).append(held.delivery)

    yield from in_pieces((tag for tags, is_acked, _ in settled if is_acked for tag in tags), add)
    tickets = yield from channel.publishing.together(list(transaction.events), list(to_ack.items()))
    transaction.clear()

    def finish() -> None:
        if channel.closing:
            return
        refusals = [refusal for ticket in tickets for refusal in ticket.refusals.values()]
        if refusals:
            error = refused(refusals[0], method)
            error.channel = channel.number
            raise error
        channel.peer.long_work(_settle(channel, settled))

    channel.peer.after(lambda done: when_all(tickets, lambda _: done()), finish)


def _settle(channel: Channel, settled: list[tuple[list[int], bool, bool]]) -> Iterator[None]:
    """Nothing that is behind what is given back comes before it."""
    window = channel.window
    window.waits = True
    try:
        for tags, is_acked, requeue in settled:
            held = (found for tag in tags if (found := window.unacked.pop(tag, None)) is not None)
            each = partial(acked, channel) if is_acked else partial(give_back, requeue=requeue)
            for _ in in_pieces(held, each):
                channel.peer.flush_acks()
                yield
            channel.peer.flush_acks()
    finally:
        window.waits = False
    window.refresh()
    channel.send(TxCommitOk())


def rollback(channel: Channel, method: TxRollback) -> None:
    _of(channel, method.id).clear()
    channel.send(TxRollbackOk())


def _of(channel: Channel, method: tuple[int, int]) -> Transaction:
    if channel.transaction is None:
        raise SoftError(PRECONDITION_FAILED, "channel is not transactional", method)
    return channel.transaction
