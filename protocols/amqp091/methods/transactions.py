"""Methods of classes tx and confirm: what is published and acked counts when it is committed, and then together.

Sources: AMQP 0-9-1 §1.9; confirm.select is RabbitMQ's. What is not committed stands in channels/transaction.py.
"""
from __future__ import annotations

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.publishing import all_done
from protocols.amqp091.channels.transaction import Transaction
from protocols.amqp091.channels.window import Unacked
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
from protocols.amqp091.methods.settling import give_back
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery


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
    transaction = _of(channel, method.id)
    settled = list(transaction.settled)
    tickets = channel.publishing.together(list(transaction.events), _acked(channel, settled))
    transaction.clear()

    def finish() -> None:
        if channel.closing:
            return
        refusals = [refusal for ticket in tickets for refusal in ticket.refusals.values()]
        if refusals:
            error = refused(refusals[0], method.id)
            error.channel = channel.number
            raise error
        _settle(channel, settled)
        channel.send(TxCommitOk())

    channel.peer.after(lambda done: all_done(tickets, done), finish)


def _acked(channel: Channel, settled: list[tuple[list[int], bool, bool]]) -> list[tuple[Consumer, list[Delivery]]]:
    """The deliveries that are acked, by the consumer that they came from."""
    found: dict[Consumer, list[Delivery]] = {}
    for tags, acked, _ in settled:
        for tag in tags if acked else ():
            held = channel.window.unacked.get(tag)
            if held is not None:
                found.setdefault(held.queue.core.consumer, []).append(held.delivery)
    return list(found.items())


def _settle(channel: Channel, settled: list[tuple[list[int], bool, bool]]) -> None:
    for tags, acked, requeue in settled:
        held: list[Unacked] = [found for tag in tags if (found := channel.window.unacked.pop(tag, None)) is not None]
        if not acked:
            give_back(channel, held, requeue)
            continue
        for one in held:
            channel.peer.acks.setdefault(one.queue, []).append(one.delivery)
            if one.holder is not None:
                one.holder.settled(1)
    channel.peer.flush_acks()
    channel.window.refresh()


def rollback(channel: Channel, method: TxRollback) -> None:
    _of(channel, method.id).clear()
    channel.send(TxRollbackOk())


def _of(channel: Channel, method: tuple[int, int]) -> Transaction:
    if channel.transaction is None:
        raise SoftError(PRECONDITION_FAILED, "channel is not transactional", method)
    return channel.transaction
