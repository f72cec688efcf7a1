"""Methods of AMQP 0-9-1 <-> bytes: one struct per method that a client or this server may send.

A method's payload is class id, method id, then its fields as layout says, one letter each:

    o octet · h short · l long · L long long · s short string · S long string · t table · b bit (packed, 8 in an octet)

Names and texts are UTF-8 without NUL, or the connection ends with 502. Sources: AMQP 0-9-1 §1, §4.2.5; basic.nack,
exchange.bind, confirm.select, connection.blocked and update-secret are RabbitMQ's.
"""
from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, ClassVar, TypeVar

import msgspec

from protocols.amqp091.codec.codes import COMMAND_INVALID, SYNTAX_ERROR, HardError
from protocols.amqp091.codec.tables import Table, decode_table, encode_table

_ID = Struct(">HH")
_FIXED = {"o": Struct(">B"), "h": Struct(">H"), "l": Struct(">I"), "L": Struct(">Q")}
BASIC_PUBLISH = b"\x00\x3c\x00\x28"
BASIC_ACK = b"\x00\x3c\x00\x50"


class Method(msgspec.Struct, gc=False):
    id: ClassVar[tuple[int, int]]
    name: ClassVar[str]                     # as the specification writes it: "queue.declare"
    layout: ClassVar[str]
    has_content: ClassVar[bool] = False


M = TypeVar("M", bound=Method)
METHODS: dict[bytes, type[Method]] = {}


def _method(class_id: int, method_id: int, name: str, layout: str) -> Callable[[type[M]], type[M]]:
    def register(cls: type[M]) -> type[M]:
        cls.id, cls.name, cls.layout = (class_id, method_id), name, layout
        METHODS[_ID.pack(class_id, method_id)] = cls
        return cls
    return register


# ------------------------------------------------------------------------------------------------ connection

@_method(10, 10, "connection.start", "ootSS")
class ConnectionStart(Method):
    version_major: int = 0
    version_minor: int = 9
    server_properties: Table = {}
    mechanisms: bytes = b""
    locales: bytes = b"en_US"


@_method(10, 11, "connection.start-ok", "tsSs")
class ConnectionStartOk(Method):
    client_properties: Table = {}
    mechanism: str = ""
    response: bytes = b""
    locale: str = ""


@_method(10, 20, "connection.secure", "S")
class ConnectionSecure(Method):
    challenge: bytes = b""


@_method(10, 21, "connection.secure-ok", "S")
class ConnectionSecureOk(Method):
    response: bytes = b""


@_method(10, 30, "connection.tune", "hlh")
class ConnectionTune(Method):
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@_method(10, 31, "connection.tune-ok", "hlh")
class ConnectionTuneOk(Method):
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@_method(10, 40, "connection.open", "ssb")
class ConnectionOpen(Method):
    virtual_host: str = ""
    capabilities: str = ""
    insist: bool = False


@_method(10, 41, "connection.open-ok", "s")
class ConnectionOpenOk(Method):
    known_hosts: str = ""


@_method(10, 50, "connection.close", "hshh")
class ConnectionClose(Method):
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@_method(10, 51, "connection.close-ok", "")
class ConnectionCloseOk(Method):
    pass


@_method(10, 60, "connection.blocked", "s")
class ConnectionBlocked(Method):
    reason: str = ""


@_method(10, 61, "connection.unblocked", "")
class ConnectionUnblocked(Method):
    pass


@_method(10, 70, "connection.update-secret", "Ss")
class ConnectionUpdateSecret(Method):
    new_secret: bytes = b""
    reason: str = ""


@_method(10, 71, "connection.update-secret-ok", "")
class ConnectionUpdateSecretOk(Method):
    pass


# ------------------------------------------------------------------------------------------------ channel, access

@_method(20, 10, "channel.open", "s")
class ChannelOpen(Method):
    out_of_band: str = ""


@_method(20, 11, "channel.open-ok", "S")
class ChannelOpenOk(Method):
    channel_id: bytes = b""


@_method(20, 20, "channel.flow", "b")
class ChannelFlow(Method):
    active: bool = False


@_method(20, 21, "channel.flow-ok", "b")
class ChannelFlowOk(Method):
    active: bool = False


@_method(20, 40, "channel.close", "hshh")
class ChannelClose(Method):
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@_method(20, 41, "channel.close-ok", "")
class ChannelCloseOk(Method):
    pass


@_method(30, 10, "access.request", "sbbbbb")
class AccessRequest(Method):
    realm: str = ""
    exclusive: bool = False
    passive: bool = False
    active: bool = False
    write: bool = False
    read: bool = False


@_method(30, 11, "access.request-ok", "h")
class AccessRequestOk(Method):
    ticket: int = 1


# ------------------------------------------------------------------------------------------------ exchange

@_method(40, 10, "exchange.declare", "hssbbbbbt")
class ExchangeDeclare(Method):
    ticket: int = 0
    exchange: str = ""
    type: str = ""
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: Table = {}


@_method(40, 11, "exchange.declare-ok", "")
class ExchangeDeclareOk(Method):
    pass


@_method(40, 20, "exchange.delete", "hsbb")
class ExchangeDelete(Method):
    ticket: int = 0
    exchange: str = ""
    if_unused: bool = False
    nowait: bool = False


@_method(40, 21, "exchange.delete-ok", "")
class ExchangeDeleteOk(Method):
    pass


@_method(40, 30, "exchange.bind", "hsssbt")
class ExchangeBind(Method):
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = {}


@_method(40, 31, "exchange.bind-ok", "")
class ExchangeBindOk(Method):
    pass


@_method(40, 40, "exchange.unbind", "hsssbt")
class ExchangeUnbind(Method):
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = {}


@_method(40, 51, "exchange.unbind-ok", "")
class ExchangeUnbindOk(Method):
    pass


# ------------------------------------------------------------------------------------------------ queue

@_method(50, 10, "queue.declare", "hsbbbbbt")
class QueueDeclare(Method):
    ticket: int = 0
    queue: str = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: Table = {}


@_method(50, 11, "queue.declare-ok", "sll")
class QueueDeclareOk(Method):
    queue: str = ""
    message_count: int = 0
    consumer_count: int = 0


@_method(50, 20, "queue.bind", "hsssbt")
class QueueBind(Method):
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = {}


@_method(50, 21, "queue.bind-ok", "")
class QueueBindOk(Method):
    pass


@_method(50, 30, "queue.purge", "hsb")
class QueuePurge(Method):
    ticket: int = 0
    queue: str = ""
    nowait: bool = False


@_method(50, 31, "queue.purge-ok", "l")
class QueuePurgeOk(Method):
    message_count: int = 0


@_method(50, 40, "queue.delete", "hsbbb")
class QueueDelete(Method):
    ticket: int = 0
    queue: str = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


@_method(50, 41, "queue.delete-ok", "l")
class QueueDeleteOk(Method):
    message_count: int = 0


@_method(50, 50, "queue.unbind", "hssst")
class QueueUnbind(Method):
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    arguments: Table = {}


@_method(50, 51, "queue.unbind-ok", "")
class QueueUnbindOk(Method):
    pass


# ------------------------------------------------------------------------------------------------ basic

@_method(60, 10, "basic.qos", "lhb")
class BasicQos(Method):
    prefetch_size: int = 0
    prefetch_count: int = 0
    global_: bool = False


@_method(60, 11, "basic.qos-ok", "")
class BasicQosOk(Method):
    pass


@_method(60, 20, "basic.consume", "hssbbbbt")
class BasicConsume(Method):
    ticket: int = 0
    queue: str = ""
    consumer_tag: str = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: Table = {}


@_method(60, 21, "basic.consume-ok", "s")
class BasicConsumeOk(Method):
    consumer_tag: str = ""


@_method(60, 30, "basic.cancel", "sb")
class BasicCancel(Method):
    consumer_tag: str = ""
    nowait: bool = False


@_method(60, 31, "basic.cancel-ok", "s")
class BasicCancelOk(Method):
    consumer_tag: str = ""


@_method(60, 40, "basic.publish", "hssbb")
class BasicPublish(Method):
    has_content = True
    ticket: int = 0
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False
    immediate: bool = False


@_method(60, 50, "basic.return", "hsss")
class BasicReturn(Method):
    has_content = True
    reply_code: int = 0
    reply_text: str = ""
    exchange: str = ""
    routing_key: str = ""


@_method(60, 60, "basic.deliver", "sLbss")
class BasicDeliver(Method):
    has_content = True
    consumer_tag: str = ""
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""


@_method(60, 70, "basic.get", "hsb")
class BasicGet(Method):
    ticket: int = 0
    queue: str = ""
    no_ack: bool = False


@_method(60, 71, "basic.get-ok", "Lbssl")
class BasicGetOk(Method):
    has_content = True
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""
    message_count: int = 0


@_method(60, 72, "basic.get-empty", "s")
class BasicGetEmpty(Method):
    cluster_id: str = ""


@_method(60, 80, "basic.ack", "Lb")
class BasicAck(Method):
    delivery_tag: int = 0
    multiple: bool = False


@_method(60, 90, "basic.reject", "Lb")
class BasicReject(Method):
    delivery_tag: int = 0
    requeue: bool = False


@_method(60, 100, "basic.recover-async", "b")
class BasicRecoverAsync(Method):
    requeue: bool = False


@_method(60, 110, "basic.recover", "b")
class BasicRecover(Method):
    requeue: bool = False


@_method(60, 111, "basic.recover-ok", "")
class BasicRecoverOk(Method):
    pass


@_method(60, 120, "basic.nack", "Lbb")
class BasicNack(Method):
    delivery_tag: int = 0
    multiple: bool = False
    requeue: bool = False


# ------------------------------------------------------------------------------------------------ confirm, tx

@_method(85, 10, "confirm.select", "b")
class ConfirmSelect(Method):
    nowait: bool = False


@_method(85, 11, "confirm.select-ok", "")
class ConfirmSelectOk(Method):
    pass


@_method(90, 10, "tx.select", "")
class TxSelect(Method):
    pass


@_method(90, 11, "tx.select-ok", "")
class TxSelectOk(Method):
    pass


@_method(90, 20, "tx.commit", "")
class TxCommit(Method):
    pass


@_method(90, 21, "tx.commit-ok", "")
class TxCommitOk(Method):
    pass


@_method(90, 30, "tx.rollback", "")
class TxRollback(Method):
    pass


@_method(90, 31, "tx.rollback-ok", "")
class TxRollbackOk(Method):
    pass


# ------------------------------------------------------------------------------------------------ bytes

def decode_method(data: bytes, position: int, end: int) -> Method:
    """The method whose payload stands there. Raises HardError: 502 malformed, 503 unknown."""
    if end - position < 4:
        raise HardError(SYNTAX_ERROR, "a method frame without a method")
    found = METHODS.get(data[position:position + 4])
    if found is None:
        class_id, method_id = _ID.unpack_from(data, position)
        raise HardError(COMMAND_INVALID, f"unknown method {class_id}.{method_id}", (class_id, method_id))
    try:
        return found(*_decode_fields(data, position + 4, end, found.layout))
    except HardError as error:
        error.method = found.id
        raise


def _decode_fields(data: bytes, position: int, end: int, layout: str) -> list[Any]:
    values: list[Any] = []
    bit = 8
    for letter in layout:
        if letter == "b":
            if bit == 8:
                bit = 0
                position += 1
                if position > end:
                    raise HardError(SYNTAX_ERROR, "a method is cut off")
            values.append(bool(data[position - 1] >> bit & 1))
            bit += 1
            continue
        bit = 8
        if letter == "s":
            text, position = short_string(data, position, end)
            values.append(text)
        elif letter == "t":
            table, position = decode_table(data, position, end)
            values.append(table)
        elif letter == "S":
            if position + 4 > end or (size := int.from_bytes(data[position:position + 4], "big")) > end - position - 4:
                raise HardError(SYNTAX_ERROR, "a long string is cut off")
            values.append(data[position + 4:position + 4 + size])
            position += 4 + size
        else:
            fixed = _FIXED[letter]
            if position + fixed.size > end:
                raise HardError(SYNTAX_ERROR, "a method is cut off")
            values.append(fixed.unpack_from(data, position)[0])
            position += fixed.size
    if position != end:
        raise HardError(SYNTAX_ERROR, "a method is followed by something else in its frame")
    return values


def short_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A short string of names and keys, and the position behind it."""
    if position >= end or (stop := position + 1 + data[position]) > end:
        raise HardError(SYNTAX_ERROR, "a short string is cut off")
    raw = data[position + 1:stop]
    try:
        if 0 in raw:
            raise HardError(SYNTAX_ERROR, "a short string with NUL")
        return raw.decode(), stop
    except UnicodeDecodeError:
        raise HardError(SYNTAX_ERROR, "a short string that is not UTF-8") from None


def encode_method(method: Method) -> bytes:
    """Payload of its frame."""
    parts = [_ID.pack(*method.id)]
    bits, used = 0, 0
    for letter, name in zip(method.layout, method.__struct_fields__):
        value = getattr(method, name)
        if letter == "b":
            bits |= bool(value) << used
            used += 1
            continue
        if used:
            parts.append(bytes((bits,)))
            bits = used = 0
        if letter == "s":
            parts.append(pack_short(value))
        elif letter == "S":
            parts += (len(value).to_bytes(4, "big"), value)
        elif letter == "t":
            parts.append(encode_table(value))
        else:
            parts.append(_FIXED[letter].pack(value))
    if used:
        parts.append(bytes((bits,)))
    return b"".join(parts)


def pack_short(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")[:255]
    return bytes((len(raw),)) + raw
