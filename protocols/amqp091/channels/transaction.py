"""Transactions of a channel (class tx): messages and acks that count when they are committed, and then together.

Source: AMQP 0-9-1 §1.9. As in RabbitMQ a transaction covers publishes and acks of its channel; what was delivered and
is not acked at a rollback stays with the client.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels.publishing import all_done
from protocols.amqp091.channels.settling import give_back
from protocols.amqp091.codec.codes import PRECONDITION_FAILED, RESOURCE_ERROR, HardError, SoftError, refused
from protocols.amqp091.codec.methods import TxCommit, TxCommitOk, TxRollback, TxRollbackOk, TxSelect, TxSelectOk
from routing.event import Event

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.channels.reader import Unacked


class Transaction:
    """What is not committed."""

    def __init__(self) -> None:
        self.bytes = 0
        self.events: list[tuple[Event | None, tuple[str, ...], bytes | None]] = []
        self.settled: list[tuple[list[int], bool, bool]] = []           # tags, acked, requeue
        self._taken: set[int] = set()

    def publish(self, channel: Channel, event: Event | None, copies: tuple[str, ...], returned: bytes | None) -> None:
        self.bytes += (len(event.payload) if event is not None else 0) + 500
        if self.bytes > channel.connection.server.settings.transaction_bytes_max:
            raise HardError(RESOURCE_ERROR, "the transaction is too large", (60, 40))
        self.events.append((event, copies, returned))

    def settle(self, tags: list[int], acked: bool, requeue: bool) -> None:
        tags = [tag for tag in tags if tag not in self._taken]
        self._taken.update(tags)
        self.settled.append((tags, acked, requeue))

    def clear(self) -> None:
        self.bytes = 0
        self.events.clear()
        self.settled.clear()
        self._taken.clear()


def select(channel: Channel, method: TxSelect) -> None:
    if channel.confirm:
        raise SoftError(PRECONDITION_FAILED, "cannot switch from confirm to tx mode", method.id)
    if channel.transaction is None:
        channel.transaction = Transaction()
    channel.send(TxSelectOk())


def commit(channel: Channel, method: TxCommit) -> None:
    """Publish, and when that is durable ack, and answer."""
    transaction = _of(channel, method.id)
    connection = channel.connection
    publishing = connection.publishing
    assert publishing is not None
    for event, copies, returned in transaction.events:
        publishing.add(channel, 0, event, copies, returned)
    settled = list(transaction.settled)
    transaction.clear()
    tickets = publishing.flush()

    def finish() -> None:
        if channel.closing:
            return
        refusals = [refusal for ticket in tickets for refusal in ticket.refusals.values()]
        if refusals:
            error = refused(refusals[0], method.id)
            error.channel = channel.number
            raise error
        settle_now(channel, settled)
        channel.send(TxCommitOk())

    connection.after(lambda done: all_done(tickets, done), finish)


def settle_now(channel: Channel, settled: list[tuple[list[int], bool, bool]]) -> None:
    for tags, acked, requeue in settled:
        held: list[Unacked] = [found for tag in tags if (found := channel.unacked.pop(tag, None)) is not None]
        if not acked:
            give_back(channel, held, requeue)
            continue
        for one in held:
            channel.acks.setdefault(one.queue, []).append(one.delivery)
            if one.reader is not None:
                one.reader.settled(1)
    channel.flush_acks()
    channel.refresh_credit()


def rollback(channel: Channel, method: TxRollback) -> None:
    _of(channel, method.id).clear()
    channel.send(TxRollbackOk())


def _of(channel: Channel, method: tuple[int, int]) -> Transaction:
    if channel.transaction is None:
        raise SoftError(PRECONDITION_FAILED, "channel is not transactional", method)
    return channel.transaction
