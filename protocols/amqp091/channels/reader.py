"""A consumer of a client: the member of a queue that writes basic.deliver.

credit is what its prefetch, that of its channel and the socket leave. Without acks a delivery is done when it was
written, and it stops while the socket is slow: what waits does so in the log.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.window import Holder, Unacked, Window
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import BasicCancel, pack_short
from routing.cursors.delivery import Delivery

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from routing.consumers.consumer import Consumer

_DELIVER = b"\x00\x3c\x00\x3c"


class Reader(Holder):
    """Member of a consumer of the core."""

    __slots__ = ("_held", "_line", "_tag_bytes", "_window", "cancelled", "credit", "no_ack", "queue", "tag")

    def __init__(self, line: Line, window: Window, queue: Queue, tag: str, no_ack: bool) -> None:
        self._line = line
        self._window = window
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.identity = line.peer.identity
        self.prefetch = window.prefetch
        self.credit = 0
        self.cancelled = False
        self._held = 0                              # deliveries that it has not acked
        self._tag_bytes = pack_short(tag)

    def refresh(self) -> None:
        """Credit from what is unacked now; the queue is told when it has grown."""
        if self.cancelled:
            return
        limit = self.prefetch if self.prefetch and not self.no_ack else self._line.peer.broker.settings.window
        credit = max(min(limit - self._held, self._window.room()), 0)
        grown = credit > self.credit
        self.credit = credit
        if grown:
            self.queue.core.consumer.ready()

    def settled(self, count: int) -> None:
        self._held -= count
        if self.cancelled:
            self._leave_if_done()

    # -- Member -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        line, window = self._line, self._window
        peer = line.peer
        if peer.closed or line.closing:
            return                                  # its end gives them back
        router = peer.broker.router
        now_ms = router.clock_ms()
        lost = router.ledger.lost
        parts: list[bytes] = []
        number, frame_max = line.number, peer.frame_max
        queue = self.queue
        for delivery in deliveries:
            event = delivery.event
            exchange, key, raw = outgoing.parts(event, delivery, queue, now_ms, lost)
            tag = window.next_tag()
            parts.append(frames.method_frame(number, b"".join((
                _DELIVER, self._tag_bytes, tag.to_bytes(8, "big"), b"\x01" if delivery.attempts > 1 else b"\x00",
                exchange, key))))
            parts.append(frames.content_frames(number, raw, event.payload, frame_max))
            if not self.no_ack:
                self._held += 1
                window.unacked[tag] = Unacked(queue, delivery, self)
        peer.broker.counters.delivered += len(deliveries)
        peer.write(b"".join(parts))
        if self.no_ack:
            queue.core.ack(deliveries)
        if window.prefetch_all or self.no_ack:
            window.refresh()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """The queue is gone: a client that can hear it is told."""
        self._window.cancelled.pop(self, None)
        if self._window.holders.pop(self.tag, None) is None:
            return
        if "consumer_cancel_notify" in self._line.peer.capabilities and not self._line.closing:
            self._line.send(BasicCancel(self.tag, True))

    # -- the end ----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """What it holds the client may ack yet."""
        self.cancelled = True
        self.credit = 0
        self._window.cancelled[self] = None
        self.queue.core.detach(self, keep=True)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._held <= 0:
            self._window.cancelled.pop(self, None)

    def end(self) -> None:
        """What it holds goes out again, in order."""
        if not self.queue.alive:
            return
        if self.cancelled:
            self.queue.core.release(self)
        else:
            self.queue.core.detach(self)
