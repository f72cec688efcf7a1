"""One frame on an open channel: content to its message, a method to the function that answers it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.codec import codes, frames, methods
from protocols.amqp091.codec.codes import HardError, SoftError
from protocols.amqp091.codec.methods import Method, basic, decode_method
from protocols.amqp091.methods import bindings, consuming, exchanges, messages, queues, settling, transactions
from protocols.amqp091.topology.topology import Plain


def frame_in(channel: Channel, frame: frames.Frame, data: bytes) -> Plain | None:
    """Not for a channel that closes. Returns what messages.take() does. Raises SoftError and HardError."""
    kind, _, position, end = frame
    if kind == frames.METHOD:
        if channel.assembly.waits:
            raise HardError(codes.UNEXPECTED_FRAME, "a method where content was expected")
        _method(channel, data, position, end)
        return None
    if kind == frames.BODY:
        whole = channel.assembly.piece(data, position, end)
    elif kind == frames.HEADER:
        whole = channel.assembly.header(data, position, end)
    else:
        raise HardError(codes.FRAME_ERROR if kind != frames.HEARTBEAT else codes.UNEXPECTED_FRAME,
                        f"a frame of type {kind} does not belong to a channel")
    return messages.take(channel, *whole) if whole is not None else None


def _method(channel: Channel, data: bytes, position: int, end: int) -> None:
    head = data[position:position + 4]
    if head == basic.PUBLISH:
        channel.assembly.publish(data, position, end)
        return
    if head == basic.ACK and end - position == 13:
        settling.ack(
            channel, int.from_bytes(data[position + 4:position + 12], "big"), bool(data[position + 12] & 1))
        return
    method = decode_method(data, position, end)
    handler = HANDLERS.get(type(method))
    if isinstance(method, methods.ChannelOpen):
        raise HardError(codes.CHANNEL_ERROR, "second 'channel.open' seen", method.id)
    if handler is None:
        raise HardError(codes.COMMAND_INVALID, f"'{method.name}' is not for clients to send here", method.id)
    channel.publishing.flush()                  # it sees what was published and acked before it
    try:
        handler(channel, method)
    except SoftError as error:
        error.method = method.id
        raise


def frame_while_closing(channel: Channel, frame: frames.Frame, data: bytes) -> None:
    """Acks and publishes that were on the way do no harm."""
    if frame.type != frames.METHOD:
        return
    head = data[frame.position:frame.position + 4]
    if head == methods.channel.CLOSE:
        channel.send(methods.ChannelCloseOk())
    elif head == methods.channel.CLOSE_OK:
        channel.leave()


def _close(channel: Channel, method: methods.ChannelClose) -> None:
    channel.leave()
    channel.send(methods.ChannelCloseOk())


def _nothing(channel: Channel, method: Method) -> None:
    """An answer that nothing waits for."""


def _flow(channel: Channel, method: methods.ChannelFlow) -> None:
    """A client that wants no deliveries for a while. RabbitMQ refuses it; it is in the specification."""
    channel.window.stopped = not method.active
    channel.window.refresh()
    channel.send(methods.ChannelFlowOk(method.active))


def _access(channel: Channel, method: methods.AccessRequest) -> None:
    channel.send(methods.AccessRequestOk(1))


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.ChannelClose: _close, methods.ChannelFlow: _flow, methods.ChannelFlowOk: _nothing,
    methods.AccessRequest: _access,
    methods.ExchangeDeclare: exchanges.exchange_declare, methods.ExchangeDelete: exchanges.exchange_delete,
    methods.ExchangeBind: bindings.exchange_bind, methods.ExchangeUnbind: bindings.exchange_unbind,
    methods.QueueBind: bindings.queue_bind, methods.QueueUnbind: bindings.queue_unbind,
    methods.QueueDeclare: queues.queue_declare, methods.QueuePurge: queues.queue_purge,
    methods.QueueDelete: queues.queue_delete,
    methods.BasicQos: consuming.qos, methods.BasicConsume: consuming.consume, methods.BasicCancel: consuming.cancel,
    methods.BasicGet: consuming.get,
    methods.BasicNack: settling.nack, methods.BasicReject: settling.reject, methods.BasicRecover: settling.recover,
    methods.BasicRecoverAsync: settling.recover,
    methods.ConfirmSelect: transactions.confirm_select, methods.TxSelect: transactions.select,
    methods.TxCommit: transactions.commit, methods.TxRollback: transactions.rollback,
}
