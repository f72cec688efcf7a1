"""Answers of a client to deliveries: ack, nack, reject, recover. Tags are those of the channel."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.codec.codes import NOT_IMPLEMENTED, PRECONDITION_FAILED, HardError, SoftError
from protocols.amqp091.codec.methods import BasicNack, BasicRecover, BasicRecoverAsync, BasicRecoverOk, BasicReject

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.channels.reader import Unacked

_ACK, _NACK, _REJECT = (60, 80), (60, 120), (60, 90)


def ack(channel: Channel, tag: int, multiple: bool) -> None:
    """They are done with. In a transaction they are when it is committed."""
    if channel.transaction is not None:
        channel.transaction.settle(check(channel, tag, multiple, _ACK), True, False)
        return
    if not multiple:
        held = channel.unacked.pop(tag, None)
        if held is None:
            raise _unknown(tag, _ACK)
        _acked(channel, held)
    else:
        for one in take(channel, tag, multiple, _ACK):
            _acked(channel, one)
    if channel.prefetch_all:
        channel.refresh_credit()


def _acked(channel: Channel, held: Unacked) -> None:
    deliveries = channel.acks.get(held.queue)
    if deliveries is None:
        deliveries = channel.acks[held.queue] = []
    deliveries.append(held.delivery)
    reader = held.reader
    if reader is not None:
        reader.settled(1)
        reader.refresh()


def check(channel: Channel, tag: int, multiple: bool, method: tuple[int, int]) -> list[int]:
    """The tags that are meant. Raises SoftError 406 when there are none."""
    if not multiple:
        if tag not in channel.unacked:
            raise _unknown(tag, method)
        return [tag]
    if tag == 0:
        return list(channel.unacked)
    if tag not in channel.unacked and (not channel.unacked or tag > channel.tag):
        raise _unknown(tag, method)
    found: list[int] = []
    for one in channel.unacked:
        if one > tag:
            break
        found.append(one)
    if not found:
        raise _unknown(tag, method)
    return found


def take(channel: Channel, tag: int, multiple: bool, method: tuple[int, int]) -> list[Unacked]:
    return [channel.unacked.pop(one) for one in check(channel, tag, multiple, method)]


def _unknown(tag: int, method: tuple[int, int]) -> SoftError:
    return SoftError(PRECONDITION_FAILED, f"unknown delivery tag {tag}", method)


def nack(channel: Channel, method: BasicNack) -> None:
    _turn_down(channel, method.delivery_tag, method.multiple, method.requeue, _NACK)


def reject(channel: Channel, method: BasicReject) -> None:
    _turn_down(channel, method.delivery_tag, False, method.requeue, _REJECT)


def _turn_down(channel: Channel, tag: int, multiple: bool, requeue: bool, method: tuple[int, int]) -> None:
    if channel.transaction is not None:
        channel.transaction.settle(check(channel, tag, multiple, method), False, requeue)
        return
    give_back(channel, take(channel, tag, multiple, method), requeue)


def give_back(channel: Channel, held: list[Unacked], requeue: bool) -> None:
    """To their old places in their queues, or, when they are not wanted back, to where those send such."""
    for one in held:
        if one.reader is not None:
            one.reader.settled(1)
        if requeue:
            one.queue.core.nack([one.delivery])
        else:
            one.queue.core.reject([one.delivery])
    channel.refresh_credit()


def recover(channel: Channel, method: BasicRecover | BasicRecoverAsync) -> None:
    """Everything unacked of the channel goes out again, to whomever."""
    if not method.requeue:
        raise HardError(NOT_IMPLEMENTED, "requeue=false", method.id)
    held = list(channel.unacked.values())
    channel.unacked.clear()
    give_back(channel, held, True)
    if isinstance(method, BasicRecover):
        channel.send(BasicRecoverOk())
