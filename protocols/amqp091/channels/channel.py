"""A channel: its state, the content that is on its way in, what waits for acks. Methods: see handlers.py.

    OPEN ── soft error: channel.close ──► CLOSING ── close-ok ──► gone          Source: AMQP 0-9-1 §1.5, §4.2.6
      └──── channel.close of the client: close-ok ──────────────► gone

While it closes everything but close-ok and close is ignored: publishes and acks that were on the way do no harm.
"""
from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from protocols.amqp091.channels import messages
from protocols.amqp091.channels.consuming import deliver_reply
from protocols.amqp091.channels.handlers import HANDLERS
from protocols.amqp091.channels.settling import ack
from protocols.amqp091.channels.transaction import Transaction
from protocols.amqp091.codec import codes, frames
from protocols.amqp091.codec.codes import HardError, SoftError
from protocols.amqp091.codec.methods import (
    BASIC_ACK,
    BASIC_PUBLISH,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    Method,
    decode_method,
    short_string,
)
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.channels.getting import Getter
    from protocols.amqp091.channels.reader import Reader, Unacked
    from protocols.amqp091.connection import AmqpConnection
    from protocols.amqp091.topology.queue import Queue
    from routing.cursors.cursor import Delivery

CLOSE_OK, CLOSE = b"\x00\x14\x00\x29", b"\x00\x14\x00\x28"


class Incoming:
    """A message whose content is on its way. size -1: its content header has not come."""

    __slots__ = ("body", "exchange", "got", "key", "mandatory", "properties", "size")

    def __init__(self, exchange: str, key: str, mandatory: bool) -> None:
        self.exchange = exchange
        self.key = key
        self.mandatory = mandatory
        self.properties = b""
        self.size = -1
        self.body: list[bytes] = []
        self.got = 0


class Channel:
    """See the module's head. Loop thread only."""

    __slots__ = ("_incoming", "acks", "cancelled", "closing", "confirm", "confirmed", "connection", "getters",
                 "last_queue", "number", "prefetch", "prefetch_all", "published", "readers", "reply_name", "reply_tag",
                 "stopped", "tag", "transaction", "unacked")

    def __init__(self, connection: AmqpConnection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.closing = False
        self.confirm = False
        self.published = 0                      # the newest publish's tag, while it confirms
        self.confirmed = 0                      # the newest that was answered
        self.tag = 0                            # of the newest delivery
        self.unacked: OrderedDict[int, Unacked] = OrderedDict()
        self.acks: dict[Queue, list[Delivery]] = {}         # acked in this read
        self.readers: dict[str, Reader] = {}    # by consumer tag
        self.cancelled: dict[Reader, None] = {}     # that still hold something
        self.getters: dict[str, Getter] = {}    # by queue
        self.prefetch = 0                       # for consumers, 0: no limit
        self.prefetch_all = 0                   # for all of them together
        self.last_queue = ""                    # declared last: what an empty name means
        self.transaction: Transaction | None = None
        self.reply_name: str | None = None      # direct reply-to
        self.reply_tag = ""
        self.stopped = False                    # by channel.flow
        self._incoming: Incoming | None = None

    @property
    def identity(self) -> Identity:
        return self.connection.identity

    def opened(self) -> None:
        self.send(ChannelOpenOk())

    def send(self, method: Method) -> None:
        self.connection.send(self.number, method)

    # -- frames in --------------------------------------------------------------------------------------------

    def frame(self, frame: frames.Frame, data: bytes) -> None:
        """One frame on this channel. Raises SoftError and HardError."""
        kind, _, position, end = frame
        if self.closing:
            self._frame_while_closing(frame, data)
        elif kind == frames.BODY:
            self._body(data, position, end)
        elif kind == frames.HEADER:
            self._header(data, position, end)
        elif kind != frames.METHOD:
            raise HardError(codes.FRAME_ERROR if kind != frames.HEARTBEAT else codes.UNEXPECTED_FRAME,
                            f"a frame of type {kind} does not belong to a channel")
        else:
            if self._incoming is not None:
                raise HardError(codes.UNEXPECTED_FRAME, "a method where content was expected")
            self._method(data, position, end)

    def _method(self, data: bytes, position: int, end: int) -> None:
        head = data[position:position + 4]
        if head == BASIC_PUBLISH:
            exchange, after = short_string(data, position + 6, end)
            key, after = short_string(data, after, end)
            if after + 1 != end:
                raise HardError(codes.SYNTAX_ERROR, "a method is cut off", (60, 40))
            bits = data[after]
            if bits & 2:
                raise HardError(codes.NOT_IMPLEMENTED, "immediate=true", (60, 40))
            self._incoming = Incoming(exchange, key, bool(bits & 1))
            return
        if head == BASIC_ACK and end - position == 13:
            ack(self, int.from_bytes(data[position + 4:position + 12], "big"), bool(data[position + 12] & 1))
            return
        method = decode_method(data, position, end)
        handler = HANDLERS.get(type(method))
        if isinstance(method, ChannelOpen):
            raise HardError(codes.CHANNEL_ERROR, "second 'channel.open' seen", method.id)
        if handler is None:
            raise HardError(codes.COMMAND_INVALID, f"'{method.name}' is not for clients to send here", method.id)
        publishing = self.connection.publishing
        assert publishing is not None
        publishing.flush()                      # it sees what was published and acked before it
        try:
            handler(self, method)
        except SoftError as error:
            error.method = method.id
            raise

    def _header(self, data: bytes, position: int, end: int) -> None:
        incoming = self._incoming
        if incoming is None or incoming.size >= 0:
            raise HardError(codes.UNEXPECTED_FRAME, "a content header without a method before it")
        if end - position < 14 or data[position:position + 2] != b"\x00\x3c":
            raise HardError(codes.FRAME_ERROR, "a content header is cut off, or of another class", (60, 40))
        size = int.from_bytes(data[position + 4:position + 12], "big")
        maximum = self.connection.server.router.limits.payload_bytes_max
        if size > maximum:
            self._incoming = None
            raise SoftError(codes.CONTENT_TOO_LARGE, f"message size {size} is larger than configured max size "
                                                     f"{maximum}", (60, 40))
        self.connection.partial_bytes += size
        incoming.size = size
        if self.connection.partial_bytes > self.connection.server.settings.partial_bytes_max:
            raise HardError(codes.RESOURCE_ERROR, "too many messages that are not complete", (60, 40))
        incoming.properties = data[position + 12:end]
        if not size:
            self._complete(incoming, b"")

    def _body(self, data: bytes, position: int, end: int) -> None:
        incoming = self._incoming
        if incoming is None or incoming.size < 0:
            raise HardError(codes.UNEXPECTED_FRAME, "a body without a content header before it")
        incoming.got += end - position
        if incoming.got > incoming.size:
            raise HardError(codes.UNEXPECTED_FRAME, "a body is longer than its content header said", (60, 40))
        if incoming.got == incoming.size and not incoming.body:
            self._complete(incoming, data[position:end])
            return
        incoming.body.append(data[position:end])
        if incoming.got == incoming.size:
            self._complete(incoming, b"".join(incoming.body))

    def _complete(self, incoming: Incoming, body: bytes) -> None:
        self._incoming = None
        self.connection.partial_bytes -= incoming.size
        messages.take(self, incoming, body)

    def _frame_while_closing(self, frame: frames.Frame, data: bytes) -> None:
        if frame.type != frames.METHOD:
            return
        head = data[frame.position:frame.position + 4]
        if head == CLOSE:
            self.send(ChannelCloseOk())
        elif head == CLOSE_OK:
            self.connection.channels.pop(self.number, None)

    # -- the end ----------------------------------------------------------------------------------------------

    def begin_closing(self) -> None:
        """channel.close is out."""
        self.closing = True
        self.close()

    def closed_by_client(self, method: ChannelClose) -> None:
        self.close()
        self.send(ChannelCloseOk())
        self.connection.channels.pop(self.number, None)

    def close(self) -> None:
        """What it holds goes back to its queues, in order."""
        if self._incoming is not None and self._incoming.size >= 0:
            self.connection.partial_bytes -= self._incoming.size
        self._incoming = None
        self.closing = True
        self.transaction = None
        if self.acks:
            self.flush_acks()
        readers, self.readers = self.readers, {}
        getters, self.getters = self.getters, {}
        self.unacked.clear()
        gone, self.cancelled = self.cancelled, {}
        for reader in (*readers.values(), *gone):
            reader.end()
        for getter in getters.values():
            getter.end()
        if self.reply_name is not None:
            self.connection.server.replies.close(self.reply_name)
            self.reply_name = None

    def deliver_reply(self, name: str, properties: bytes, body: bytes) -> None:
        deliver_reply(self, name, properties, body)

    # -- acks and credit --------------------------------------------------------------------------------------

    def flush_acks(self) -> None:
        acks, self.acks = self.acks, {}
        for queue, deliveries in acks.items():
            queue.core.ack(deliveries)

    def room(self) -> int:
        """Deliveries that the channel takes now, whoever's they are."""
        if self.connection.paused or self.closing or self.stopped:
            return 0
        room = self.connection.server.settings.unacked_max - len(self.unacked)
        if self.prefetch_all:
            room = min(room, self.prefetch_all - len(self.unacked))
        return max(room, 0)

    def refresh_credit(self) -> None:
        for reader in self.readers.values():
            reader.refresh()

    def next_tag(self) -> int:
        self.tag += 1
        return self.tag

    def take_identity(self, identity: Identity) -> None:
        members: list[Any] = [*self.readers.values(), *self.getters.values()]
        for member in members:
            member.identity = identity
