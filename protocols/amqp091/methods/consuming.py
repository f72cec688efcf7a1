"""Methods of class basic that begin, tune and end reading: consume, cancel, qos, get; and direct reply-to."""
from __future__ import annotations

import secrets

from protocols.amqp091 import replies
from protocols.amqp091.channels.asker import Asker
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.reader import Reader
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import HardError, SoftError, refused
from protocols.amqp091.codec.methods import (
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicGet,
    BasicQos,
    BasicQosOk,
)
from protocols.amqp091.methods import getting
from protocols.amqp091.methods.access import check_exclusive
from protocols.amqp091.methods.finding import find_queue
from protocols.amqp091.topology.streamqueue import StreamQueue, start_of
from routing.errors import Reason, Refusal

PRIORITY_LIMIT = 1 << 31


def consume(channel: Channel, method: BasicConsume) -> None:
    peer = channel.peer
    tag = method.consumer_tag
    if tag in channel.window.holders or (tag and channel.asker is not None and tag == channel.asker.tag):
        raise HardError(codes.NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'", method.id)
    tag = tag or "amq.ctag-" + secrets.token_urlsafe(16)
    if method.queue == replies.QUEUE:
        _consume_replies(channel, method, tag)
        return
    queue = find_queue(channel, method.queue)
    check_exclusive(channel.peer, queue)
    if len(channel.window.holders) >= peer.broker.settings.consumers_max:
        raise HardError(codes.RESOURCE_ERROR, "too many consumers on a channel", method.id)
    priority = method.arguments.get("x-priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or not -PRIORITY_LIMIT <= priority < PRIORITY_LIMIT:
        raise SoftError(codes.PRECONDITION_FAILED, "invalid arg 'x-priority'")
    if isinstance(queue, StreamQueue):
        _consume_stream(channel, method, tag, queue)
        return
    reader = Reader(channel.line, channel.window, queue, tag, method.no_ack)
    refusal = queue.core.attach(reader, priority=priority, exclusive=method.exclusive, early=True)
    if refusal is not None and refusal.reason is Reason.CONFLICT:
        raise SoftError(codes.ACCESS_REFUSED, f"queue '{queue.name}' in vhost '{peer.vhost}' in exclusive use")
    if refusal is not None:
        raise refused(refusal, method.id)
    channel.window.holders[tag] = reader
    if not method.nowait:
        channel.send(BasicConsumeOk(tag))
    reader.refresh()


def _consume_stream(channel: Channel, method: BasicConsume, tag: str, queue: StreamQueue) -> None:
    """A place of its own in the log. Texts are RabbitMQ's."""
    peer = channel.peer
    where = f"queue '{queue.name}' in vhost '{peer.vhost}'"
    if method.no_ack:
        raise HardError(codes.NOT_IMPLEMENTED, f"automatic acknowledgement not supported by stream {where}", method.id)
    if not channel.window.prefetch:
        raise SoftError(codes.PRECONDITION_FAILED, f"consumer prefetch count is not set for stream {where}")
    start = start_of(method.arguments.get("x-stream-offset"), peer.broker.router)
    reading = queue.read(channel.identity, start, channel.window.prefetch)
    if isinstance(reading, Refusal):
        raise refused(reading, method.id)
    reader = Reader(channel.line, channel.window, reading, tag, False)
    refusal = reading.consumer.attach(reader)
    if refusal is not None:
        queue.leave(reading)
        raise refused(refusal, method.id)
    channel.window.holders[tag] = reader
    if not method.nowait:
        channel.send(BasicConsumeOk(tag))
    reader.refresh()


def _consume_replies(channel: Channel, method: BasicConsume, tag: str) -> None:
    if not method.no_ack:
        raise SoftError(codes.PRECONDITION_FAILED, "reply consumer cannot acknowledge")
    if channel.asker is not None:
        raise SoftError(codes.PRECONDITION_FAILED, "reply consumer already set")
    channel.asker = Asker(channel.line, channel.window, tag)
    if not method.nowait:
        channel.send(BasicConsumeOk(tag))


def cancel(channel: Channel, method: BasicCancel) -> None:
    """What it has not acked stays with the client, which may ack it yet."""
    tag = method.consumer_tag
    holder = channel.window.holders.pop(tag, None)
    if holder is not None:
        holder.cancel()
    elif channel.asker is not None and tag == channel.asker.tag:
        channel.asker.close()
        channel.asker = None
    if not method.nowait:
        channel.send(BasicCancelOk(tag))


def qos(channel: Channel, method: BasicQos) -> None:
    """global: of all consumers of the channel together. Else of each, and at once: of those that run, too.

    RabbitMQ leaves running consumers alone; clients that are not told to be on RabbitMQ go by the specification.
    """
    if method.prefetch_size:
        raise HardError(codes.NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})", method.id)
    if method.global_:
        channel.window.prefetch_all = method.prefetch_count
    else:
        channel.window.prefetch = method.prefetch_count
        for holder in channel.window.holders.values():
            holder.prefetch = method.prefetch_count
    channel.send(BasicQosOk())
    channel.window.refresh()


def get(channel: Channel, method: BasicGet) -> None:
    queue = find_queue(channel, method.queue)
    check_exclusive(channel.peer, queue)
    if isinstance(queue, StreamQueue):
        where = f"queue '{queue.name}' in vhost '{channel.peer.vhost}'"
        raise HardError(codes.NOT_IMPLEMENTED, f"basic.get not supported by stream queues {where}", method.id)
    if queue.core.exclusive is not None:
        raise SoftError(codes.ACCESS_REFUSED, f"queue '{queue.name}' in vhost '{channel.peer.vhost}' in "
                                              "exclusive use")
    getting.get(channel, queue, method)
