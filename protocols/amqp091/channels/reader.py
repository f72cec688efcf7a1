"""A consumer of a client: the member of a queue that writes basic.deliver.

credit is what its prefetch, that of its channel and the socket leave. Without acks a delivery is done when it was
written, and it stops while the socket is slow: what waits does so in the log.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels.envelopes import Envelopes
from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.window import Holder, Unacked, Window
from protocols.amqp091.codec.methods import BasicCancel
from routing.cursors.delivery import Delivery

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from protocols.amqp091.topology.streamqueue import StreamReading
    from routing.consumers.consumer import Consumer


class Reader(Holder):
    """Member of a consumer of the core."""

    __slots__ = ("_envelopes", "_held", "_line", "_window", "cancelled", "credit", "no_ack", "queue", "tag")

    def __init__(self, line: Line, window: Window, queue: Queue | StreamReading, tag: str, no_ack: bool) -> None:
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
        self._envelopes = Envelopes(line, queue, tag)

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
        parts: list[bytes] = []
        envelopes, unacked, queue, keeps = self._envelopes, window.unacked, self.queue, not self.no_ack
        tag = window.tag
        for delivery in deliveries:
            tag += 1
            envelopes.put(parts, tag, delivery)
            if keeps:
                unacked[tag] = Unacked(queue, delivery, self)
        window.tag = tag
        if keeps:
            self._held += len(deliveries)
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
