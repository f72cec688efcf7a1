"""State machine of one AMQP 0-9-1 connection: frames, errors, the end. Sans-IO. Its states stand in states.py.

One read is cut into frames; what they bring is given to the router at the end of the read. A method that has to wait
for the disk (declare, commit, get) holds the connection: nothing behind it is looked at until it is answered, so every
method sees what those before it have done.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from protocols.amqp091.broker import Broker
from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.channels.publishing import Publishing
from protocols.amqp091.codec import codes, frames
from protocols.amqp091.codec.codes import AmqpError, HardError, SoftError
from protocols.amqp091.codec.methods import (
    ChannelClose,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionSecureOk,
    ConnectionStartOk,
    ConnectionTuneOk,
    ConnectionUnblocked,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
    Method,
    connection,
    decode_method,
)
from protocols.amqp091.connections.heart import Due, Heart
from protocols.amqp091.connections.intake import Intake
from protocols.amqp091.connections.openchannels import OpenChannels
from protocols.amqp091.connections.opening import Opening, refusal_text
from protocols.amqp091.connections.states import EXPECTED, State
from protocols.amqp091.methods.dispatch import frame_in, frame_while_closing
from protocols.transport.stranger import looks_like
from protocols.transport.wire import ByteChannel
from routing.errors import Refusal
from routing.rights.policy import Identity

log = logging.getLogger(__name__)


class AmqpConnection:
    """ConnectionHandler of protocols/transport/wire.py."""

    __slots__ = ("_admitted", "_broker", "_heart", "_intake", "_left", "_opening", "_publishing", "channels",
                 "connected_ms", "peer", "state")

    def __init__(self, broker: Broker, stream: ByteChannel, now_s: float,
                 left: Callable[[AmqpConnection], None]) -> None:
        """left: told at the end of the stream."""
        self._broker = broker
        self._left = left
        self.state = State.HEADER
        self.peer = Peer(broker, stream, self._failed)
        self.channels = OpenChannels(self.peer)
        self.connected_ms = 0
        self._opening = Opening(self.peer, self._decided, self._challenged)
        self._heart = Heart(self.peer, now_s)
        self._intake = Intake(self.peer, self.channels, self._frame)
        self._publishing: Publishing | None = None  # once the login is accepted
        self._admitted = False                      # counts among the connections of its user

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    # -- bytes in ---------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now_s: float) -> None:
        if self.peer.closed:
            return
        self._heart.last_in_s = now_s
        self._broker.counters.bytes_in += len(data)
        joined = self._intake.join(data)
        if joined is None:
            return
        try:
            self._read(joined)
            self._flush()
        except HardError as error:
            self._fail_after_flush(error)
        except Exception as error:                  # a fault of ours: this connection dies, the node lives
            self._failed(error)

    def _read(self, data: bytes) -> None:
        position = 0
        if self.state is State.HEADER:
            if len(data) < 8:
                if not frames.PROTOCOL_HEADER.startswith(data):
                    self._wrong_header(data)
                else:
                    self._intake.keep(data, 8)
                return
            if data[:8] != frames.PROTOCOL_HEADER:
                self._wrong_header(data)
                return
            position = 8
            self.state = State.START
            self._opening.start()
        self._intake.read(data, position)

    def _wrong_header(self, data: bytes) -> None:
        """We tell what we speak, and close.                                          Source: AMQP 0-9-1 §4.2.2"""
        self._log("no header of AMQP 0-9-1 or 1.0%s", "" if data.startswith(b"AMQP") else looks_like(data))
        self.peer.write(frames.PROTOCOL_HEADER)
        self._finish()

    def _frame(self, frame: frames.Frame, data: bytes) -> None:
        if self.state is not State.OPEN:
            self._early_frame(frame, data)
            return
        number = frame.channel
        if frame.type == frames.HEARTBEAT:              # on a channel, open or not: LavinMQ #1999
            if number or frame.position != frame.end:
                raise HardError(codes.UNEXPECTED_FRAME, "a heartbeat belongs to channel 0 and is empty")
            return
        channel = self.channels.get(number)
        if channel is None:
            if frame.type not in (frames.METHOD, frames.HEADER, frames.BODY):
                raise HardError(codes.FRAME_ERROR, f"unknown frame type {frame.type}")
            if number and frame.type != frames.METHOD:
                raise HardError(codes.CHANNEL_ERROR, "expected 'channel.open'")
            if number:
                assert self._publishing is not None
                self.channels.open(number, decode_method(data, frame.position, frame.end), self._publishing)
            elif frame.type == frames.METHOD:
                self._method(decode_method(data, frame.position, frame.end))
            else:
                raise HardError(codes.UNEXPECTED_FRAME, "content on channel 0")
            return
        if channel.closing:
            frame_while_closing(channel, frame, data)
            return
        try:
            plain = frame_in(channel, frame, data)
            self._intake.repeats.frame(channel, frame, data, plain)
        except SoftError as error:
            self._fail_channel(channel.line, error)

    def _early_frame(self, frame: frames.Frame, data: bytes) -> None:
        """Before and after the connection is open only some methods on channel 0 are taken."""
        if self.state is State.CLOSING:
            if frame.type != frames.METHOD or frame.channel:
                return
            head = data[frame.position:frame.position + 4]
            if head == connection.CLOSE_OK:
                self._finish()
            elif head == connection.CLOSE:                          # both at a time
                self.peer.send(0, ConnectionCloseOk())
            return
        if frame.type == frames.HEARTBEAT and not frame.channel:
            return
        if frame.type != frames.METHOD or frame.channel:
            raise HardError(codes.CHANNEL_ERROR if frame.type == frames.METHOD else codes.UNEXPECTED_FRAME,
                            "the connection is not open")
        self._method(decode_method(data, frame.position, frame.end))

    # -- methods of the connection ----------------------------------------------------------------------------

    def _method(self, method: Method) -> None:
        if isinstance(method, ConnectionClose):
            self.peer.send(0, ConnectionCloseOk())
            self._finish()
            return
        if isinstance(method, ConnectionUpdateSecret) and self.is_open:
            self._opening.renew(method, self._renewed)
            return
        if not isinstance(method, EXPECTED.get(self.state, ())):
            raise HardError(codes.COMMAND_INVALID, f"'{method.name}' is not expected now", method.id)
        if isinstance(method, ConnectionStartOk):
            self.state = State.LOGIN
            self._opening.log_in(method)
        elif isinstance(method, ConnectionSecureOk):
            self.state = State.LOGIN
            self._opening.go_on(method)
        elif isinstance(method, ConnectionTuneOk):
            tuned = self._opening.tune(method)
            self.channels.maximum = tuned.channel_max
            self.peer.frame_max = tuned.frame_max
            self._heart.interval_s = tuned.heartbeat_s
            self.state = State.VHOST
        elif isinstance(method, ConnectionOpen):
            self._opening.choose_vhost(method)
            self.state = State.OPEN
            self._heart.deadline_s = None
            self.connected_ms = self._broker.router.clock_ms()
            self.peer.send(0, ConnectionOpenOk())
            if self._broker.blocked:
                self.tell_blocked(True)

    def _challenged(self) -> None:
        self.state = State.SECURE

    def _decided(self, answer: Identity | Refusal) -> None:
        """The authenticator's answer; may come within log_in()."""
        if self.state is not State.LOGIN:
            return
        if isinstance(answer, Refusal):
            self._refuse_login(answer)
            return
        refusal = self._broker.admit(answer)
        if refusal is not None:
            self.fail(codes.NOT_ALLOWED, refusal.text)
            return
        self.peer.identity = answer
        self._admitted = True
        self._publishing = Publishing(
            self.peer, self._fail_channel, lambda: any(one.window.holders for one in self.channels))
        self._broker.router.logins.add(self)
        self.state = State.TUNE
        self._opening.offer()

    def _refuse_login(self, refusal: Refusal) -> None:
        """A client that can hear it is told; others see the stream end, as with RabbitMQ."""
        log.info("! login of %r from %s refused: %s", self.peer.login_name[:80], self.peer.stream.address, refusal.text)
        self._broker.counters.connection_errors[codes.ACCESS_REFUSED] += 1
        if "authentication_failure_close" in self.peer.capabilities:
            self.peer.send(0, ConnectionClose(codes.ACCESS_REFUSED, refusal_text(self._opening.mechanism, refusal)))
            self._begin_closing()
        else:
            self._finish()

    def _renewed(self, identity: Identity | None) -> None:
        if self.peer.closed or not self.is_open:
            return
        if identity is None:
            self.fail(codes.NOT_ALLOWED, "the new secret was refused")
            return
        self._take_identity(identity)
        self.peer.send(0, ConnectionUpdateSecretOk())

    def tell_blocked(self, blocked: bool) -> None:
        """The disk is full, or has room again."""
        if self.is_open and "connection.blocked" in self.peer.capabilities:
            self.peer.send(0, ConnectionBlocked("low on disk") if blocked else ConnectionUnblocked())

    # -- identity ---------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """For routing/logins.py."""
        return self.peer.identity

    def rights_changed(self, identity: Identity) -> None:
        """Called by routing/logins.py."""
        if identity.revoked:
            self.fail(codes.CONNECTION_FORCED, "the login does not count any more")
        else:
            self._take_identity(identity)

    def _take_identity(self, identity: Identity) -> None:
        self.peer.identity = identity
        if self._publishing is not None:
            self._publishing.take_identity(identity)
        self.channels.take_identity(identity)

    # -- the stream and the clock -----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._set_paused(True)

    def resume_writing(self) -> None:
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        self.peer.paused = paused
        self.channels.refresh()

    def look(self, now_s: float) -> None:
        """Called every half second or so."""
        if self.peer.closed:
            return
        due = self._heart.look(now_s, is_open=self.is_open)
        if due is Due.DEADLINE:
            self._log("timed out: %s", self.state.value)
            self._finish(abort=self.state is State.CLOSING)
        elif due is Due.SILENCE:
            self._log("missed heartbeats, timeout: %d s", self._heart.interval_s)
            self._finish(abort=True)
        elif due is Due.TOKEN:
            self.fail(codes.CONNECTION_FORCED, "the token has expired")

    # -- the end ----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._publishing is not None:
            self._publishing.flush()

    def _failed(self, error: Exception) -> None:
        """Something was raised: the channel or the connection ends with it."""
        if isinstance(error, SoftError):
            channel = self.channels.get(error.channel)
            if channel is not None:
                self._fail_channel(channel.line, error)
            else:
                self._close(error)
        elif isinstance(error, HardError):
            self._close(error)
        else:
            log.error("! internal error on the connection of %s", self.describe(), exc_info=error)
            self.fail(codes.INTERNAL_ERROR, "internal error")

    def _fail_channel(self, line: Line, error: AmqpError) -> None:
        """A soft error: the channel ends, the connection goes on."""
        self._flush()
        channel = self.channels.get(line.number)
        if self.peer.closed or line.closing or channel is None or channel.line is not line:
            return
        self._broker.counters.channel_errors[error.wire_code] += 1
        self._log("channel %d: %s", line.number, error.text)
        line.send(ChannelClose(error.wire_code, error.text, *error.method))
        channel.close()

    def _fail_after_flush(self, error: HardError) -> None:
        """What came before the fault is still taken."""
        try:
            self._flush()
        except AmqpError:
            pass
        self._close(error)

    def fail(self, code: int, text: str) -> None:
        """Close the connection with a reply code."""
        self._close(HardError(code, text))

    def _close(self, error: AmqpError) -> None:
        if self.peer.closed or self.state is State.CLOSING:
            return
        self._broker.counters.connection_errors[error.wire_code] += 1
        self._log("%s", error.text)
        if self.state is State.HEADER:
            self._finish()
            return
        self.peer.send(0, ConnectionClose(error.wire_code, error.text, *error.method))
        self._begin_closing()

    def _begin_closing(self) -> None:
        """connection.close is out. What the client had goes back at once; it has some seconds to answer."""
        self.state = State.CLOSING
        self._heart.deadline_s = max(
            self._heart.last_in_s, self._broker.router.clock_s()) + self._broker.settings.close_timeout_s
        self._let_go()

    def _finish(self, *, abort: bool = False) -> None:
        """Nothing more is said."""
        if not self.peer.closed:
            self.peer.closed = True
            self._let_go()
            self.state = State.CLOSED
            if abort:
                self.peer.stream.abort()
            else:
                self.peer.stream.close()

    def _let_go(self) -> None:
        self._opening.close()
        self.channels.close()
        if self._publishing is not None:
            self._publishing.close()
        self._broker.router.logins.discard(self)
        if self._admitted:
            self._admitted = False
            self._broker.left(self.peer.identity, self.peer)

    def eof(self) -> None:
        """The stream is gone."""
        if not self.peer.closed:
            self.peer.closed = True
            try:
                self._flush()
            except AmqpError:
                pass
            self._let_go()
            self.state = State.CLOSED
        self._left(self)

    # -- for operators ----------------------------------------------------------------------------------------

    def _log(self, text: str, *values: object) -> None:
        if self._broker.log_limit.allows(self._broker.router.clock_s()):
            log.info("! %s: " + text, self.describe(), *values)

    def describe(self) -> str:
        return self.peer.describe()

    def snapshot(self) -> dict[str, Any]:
        """For the management API."""
        peer = self.peer
        consumers, unacked = self.channels.counts()
        return {
            "client_id": peer.shown_id, "user": peer.identity.user, "connected": True, "address": peer.stream.address,
            "protocol_version": "0-9-1", "connected_since_ms": self.connected_ms, "channels": len(self.channels),
            "subscriptions": consumers, "in_flight": unacked,
            "write_buffer_bytes": peer.stream.buffered_bytes(),
            "product": str(peer.properties.get("product", ""))[:100],
        }
