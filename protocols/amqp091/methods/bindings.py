"""Bindings of queues, and of exchanges, to exchanges. Sources: AMQP 0-9-1 §1.7; exchange.bind is RabbitMQ's."""
from __future__ import annotations

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec.codes import (
    ACCESS_REFUSED,
    RESOURCE_ERROR,
    HardError,
    SoftError,
    refused,
)
from protocols.amqp091.codec.methods import (
    ExchangeBind,
    ExchangeBindOk,
    ExchangeUnbind,
    ExchangeUnbindOk,
    QueueBind,
    QueueBindOk,
    QueueUnbind,
    QueueUnbindOk,
)
from protocols.amqp091.methods import access
from protocols.amqp091.methods.finding import find_exchange, find_queue, when_stored
from protocols.amqp091.topology.matching import Binding
from protocols.amqp091.topology.names import fanout_filter
from protocols.amqp091.topology.topology import filter_of


def exchange_bind(channel: Channel, method: ExchangeBind) -> None:
    source = find_exchange(channel, method.source)
    destination = find_exchange(channel, method.destination)
    access.check_filter(channel.peer, filter_of(source, method.routing_key)[0])
    access.check_publish(channel.peer, fanout_filter(destination.name))
    _bind(channel, Binding(source.name, destination.name, True, method.routing_key, method.arguments))
    when_stored(channel, ExchangeBindOk(), method.nowait)


def exchange_unbind(channel: Channel, method: ExchangeUnbind) -> None:
    """As queue_unbind()."""
    if not method.source or not method.destination:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    source = channel.peer.broker.declared.topology.exchanges.get(method.source)
    access.check_exchange(channel.peer, method.source)
    access.check_exchange(channel.peer, method.destination)
    if source is not None:
        access.check_filter(channel.peer, filter_of(source, method.routing_key)[0])
        _unbind(channel, Binding(method.source, method.destination, True, method.routing_key, method.arguments))
    when_stored(channel, ExchangeUnbindOk(), method.nowait)


def queue_bind(channel: Channel, method: QueueBind) -> None:
    exchange = find_exchange(channel, method.exchange)
    queue = find_queue(channel, method.queue)
    access.check_own_queue(channel.peer, queue)
    key = method.routing_key or (channel.last_queue if not method.queue else "")
    pattern, exact = filter_of(exchange, key)
    access.check_filter(channel.peer, pattern)
    _bind(channel, Binding(exchange.name, queue.name, False, key, method.arguments, pattern if exact else None))
    when_stored(channel, QueueBindOk(), method.nowait)


def queue_unbind(channel: Channel, method: QueueUnbind) -> None:
    """What is not there is not bound: that is no error."""
    if not method.exchange:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    name = method.queue or channel.last_queue
    access.check_queue(channel.peer, name)
    queue = channel.peer.broker.declared.queue(name)
    if queue is not None:
        access.check_own_queue(channel.peer, queue)
        _unbind(channel, Binding(method.exchange, queue.name, False, method.routing_key, method.arguments))
    when_stored(channel, QueueUnbindOk(), False)


def _bind(channel: Channel, binding: Binding) -> None:
    broker = channel.peer.broker
    if broker.declared.topology.find(binding) is not None:
        return
    bound = broker.declared.topology.of_queue.get(binding.destination, ()) if not binding.to_exchange else ()
    if broker.declared.bindings >= broker.settings.bindings_max or (
            len(bound) >= broker.settings.bindings_per_queue_max):
        raise HardError(RESOURCE_ERROR, "too many bindings")
    refusal = broker.declared.add_binding(binding, channel.identity)
    if refusal is not None:
        raise refused(refusal)


def _unbind(channel: Channel, binding: Binding) -> None:
    declared = channel.peer.broker.declared
    known = declared.topology.find(binding)
    if known is not None:
        declared.remove_binding(known)
