"""Methods of class queue but for bindings. Each checks rights and options, does it, and answers when it is on disk.

Sources: AMQP 0-9-1 §1.7; the texts are RabbitMQ's.
"""
from __future__ import annotations

from protocols.amqp091 import replies
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec.codes import (
    ACCESS_REFUSED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    HardError,
    SoftError,
    refused,
)
from protocols.amqp091.codec.methods import (
    Method,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
)
from protocols.amqp091.methods import access
from protocols.amqp091.methods.finding import check_reserved, find_queue, when_stored
from protocols.amqp091.topology.arguments import STREAM, check_same, compared_arguments, options_of
from protocols.amqp091.topology.names import fanout_filter
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.streamqueue import StreamQueue
from routing.errors import Refusal

COUNT_MAX = 0xFFFFFFFF



def queue_declare(channel: Channel, method: QueueDeclare) -> None:
    peer = channel.peer
    declared = peer.broker.declared
    name = method.queue
    if name == replies.QUEUE or name.startswith(replies.PREFIX):
        _declare_reply_queue(channel, method)
        return
    if not name and method.passive:
        name = channel.last_queue
        if not name:
            raise SoftError(NOT_FOUND, "no previously declared queue")
    name = name or declared.new_name()
    access.check_queue(channel.peer, name)
    queue = declared.queue(name)
    if method.passive:
        if queue is None:
            raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{peer.vhost}'")
        access.check_exclusive(channel.peer, queue)
    elif queue is not None:
        _check_same_queue(channel, method, queue)
    else:
        if method.queue:
            check_reserved("queue", name)
        queue = _make_queue(channel, method, name)
    channel.last_queue = name
    _answer_declared(channel, queue, method.nowait)


def _answer_declared(channel: Channel, queue: Queue | StreamQueue, nowait: bool) -> None:
    """The counts are true for what this connection has published before."""
    if nowait:
        return
    peer = channel.peer

    def send() -> None:
        if not channel.closing:
            channel.send(QueueDeclareOk(queue.name, min(queue.ready_count(), COUNT_MAX), queue.readers))

    def current() -> None:
        if queue.alive:
            peer.after(queue.core.when_counted, send)
        else:
            send()

    peer.after(peer.broker.router.state.when_stored, current)


def _declare_reply_queue(channel: Channel, method: QueueDeclare) -> None:
    """Clients ask whether direct reply-to is there, and answerers whether an asker still is."""
    name = method.queue
    if not method.passive:
        raise SoftError(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
    broker = channel.peer.broker
    if name != replies.QUEUE and broker.replies.asker(name) is None and not broker.far_replies.is_far(name):
        raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{channel.peer.vhost}'")
    if not method.nowait:
        channel.send(QueueDeclareOk(name, 0, 1 if name != replies.QUEUE else 0))


def _check_same_queue(channel: Channel, method: QueueDeclare, queue: Queue | StreamQueue) -> None:
    access.check_exclusive(channel.peer, queue)
    if method.exclusive != (queue.owner is not None):
        raise SoftError(
            RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{queue.name}' in vhost "
            f"'{channel.peer.vhost}'. It could be originally declared on another connection or the exclusive "
            "property value does not match that of the original declaration.")
    check_same("queue", queue.name, channel.peer.vhost, {
        "durable": method.durable, "auto_delete": method.auto_delete, **compared_arguments(method.arguments),
    }, {
        "durable": queue.durable, "auto_delete": queue.auto_delete, **compared_arguments(queue.arguments),
    }, method.id)


def _make_queue(channel: Channel, method: QueueDeclare, name: str) -> Queue | StreamQueue:
    peer = channel.peer
    broker = peer.broker
    options = options_of(method.arguments, name, peer.vhost)
    if options.type == STREAM:
        for wrong, word in ((not method.durable, "non-durable"), (method.exclusive, "exclusive-owner"),
                            (method.auto_delete, "auto-delete")):
            if wrong:
                raise SoftError(PRECONDITION_FAILED,
                                f"invalid property '{word}' for queue '{name}' in vhost '{peer.vhost}'")
    if options.dead_letter_exchange:
        access.check_publish(channel.peer, fanout_filter(options.dead_letter_exchange))
    refusal = broker.declared.shares.take(channel.identity.user, broker.settings.queues_max)
    if refusal is not None:
        raise refused(refusal)
    queue = broker.declared.add_queue(
        name, method.durable, method.auto_delete, method.arguments, options, channel.identity,
        peer if method.exclusive else None)
    if isinstance(queue, Refusal):
        broker.declared.shares.give(channel.identity.user)
        raise refused(queue)
    return queue


def queue_purge(channel: Channel, method: QueuePurge) -> None:
    found = find_queue(channel, method.queue)
    access.check_own_queue(channel.peer, found)
    if isinstance(found, StreamQueue):
        raise HardError(NOT_IMPLEMENTED, f"queue.purge not supported by stream queues queue '{found.name}' in vhost "
                                         f"'{channel.peer.vhost}'", method.id)
    queue = found

    def purge() -> None:
        count = queue.core.purge() if queue.alive else 0
        if not method.nowait and not channel.closing:
            channel.send(QueuePurgeOk(min(count, COUNT_MAX)))

    channel.peer.after(queue.core.when_counted, purge)


def queue_delete(channel: Channel, method: QueueDelete) -> None:
    """One that is not there is deleted already.                    Source: RabbitMQ, since 3.2"""
    peer = channel.peer
    declared = peer.broker.declared
    name = method.queue or channel.last_queue
    if not name:
        raise SoftError(NOT_FOUND, "no previously declared queue")
    access.check_queue(channel.peer, name)
    found = declared.queue(name)
    if found is None:
        if not method.nowait:
            channel.send(QueueDeleteOk(0))
        return
    queue = found
    access.check_own_queue(channel.peer, queue)

    def delete() -> None:
        count = queue.ready_count() if queue.alive else 0
        where = f"queue '{name}' in vhost '{peer.vhost}'"
        if method.if_unused and queue.readers:
            raise _late(channel, f"{where} in use", method)
        if method.if_empty and (count or not queue.is_counted):
            raise _late(channel, f"{where} not empty", method)
        if declared.queue(name) is queue:
            declared.remove_queue(queue, "the queue was deleted")
        when_stored(channel, QueueDeleteOk(min(count, COUNT_MAX)), method.nowait)

    peer.after(queue.core.when_counted, delete)


def _late(channel: Channel, text: str, method: Method) -> SoftError:
    error = SoftError(PRECONDITION_FAILED, text, method.id)
    error.channel = channel.number
    return error
