"""Methods of class exchange but for bindings. Sources: AMQP 0-9-1 §1.6; the texts are RabbitMQ's."""
from __future__ import annotations

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec.codes import (
    ACCESS_REFUSED,
    PRECONDITION_FAILED,
    RESOURCE_ERROR,
    HardError,
    SoftError,
    refused,
)
from protocols.amqp091.codec.methods import (
    ExchangeDeclare,
    ExchangeDeclareOk,
    ExchangeDelete,
    ExchangeDeleteOk,
)
from protocols.amqp091.methods import access
from protocols.amqp091.methods.finding import check_reserved, no_exchange, when_stored
from protocols.amqp091.topology.arguments import check_same
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import DELAYED, DELAYED_TYPE, TYPES
from protocols.amqp091.topology.names import fanout_filter


def exchange_declare(channel: Channel, method: ExchangeDeclare) -> None:
    declared = channel.peer.broker.declared
    name, vhost = method.exchange, channel.peer.vhost
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel.peer, name)
    known = declared.topology.exchanges.get(name)
    if method.passive:
        if known is None:
            raise no_exchange(channel, name)
    elif known is not None:
        check_same("exchange", name, vhost, {
            "type": method.type, DELAYED_TYPE: method.arguments.get(DELAYED_TYPE),
            "durable": method.durable, "auto_delete": method.auto_delete,
            "internal": method.internal, "alternate-exchange": method.arguments.get("alternate-exchange"),
        }, {
            "type": known.type, DELAYED_TYPE: known.arguments.get(DELAYED_TYPE),
            "durable": known.durable, "auto_delete": known.auto_delete,
            "internal": known.internal, "alternate-exchange": known.arguments.get("alternate-exchange"),
        }, method.id)
    else:
        check_reserved("exchange", name)
        _make_exchange(channel, method)
    when_stored(channel, ExchangeDeclareOk(), method.nowait)


def _make_exchange(channel: Channel, method: ExchangeDeclare) -> None:
    broker = channel.peer.broker
    if method.type == DELAYED:
        if method.arguments.get(DELAYED_TYPE) not in TYPES:
            raise SoftError(PRECONDITION_FAILED, "Invalid argument, 'x-delayed-type' must be an existing exchange type")
        refusal = broker.delays.open()
        if refusal is not None:
            raise refused(refusal, method.id)
    elif method.type not in TYPES:
        raise SoftError(PRECONDITION_FAILED, f"unknown exchange type '{method.type}'")
    alternate = method.arguments.get("alternate-exchange")
    if alternate is not None and not isinstance(alternate, str):
        raise SoftError(PRECONDITION_FAILED, "invalid arg 'alternate-exchange': a long string is expected")
    if alternate:
        access.check_publish(channel.peer, fanout_filter(alternate))
    if len(broker.declared.topology.exchanges) >= broker.settings.exchanges_max:
        raise HardError(RESOURCE_ERROR, "too many exchanges", method.id)
    broker.declared.add_exchange(Exchange(
        method.exchange, method.type, method.durable, method.auto_delete, method.internal, method.arguments,
        channel.identity.user))


def exchange_delete(channel: Channel, method: ExchangeDelete) -> None:
    declared = channel.peer.broker.declared
    name = method.exchange
    if not name:
        raise SoftError(ACCESS_REFUSED, "operation not permitted on the default exchange")
    access.check_exchange(channel.peer, name)
    check_reserved("exchange", name)
    exchange = declared.topology.exchanges.get(name)
    if exchange is not None:
        access.check_own_exchange(channel.peer, exchange)
        if method.if_unused and exchange.bindings:
            raise SoftError(PRECONDITION_FAILED, f"exchange '{name}' in vhost '{channel.peer.vhost}' in use")
        declared.remove_exchange(exchange)
    when_stored(channel, ExchangeDeleteOk(), method.nowait)
