"""Answers of a client to deliveries: ack, nack, reject, recover. Tags are those of the channel."""
from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.window import Holder, Unacked, unknown
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.codes import NOT_IMPLEMENTED, HardError
from protocols.amqp091.codec.methods import BasicNack, BasicRecover, BasicRecoverAsync, BasicRecoverOk, BasicReject
from protocols.scheduling.longwork import in_pieces

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from protocols.amqp091.topology.streamqueue import StreamReading
    from routing.cursors.delivery import Delivery

_ACK, _NACK, _REJECT = (60, 80), (60, 120), (60, 90)


def ack(channel: Channel, tag: int, multiple: bool) -> None:
    """They are done with. In a transaction they are when it is committed."""
    window = channel.window
    if channel.transaction is not None:
        channel.transaction.settle(window.meant(tag, multiple, _ACK), True, False)
        return
    if not multiple:
        held = window.unacked.pop(tag, None)
        if held is None:
            raise unknown(tag, _ACK)
        acked(channel, held)
        if window.prefetch_all:
            window.refresh()
        return
    window.check_multiple(tag, _ACK)
    channel.peer.long_work(_ack_all(channel, tag or window.tag))


def _ack_all(channel: Channel, tag: int) -> Iterator[None]:
    """Up to this tag, a piece at a time."""
    for _ in in_pieces(channel.window.take_up_to(tag), lambda held: acked(channel, held)):
        channel.peer.flush_acks()
        yield
    if channel.window.prefetch_all:
        channel.window.refresh()


_ACK_FRAME = Struct(">11sQBB")      # up to the method, tag, multiple, end of the frame
ACK_FRAME_BYTES = _ACK_FRAME.size
ACKS_MAX = 64               # of one run, between two questions whether the turn is over


def take_acks(channel: Channel, data: bytes, position: int) -> tuple[int, int]:
    """basic.ack frames that stand one behind the other from position on, each of one tag that is known.

    Returns how many they are, and where the next frame is. What is not so simple is left to ack().
    """
    if channel.transaction is not None:
        return 0, position
    head = data[position:position + 11]             # type, channel, size, class and method
    whole = min((len(data) - position) // ACK_FRAME_BYTES, ACKS_MAX)
    take, acks = channel.window.unacked.pop, channel.peer.acks
    holders: dict[Holder | None, int] = {}
    queue: Queue | StreamReading | None = None
    deliveries: list[Delivery] = []
    count = 0
    for begin, tag, bits, end in _ACK_FRAME.iter_unpack(data[position:position + whole * ACK_FRAME_BYTES]):
        if begin != head or bits & 1 or end != frames.FRAME_END:
            break
        held = take(tag, None)
        if held is None:
            break
        if held.queue is not queue:
            queue = held.queue
            deliveries = acks.setdefault(queue, [])
        deliveries.append(held.delivery)
        holder = held.holder
        holders[holder] = holders.get(holder, 0) + 1
        count += 1
    for holder, number in holders.items():
        if holder is not None:
            holder.settled(number)
            holder.refresh()
    if count and channel.window.prefetch_all:
        channel.window.refresh()
    return count, position + count * ACK_FRAME_BYTES


def acked(channel: Channel, held: Unacked) -> None:
    deliveries = channel.peer.acks.get(held.queue)
    if deliveries is None:
        deliveries = channel.peer.acks[held.queue] = []
    deliveries.append(held.delivery)
    holder = held.holder
    if holder is not None:
        holder.settled(1)
        holder.refresh()


def nack(channel: Channel, method: BasicNack) -> None:
    _turn_down(channel, method.delivery_tag, method.multiple, method.requeue, _NACK)


def reject(channel: Channel, method: BasicReject) -> None:
    _turn_down(channel, method.delivery_tag, False, method.requeue, _REJECT)


def _turn_down(channel: Channel, tag: int, multiple: bool, requeue: bool, method: tuple[int, int]) -> None:
    window = channel.window
    if channel.transaction is not None:
        channel.transaction.settle(window.meant(tag, multiple, method), False, requeue)
    elif multiple:
        window.check_multiple(tag, method)
        channel.peer.long_work(_give_back_all(channel, tag or window.tag, requeue))
    else:
        for one in window.meant(tag, multiple, method):
            give_back(window.unacked.pop(one), requeue)
        window.refresh()


def give_back(held: Unacked, requeue: bool) -> None:
    """To its old place in its queue, or, when it is not wanted back, to where that sends such."""
    if held.holder is not None:
        held.holder.settled(1)
    if requeue:
        held.queue.core.nack([held.delivery])
    else:
        held.queue.core.reject([held.delivery])


def _give_back_all(channel: Channel, tag: int, requeue: bool) -> Iterator[None]:
    """Up to this tag, a piece at a time. Nothing that is behind them in their queues comes before them."""
    window = channel.window
    window.waits = True
    window.refresh()
    try:
        yield from in_pieces(window.take_up_to(tag), lambda held: give_back(held, requeue))
    finally:
        window.waits = False
    window.refresh()


def recover(channel: Channel, method: BasicRecover | BasicRecoverAsync) -> None:
    """Everything unacked of the channel goes out again, to whomever."""
    if not method.requeue:
        raise HardError(NOT_IMPLEMENTED, "requeue=false", method.id)
    channel.peer.long_work(_recover(channel, isinstance(method, BasicRecover)))


def _recover(channel: Channel, answered: bool) -> Iterator[None]:
    yield from _give_back_all(channel, channel.window.tag, True)
    if answered:
        channel.send(BasicRecoverOk())
