"""What the methods of exchanges and queues begin and end with: names, whether they are there, answers.

The texts are RabbitMQ's.
"""
from __future__ import annotations

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec.codes import (
    ACCESS_REFUSED,
    NOT_FOUND,
    SoftError,
)
from protocols.amqp091.codec.methods import Method
from protocols.amqp091.methods import access
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.streamqueue import StreamQueue


def find_queue(channel: Channel, name: str) -> Queue | StreamQueue:
    """The queue of that name, or, for an empty one, that which was declared last on the channel."""
    name = name or channel.last_queue
    if not name:
        raise SoftError(NOT_FOUND, "no previously declared queue")
    access.check_queue(channel.peer, name)
    queue = channel.peer.broker.declared.queue(name)
    if queue is None:
        raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{channel.peer.vhost}'")
    return queue


def find_exchange(channel: Channel, name: str) -> Exchange:
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel.peer, name)
    exchange = channel.peer.broker.declared.topology.exchanges.get(name)
    if exchange is None:
        raise no_exchange(channel, name)
    return exchange


def no_exchange(channel: Channel, name: str) -> SoftError:
    return SoftError(NOT_FOUND, f"no exchange '{name}' in vhost '{channel.peer.vhost}'")


def check_reserved(what: str, name: str) -> None:
    if name.startswith("amq."):
        raise SoftError(ACCESS_REFUSED, f"{what} name '{name}' contains reserved prefix 'amq.*'")


def when_stored(channel: Channel, method: Method, nowait: bool) -> None:
    """When everything that was stored until now is on disk."""
    if nowait:
        return

    def send() -> None:
        if not channel.closing:
            channel.send(method)

    channel.peer.after(channel.peer.broker.router.state.when_stored, send)
