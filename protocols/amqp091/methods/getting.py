"""basic.get: one message of a queue, or the word that there is none."""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp091.channels import outgoing
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.getter import Getter
from protocols.amqp091.channels.window import Unacked
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import BasicGet, BasicGetEmpty
from protocols.amqp091.topology.queue import Queue
from routing.cursors.delivery import Delivery

_GET_OK = b"\x00\x3c\x00\x47"


def get(channel: Channel, queue: Queue, method: BasicGet) -> None:
    """Everything that was published before is looked at."""
    peer = channel.peer
    getter = channel.getters.get(queue.name)
    if getter is None or getter.queue is not queue:
        getter = channel.getters[queue.name] = Getter(queue, channel.identity)
    peer.broker.counters.gets += 1
    found: list[Delivery | None] = []
    asked = getter

    def ask(done: Callable[[], None]) -> None:
        def answer(delivery: Delivery | None) -> None:
            found.append(delivery)
            done()
            if (channel.closing or peer.closed) and delivery is not None:
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

    peer.after(ask, answered)


def _send(channel: Channel, queue: Queue, delivery: Delivery, no_ack: bool) -> None:
    peer = channel.peer
    broker = peer.broker
    exchange, key, raw = outgoing.parts(
        delivery.event, delivery, queue, broker.router.clock_ms(), broker.router.ledger.lost)
    tag = channel.window.next_tag()
    payload = b"".join((
        _GET_OK, tag.to_bytes(8, "big"), b"\x01" if delivery.attempts > 1 else b"\x00", exchange, key,
        min(queue.ready_count(), 0xFFFFFFFF).to_bytes(4, "big")))
    peer.write(frames.method_frame(channel.number, payload) + frames.content_frames(
        channel.number, raw, delivery.event.payload, peer.frame_max))
    broker.counters.delivered += 1
    if no_ack:
        queue.core.ack([delivery])
    else:
        channel.window.unacked[tag] = Unacked(queue, delivery, None)
