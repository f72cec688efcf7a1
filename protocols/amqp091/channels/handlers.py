"""Which function answers which method on a channel."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from protocols.amqp091.channels import consuming, declaring, settling, transaction
from protocols.amqp091.codec import methods
from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError
from protocols.amqp091.codec.methods import Method

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel


def _close(channel: Channel, method: methods.ChannelClose) -> None:
    channel.closed_by_client(method)


def _nothing(channel: Channel, method: Method) -> None:
    """An answer that nothing waits for."""


def _flow(channel: Channel, method: methods.ChannelFlow) -> None:
    """A client that wants no deliveries for a while. RabbitMQ refuses it; it is in the specification."""
    channel.stopped = not method.active
    channel.refresh_credit()
    channel.send(methods.ChannelFlowOk(method.active))


def _access(channel: Channel, method: methods.AccessRequest) -> None:
    channel.send(methods.AccessRequestOk(1))


def _confirm(channel: Channel, method: methods.ConfirmSelect) -> None:
    if channel.transaction is not None:
        raise SoftError(PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
    channel.confirm = True
    if not method.nowait:
        channel.send(methods.ConfirmSelectOk())


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.ChannelClose: _close, methods.ChannelFlow: _flow, methods.ChannelFlowOk: _nothing,
    methods.AccessRequest: _access, methods.ConfirmSelect: _confirm,
    methods.ExchangeDeclare: declaring.exchange_declare, methods.ExchangeDelete: declaring.exchange_delete,
    methods.ExchangeBind: declaring.exchange_bind, methods.ExchangeUnbind: declaring.exchange_unbind,
    methods.QueueDeclare: declaring.queue_declare, methods.QueueBind: declaring.queue_bind,
    methods.QueueUnbind: declaring.queue_unbind, methods.QueuePurge: declaring.queue_purge,
    methods.QueueDelete: declaring.queue_delete,
    methods.BasicQos: consuming.qos, methods.BasicConsume: consuming.consume, methods.BasicCancel: consuming.cancel,
    methods.BasicGet: consuming.get,
    methods.BasicNack: settling.nack, methods.BasicReject: settling.reject, methods.BasicRecover: settling.recover,
    methods.BasicRecoverAsync: settling.recover,
    methods.TxSelect: transaction.select, methods.TxCommit: transaction.commit,
    methods.TxRollback: transaction.rollback,
}
