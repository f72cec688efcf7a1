"""Methods of the classes exchange and queue. Each checks rights and options, does it, and answers when it is on disk.

Sources: AMQP 0-9-1 §1.6, §1.7; the texts are RabbitMQ's.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.amqp091.channels import access, replies
from protocols.amqp091.codec.codes import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_ERROR,
    RESOURCE_LOCKED,
    HardError,
    SoftError,
    refused,
)
from protocols.amqp091.codec.methods import (
    ExchangeBind,
    ExchangeBindOk,
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeDeleteOk,
    ExchangeUnbind,
    ExchangeUnbindOk,
    Method,
    QueueBind,
    QueueBindOk,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
    QueueDeleteOk,
    QueuePurge,
    QueuePurgeOk,
    QueueUnbind,
    QueueUnbindOk,
)
from protocols.amqp091.topology.arguments import check_same, compared_arguments, options_of
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import TYPES, Binding
from protocols.amqp091.topology.names import fanout_filter
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.topology import filter_of
from routing.errors import Refusal

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel

COUNT_MAX = 0xFFFFFFFF


# ------------------------------------------------------------------------------------------------ helpers

def find_queue(channel: Channel, name: str) -> Queue:
    """The queue of that name, or, for an empty one, that which was declared last on the channel."""
    name = name or channel.last_queue
    if not name:
        raise SoftError(NOT_FOUND, "no previously declared queue")
    access.check_queue(channel, name)
    queue = channel.connection.server.declared.queue(name)
    if queue is None:
        raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{channel.connection.vhost}'")
    return queue


def find_exchange(channel: Channel, name: str) -> Exchange:
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel, name)
    exchange = channel.connection.server.declared.topology.exchanges.get(name)
    if exchange is None:
        raise _no_exchange(channel, name)
    return exchange


def _no_exchange(channel: Channel, name: str) -> SoftError:
    return SoftError(NOT_FOUND, f"no exchange '{name}' in vhost '{channel.connection.vhost}'")


def _check_name(what: str, name: str) -> None:
    if name.startswith("amq."):
        raise SoftError(ACCESS_REFUSED, f"{what} name '{name}' contains reserved prefix 'amq.*'")


def _answer(channel: Channel, method: Method, nowait: bool) -> None:
    """When everything that was stored until now is on disk."""
    if nowait:
        return

    def send() -> None:
        if not channel.closing:
            channel.send(method)

    channel.connection.after(channel.connection.server.router.state.when_stored, send)


# ------------------------------------------------------------------------------------------------ exchanges

def exchange_declare(channel: Channel, method: ExchangeDeclare) -> None:
    declared = channel.connection.server.declared
    name, vhost = method.exchange, channel.connection.vhost
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel, name)
    known = declared.topology.exchanges.get(name)
    if method.passive:
        if known is None:
            raise _no_exchange(channel, name)
    elif known is not None:
        check_same("exchange", name, vhost, {
            "type": method.type, "durable": method.durable, "auto_delete": method.auto_delete,
            "internal": method.internal, "alternate-exchange": method.arguments.get("alternate-exchange"),
        }, {
            "type": known.type, "durable": known.durable, "auto_delete": known.auto_delete,
            "internal": known.internal, "alternate-exchange": known.arguments.get("alternate-exchange"),
        }, method.id)
    else:
        _check_name("exchange", name)
        _make_exchange(channel, method)
    _answer(channel, ExchangeDeclareOk(), method.nowait)


def _make_exchange(channel: Channel, method: ExchangeDeclare) -> None:
    server = channel.connection.server
    if method.type not in TYPES:                # x-delayed-message included, as of a RabbitMQ without that plugin
        raise SoftError(PRECONDITION_FAILED, f"unknown exchange type '{method.type}'")
    alternate = method.arguments.get("alternate-exchange")
    if alternate is not None and not isinstance(alternate, str):
        raise SoftError(PRECONDITION_FAILED, "invalid arg 'alternate-exchange': a long string is expected")
    if alternate:
        access.check_publish(channel, fanout_filter(alternate))
    if len(server.declared.topology.exchanges) >= server.settings.exchanges_max:
        raise HardError(RESOURCE_ERROR, "too many exchanges", method.id)
    server.declared.add_exchange(Exchange(
        method.exchange, method.type, method.durable, method.auto_delete, method.internal, method.arguments,
        channel.identity.user))


def exchange_delete(channel: Channel, method: ExchangeDelete) -> None:
    declared = channel.connection.server.declared
    name = method.exchange
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel, name)
    _check_name("exchange", name)
    exchange = declared.topology.exchanges.get(name)
    if exchange is not None:
        access.check_own_exchange(channel, exchange)
        if method.if_unused and exchange.bindings:
            raise SoftError(PRECONDITION_FAILED, f"exchange '{name}' in vhost '{channel.connection.vhost}' in use")
        declared.remove_exchange(exchange)
    _answer(channel, ExchangeDeleteOk(), method.nowait)


def exchange_bind(channel: Channel, method: ExchangeBind) -> None:
    source = find_exchange(channel, method.source)
    destination = find_exchange(channel, method.destination)
    access.check_filter(channel, filter_of(source, method.routing_key)[0])
    access.check_publish(channel, fanout_filter(destination.name))
    _bind(channel, Binding(source.name, destination.name, True, method.routing_key, method.arguments))
    _answer(channel, ExchangeBindOk(), method.nowait)


def exchange_unbind(channel: Channel, method: ExchangeUnbind) -> None:
    """As queue_unbind()."""
    if not method.source or not method.destination:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    source = channel.connection.server.declared.topology.exchanges.get(method.source)
    access.check_exchange(channel, method.source)
    access.check_exchange(channel, method.destination)
    if source is not None:
        access.check_filter(channel, filter_of(source, method.routing_key)[0])
        _unbind(channel, Binding(method.source, method.destination, True, method.routing_key, method.arguments))
    _answer(channel, ExchangeUnbindOk(), method.nowait)


def _bind(channel: Channel, binding: Binding) -> None:
    server = channel.connection.server
    if server.declared.topology.find(binding) is not None:
        return
    bound = server.declared.topology.of_queue.get(binding.destination, ()) if not binding.to_exchange else ()
    if server.declared.bindings >= server.settings.bindings_max or (
            len(bound) >= server.settings.bindings_per_queue_max):
        raise HardError(RESOURCE_ERROR, "too many bindings")
    refusal = server.declared.add_binding(binding, channel.identity)
    if refusal is not None:
        raise refused(refusal)


def _unbind(channel: Channel, binding: Binding) -> None:
    declared = channel.connection.server.declared
    known = declared.topology.find(binding)
    if known is not None:
        declared.remove_binding(known)


# ------------------------------------------------------------------------------------------------ queues

def queue_declare(channel: Channel, method: QueueDeclare) -> None:
    connection = channel.connection
    declared = connection.server.declared
    name = method.queue
    if name == replies.QUEUE or name.startswith(replies.PREFIX):
        _declare_reply_queue(channel, method)
        return
    if not name and method.passive:
        name = channel.last_queue
        if not name:
            raise SoftError(NOT_FOUND, "no previously declared queue")
    name = name or declared.new_name()
    access.check_queue(channel, name)
    queue = declared.queue(name)
    if method.passive:
        if queue is None:
            raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{connection.vhost}'")
        access.check_exclusive(channel, queue)
    elif queue is not None:
        _check_same_queue(channel, method, queue)
    else:
        if method.queue:
            _check_name("queue", name)
        queue = _make_queue(channel, method, name)
    channel.last_queue = name
    _answer_declared(channel, queue, method.nowait)


def _answer_declared(channel: Channel, queue: Queue, nowait: bool) -> None:
    """The counts are true for what this connection has published before."""
    if nowait:
        return
    connection = channel.connection

    def send() -> None:
        if not channel.closing:
            channel.send(QueueDeclareOk(queue.name, min(queue.ready_count(), COUNT_MAX), queue.readers))

    def current() -> None:
        if queue.alive:
            connection.after(queue.core.when_current, send)
        else:
            send()

    connection.after(connection.server.router.state.when_stored, current)


def _declare_reply_queue(channel: Channel, method: QueueDeclare) -> None:
    """Clients ask whether direct reply-to is there, and answerers whether an asker still is."""
    name = method.queue
    if not method.passive:
        raise SoftError(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
    server = channel.connection.server
    if name != replies.QUEUE and server.replies.channel(name) is None:
        raise SoftError(NOT_FOUND, f"no queue '{name}' in vhost '{channel.connection.vhost}'")
    if not method.nowait:
        channel.send(QueueDeclareOk(name, 0, 1 if name != replies.QUEUE else 0))


def _check_same_queue(channel: Channel, method: QueueDeclare, queue: Queue) -> None:
    access.check_exclusive(channel, queue)
    if method.exclusive != (queue.owner is not None):
        raise SoftError(
            RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{queue.name}' in vhost "
            f"'{channel.connection.vhost}'. It could be originally declared on another connection or the exclusive "
            "property value does not match that of the original declaration.")
    check_same("queue", queue.name, channel.connection.vhost, {
        "durable": method.durable, "auto_delete": method.auto_delete, **compared_arguments(method.arguments),
    }, {
        "durable": queue.durable, "auto_delete": queue.auto_delete, **compared_arguments(queue.arguments),
    }, method.id)


def _make_queue(channel: Channel, method: QueueDeclare, name: str) -> Queue:
    connection = channel.connection
    server = connection.server
    options = options_of(method.arguments, name, connection.vhost)
    if options.dead_letter_exchange:
        access.check_publish(channel, fanout_filter(options.dead_letter_exchange))
    refusal = server.declared.shares.take(channel.identity.user, server.settings.queues_max)
    if refusal is not None:
        raise refused(refusal)
    queue = server.declared.add_queue(
        name, method.durable, method.auto_delete, method.arguments, options, channel.identity,
        connection if method.exclusive else None)
    if isinstance(queue, Refusal):
        server.declared.shares.give(channel.identity.user)
        raise refused(queue)
    return queue


def queue_bind(channel: Channel, method: QueueBind) -> None:
    exchange = find_exchange(channel, method.exchange)
    queue = find_queue(channel, method.queue)
    access.check_own_queue(channel, queue)
    key = method.routing_key or (channel.last_queue if not method.queue else "")
    pattern, exact = filter_of(exchange, key)
    access.check_filter(channel, pattern)
    _bind(channel, Binding(exchange.name, queue.name, False, key, method.arguments, pattern if exact else None))
    _answer(channel, QueueBindOk(), method.nowait)


def queue_unbind(channel: Channel, method: QueueUnbind) -> None:
    """What is not there is not bound: that is no error."""
    if not method.exchange:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    name = method.queue or channel.last_queue
    access.check_queue(channel, name)
    queue = channel.connection.server.declared.queue(name)
    if queue is not None:
        access.check_own_queue(channel, queue)
        _unbind(channel, Binding(method.exchange, queue.name, False, method.routing_key, method.arguments))
    _answer(channel, QueueUnbindOk(), False)


def queue_purge(channel: Channel, method: QueuePurge) -> None:
    queue = find_queue(channel, method.queue)
    access.check_own_queue(channel, queue)

    def purge() -> None:
        count = queue.core.purge() if queue.alive else 0
        if not method.nowait and not channel.closing:
            channel.send(QueuePurgeOk(min(count, COUNT_MAX)))

    channel.connection.after(queue.core.when_current, purge)


def queue_delete(channel: Channel, method: QueueDelete) -> None:
    """One that is not there is deleted already.                    Source: RabbitMQ, since 3.2"""
    connection = channel.connection
    declared = connection.server.declared
    name = method.queue or channel.last_queue
    if not name:
        raise SoftError(NOT_FOUND, "no previously declared queue")
    access.check_queue(channel, name)
    found = declared.queue(name)
    if found is None:
        if not method.nowait:
            channel.send(QueueDeleteOk(0))
        return
    queue = found
    access.check_own_queue(channel, queue)

    def delete() -> None:
        count = queue.ready_count() if queue.alive else 0
        where = f"queue '{name}' in vhost '{connection.vhost}'"
        if method.if_unused and queue.readers:
            raise _late(channel, f"{where} in use", method)
        if method.if_empty and count:
            raise _late(channel, f"{where} not empty", method)
        if declared.queue(name) is queue:
            declared.remove_queue(queue, "the queue was deleted")
        _answer(channel, QueueDeleteOk(min(count, COUNT_MAX)), method.nowait)

    connection.after(queue.core.when_current, delete)


def _late(channel: Channel, text: str, method: Method) -> SoftError:
    error = SoftError(PRECONDITION_FAILED, text, method.id)
    error.channel = channel.number
    return error
