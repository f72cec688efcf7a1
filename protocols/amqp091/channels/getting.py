"""basic.get: one message of a queue, or the word that there is none."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.reader import Unacked
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import BasicGet, BasicGetEmpty
from routing.cursors.cursor import Delivery
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.topology.queue import Queue
    from routing.consumers.consumer import Consumer

_GET_OK = b"\x00\x3c\x00\x47"


class Getter:
    """Holds what basic.get has taken from one queue until that is acked. One per channel and queue."""

    __slots__ = ("credit", "identity", "queue")

    def __init__(self, queue: Queue, identity: Identity) -> None:
        self.queue = queue
        self.identity = identity
        self.credit = 0                             # it is never attached

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        raise AssertionError("a getter is not attached")

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        return

    def end(self) -> None:
        if self.queue.alive:
            self.queue.core.release(self)


def get(channel: Channel, queue: Queue, method: BasicGet) -> None:
    """Everything that was published before is looked at."""
    connection = channel.connection
    getter = channel.getters.get(queue.name)
    if getter is None or getter.queue is not queue:
        getter = channel.getters[queue.name] = Getter(queue, channel.identity)
    connection.server.counters.gets += 1
    found: list[Delivery | None] = []
    asked = getter

    def ask(done: Callable[[], None]) -> None:
        def answer(delivery: Delivery | None) -> None:
            found.append(delivery)
            done()
            if (channel.closing or connection.closed) and delivery is not None:
                asked.end()                         # the channel has ended meanwhile, and nobody will ack it

        queue.core.get(asked, answer)

    def answered() -> None:
        delivery = found[0]
        if channel.closing:
            return
        if delivery is None:
            channel.send(BasicGetEmpty())
        else:
            _send(channel, queue, delivery, method.no_ack)

    connection.after(ask, answered)


def _send(channel: Channel, queue: Queue, delivery: Delivery, no_ack: bool) -> None:
    connection = channel.connection
    server = connection.server
    exchange, key, raw = outgoing.parts(
        delivery.event, delivery, queue, server.router.clock_ms(), server.router.ledger.lost)
    tag = channel.next_tag()
    payload = b"".join((
        _GET_OK, tag.to_bytes(8, "big"), b"\x01" if delivery.attempts > 1 else b"\x00", exchange, key,
        min(queue.ready_count(), 0xFFFFFFFF).to_bytes(4, "big")))
    connection.write(frames.method_frame(channel.number, payload) + frames.content_frames(
        channel.number, raw, delivery.event.payload, connection.frame_max))
    server.counters.delivered += 1
    if no_ack:
        queue.core.ack([delivery])
    else:
        channel.unacked[tag] = Unacked(queue, delivery, None)
