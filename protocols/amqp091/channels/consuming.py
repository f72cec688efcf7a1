"""Methods of class basic that begin, tune and end reading: consume, cancel, qos, get; and direct reply-to."""
from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from protocols.amqp091.channels import getting, replies
from protocols.amqp091.channels.access import check_exclusive
from protocols.amqp091.channels.declaring import find_queue
from protocols.amqp091.channels.reader import Reader
from protocols.amqp091.codec import codes, frames
from protocols.amqp091.codec.codes import HardError, SoftError, refused
from protocols.amqp091.codec.methods import (
    BasicCancel,
    BasicCancelOk,
    BasicConsume,
    BasicConsumeOk,
    BasicGet,
    BasicQos,
    BasicQosOk,
    pack_short,
)
from routing.errors import Reason

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel

PRIORITY_LIMIT = 1 << 31


def consume(channel: Channel, method: BasicConsume) -> None:
    connection = channel.connection
    tag = method.consumer_tag
    if tag in channel.readers or (tag and tag == channel.reply_tag and channel.reply_name is not None):
        raise HardError(codes.NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'", method.id)
    tag = tag or "amq.ctag-" + secrets.token_urlsafe(16)
    if method.queue == replies.QUEUE:
        _consume_replies(channel, method, tag)
        return
    queue = find_queue(channel, method.queue)
    check_exclusive(channel, queue)
    if len(channel.readers) >= connection.server.settings.consumers_max:
        raise HardError(codes.RESOURCE_ERROR, "too many consumers on a channel", method.id)
    priority = method.arguments.get("x-priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or not -PRIORITY_LIMIT <= priority < PRIORITY_LIMIT:
        raise SoftError(codes.PRECONDITION_FAILED, "invalid arg 'x-priority'")
    reader = Reader(channel, queue, tag, method.no_ack)
    refusal = queue.core.attach(reader, priority=priority, exclusive=method.exclusive)
    if refusal is not None and refusal.reason is Reason.CONFLICT:
        raise SoftError(codes.ACCESS_REFUSED, f"queue '{queue.name}' in vhost '{connection.vhost}' in exclusive use")
    if refusal is not None:
        raise refused(refusal, method.id)
    channel.readers[tag] = reader
    if not method.nowait:
        channel.send(BasicConsumeOk(tag))
    reader.refresh()


def _consume_replies(channel: Channel, method: BasicConsume, tag: str) -> None:
    if not method.no_ack:
        raise SoftError(codes.PRECONDITION_FAILED, "reply consumer cannot acknowledge")
    if channel.reply_name is not None:
        raise SoftError(codes.PRECONDITION_FAILED, "reply consumer already set")
    channel.reply_name = channel.connection.server.replies.open(channel)
    channel.reply_tag = tag
    if not method.nowait:
        channel.send(BasicConsumeOk(tag))


def deliver_reply(channel: Channel, name: str, properties: bytes, body: bytes) -> None:
    """An answer by direct reply-to."""
    connection = channel.connection
    if connection.closed or channel.closing:
        return
    server = connection.server
    if connection.channel.buffered_bytes() > server.settings.write_buffer_high_bytes * 4:
        server.counters.dropped["slow requester"] += 1          # nothing is kept for it anywhere
        return
    tag = channel.next_tag()
    payload = b"".join((
        b"\x00\x3c\x00\x3c", pack_short(channel.reply_tag), tag.to_bytes(8, "big"), b"\x00", b"\x00",
        pack_short(name)))
    connection.write(frames.method_frame(channel.number, payload) + frames.content_frames(
        channel.number, properties, body, connection.frame_max))
    server.counters.delivered += 1


def cancel(channel: Channel, method: BasicCancel) -> None:
    """What it has not acked stays with the client, which may ack it yet."""
    tag = method.consumer_tag
    reader = channel.readers.pop(tag, None)
    if reader is not None:
        reader.cancel()
    elif channel.reply_name is not None and tag == channel.reply_tag:
        channel.connection.server.replies.close(channel.reply_name)
        channel.reply_name = None
    if not method.nowait:
        channel.send(BasicCancelOk(tag))


def qos(channel: Channel, method: BasicQos) -> None:
    """global: of all consumers of the channel together. Else of each, and at once: of those that run, too.

    RabbitMQ leaves running consumers alone; clients that are not told to be on RabbitMQ go by the specification.
    """
    if method.prefetch_size:
        raise HardError(codes.NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})", method.id)
    if method.global_:
        channel.prefetch_all = method.prefetch_count
    else:
        channel.prefetch = method.prefetch_count
        for reader in channel.readers.values():
            reader.prefetch = method.prefetch_count
    channel.send(BasicQosOk())
    channel.refresh_credit()


def get(channel: Channel, method: BasicGet) -> None:
    queue = find_queue(channel, method.queue)
    check_exclusive(channel, queue)
    if queue.core.exclusive is not None:
        raise SoftError(codes.ACCESS_REFUSED, f"queue '{queue.name}' in vhost '{channel.connection.vhost}' in "
                                              "exclusive use")
    getting.get(channel, queue, method)
