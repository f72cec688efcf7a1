"""A consumer of a client: the member of a queue that writes basic.deliver.

credit is what its prefetch, that of its channel and the socket leave. Without acks a delivery is done when it was
written, and it stops while the socket is slow: what waits does so in the log.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocols.amqp091.channels import outgoing
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import BasicCancel, pack_short
from routing.cursors.cursor import Delivery

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.topology.queue import Queue
    from routing.consumers.consumer import Consumer

_DELIVER = b"\x00\x3c\x00\x3c"


class Unacked(msgspec.Struct, gc=False):
    """A delivery that waits for an ack. reader: whose prefetch it counts to, None for basic.get."""

    queue: Queue
    delivery: Delivery
    reader: Reader | None


class Reader:
    """Member of a consumer of the core."""

    __slots__ = ("_held", "_tag_bytes", "cancelled", "channel", "credit", "identity", "no_ack",
                 "prefetch", "queue", "tag")

    def __init__(self, channel: Channel, queue: Queue, tag: str, no_ack: bool) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.identity = channel.identity
        self.prefetch = channel.prefetch
        self.credit = 0
        self.cancelled = False
        self._held = 0                              # deliveries that it has not acked
        self._tag_bytes = pack_short(tag)

    def refresh(self) -> None:
        """Credit from what is unacked now; the queue is told when it has grown."""
        channel = self.channel
        if self.cancelled:
            return
        limit = self.prefetch if self.prefetch and not self.no_ack else channel.connection.server.settings.window
        credit = max(min(limit - self._held, channel.room()), 0)
        grown = credit > self.credit
        self.credit = credit
        if grown:
            self.queue.core.consumer.ready()

    def settled(self, count: int) -> None:
        """So many of its deliveries are acked, or have gone back."""
        self._held -= count
        if self.cancelled:
            self._leave_if_done()

    # -- Member -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        channel = self.channel
        connection = channel.connection
        if connection.closed or channel.closing:
            return                                  # its end gives them back
        server = connection.server
        now_ms = server.router.clock_ms()
        lost = server.router.ledger.lost
        parts: list[bytes] = []
        number, frame_max = channel.number, connection.frame_max
        queue = self.queue
        for delivery in deliveries:
            event = delivery.event
            exchange, key, raw = outgoing.parts(event, delivery, queue, now_ms, lost)
            tag = channel.next_tag()
            parts.append(frames.method_frame(number, b"".join((
                _DELIVER, self._tag_bytes, tag.to_bytes(8, "big"), b"\x01" if delivery.attempts > 1 else b"\x00",
                exchange, key))))
            parts.append(frames.content_frames(number, raw, event.payload, frame_max))
            if not self.no_ack:
                self._held += 1
                channel.unacked[tag] = Unacked(queue, delivery, self)
        server.counters.delivered += len(deliveries)
        connection.write(b"".join(parts))
        if self.no_ack:
            queue.core.ack(deliveries)
        if channel.prefetch_all or self.no_ack:
            channel.refresh_credit()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """The queue is gone: a client that can hear it is told."""
        channel = self.channel
        channel.cancelled.pop(self, None)
        if channel.readers.pop(self.tag, None) is None:
            return
        if "consumer_cancel_notify" in channel.connection.capabilities and not channel.closing:
            channel.send(BasicCancel(self.tag, True))

    # -- the end ----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The client wants no more. What it holds it may ack yet."""
        self.cancelled = True
        self.credit = 0
        self.channel.cancelled[self] = None
        self.queue.core.detach(self, keep=True)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._held <= 0:
            self.channel.cancelled.pop(self, None)

    def end(self) -> None:
        """The channel is gone: what it holds goes out again, in order."""
        if not self.queue.alive:
            return
        if self.cancelled:
            self.queue.core.release(self)
        else:
            self.queue.core.detach(self)
