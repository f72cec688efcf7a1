"""basic.get: one message of a queue, or the word that there is none.

A getter is a member of the queue with a credit of one while somebody waits for its answer. It stays for a while, as
what was got may have to be acked by it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.reader import Unacked
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.codes import refused
from protocols.amqp091.codec.methods import BasicGet, BasicGetEmpty
from routing.cursors.cursor import Delivery

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.topology.queue import Queue
    from routing.consumers.consumer import Consumer

KEPT_S = 5.0            # without a get, and with nothing unacked
_GET_OK = b"\x00\x3c\x00\x47"


class Getter:
    """Member of a consumer of the core, one per channel and queue."""

    __slots__ = ("_used_s", "attached", "channel", "credit", "got", "identity", "queue")

    def __init__(self, channel: Channel, queue: Queue) -> None:
        self.channel = channel
        self.queue = queue
        self.identity = channel.identity
        self.credit = 0
        self.got: Delivery | None = None
        self.attached = False
        self._used_s = 0.0

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.got = deliveries[0]                    # credit is one at most

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.attached = False
        self.channel.getters.pop(self.queue.name, None)

    def use(self, now_s: float) -> None:
        self._used_s = now_s

    def is_idle(self, now_s: float) -> bool:
        return now_s - self._used_s > KEPT_S and not any(
            held.queue is self.queue and held.reader is None for held in self.channel.unacked.values())

    def end(self) -> None:
        if self.attached:
            self.attached = False
            self.queue.detach(self)


def get(channel: Channel, queue: Queue, method: BasicGet) -> None:
    """Called when everything that this connection has published before is there."""
    connection = channel.connection
    router = connection.server.router
    getter = channel.getters.get(queue.name)
    if getter is None or getter.queue is not queue:
        getter = channel.getters[queue.name] = Getter(channel, queue)
        refusal = queue.attach(getter)
        if refusal is not None:
            del channel.getters[queue.name]
            raise refused(refusal, method.id)
        getter.attached = True
    getter.use(router.clock_s())
    getter.credit = 1
    queue.consumer.ready()
    connection.server.counters.gets += 1
    connection.hold()
    asked = getter

    def answered() -> None:
        asked.credit = 0
        delivery, asked.got = asked.got, None
        if not channel.closing and not connection.closed:
            if delivery is None:
                channel.send(BasicGetEmpty())
            else:
                _send(channel, queue, delivery, method.no_ack)
        connection.release()

    def look() -> None:
        if asked.got is not None or channel.closing or connection.closed or not asked.attached or queue.is_idle():
            answered()
        else:
            router.request_turn()
            router.call_soon(look)

    def soon() -> None:
        router.call_soon(look)

    router.call_soon(soon)                      # behind the end of this turn


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
        queue.ack([delivery])
    else:
        channel.unacked[tag] = Unacked(queue, delivery, None)
