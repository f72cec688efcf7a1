"""State machine of one AMQP 0-9-1 connection: handshake, frames, heartbeats, errors. Sans-IO.

    HEADER ─ AMQP0091 ─► START ─ start-ok ─► LOGIN ─ authenticated ─► TUNE ─ tune-ok ─► VHOST ─ open ─► OPEN ─┐
       └───────┴──────────────┴──────────────┴── error: connection.close ──► CLOSING ─ close-ok ─► CLOSED ◄───┘

One read is cut into frames; what they bring is given to the router at the end of the read. A method that has to wait
for the disk (declare, commit, get) holds the connection: nothing behind it is looked at until it is answered, so every
method sees what those before it have done. Channels stand in channel.py.
"""
from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from protocols.amqp091 import handshake
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.publishing import Publishing
from protocols.amqp091.codec import codes, frames
from protocols.amqp091.codec.codes import AmqpError, HardError, SoftError
from protocols.amqp091.codec.methods import (
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUnblocked,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
    Method,
    decode_method,
    encode_method,
)
from protocols.wire import ByteChannel
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.server import AmqpServer

log = logging.getLogger(__name__)

LOOK_EVERY = 64             # frames between two questions whether the turn is over
PROTOCOL = "amqp"
OLD_HEADER = b"AMQP"


class State(enum.Enum):
    HEADER = "waits for the protocol header"
    START = "waits for start-ok"
    LOGIN = "waits for the authenticator"
    TUNE = "waits for tune-ok"
    VHOST = "waits for open"
    OPEN = "open"
    CLOSING = "waits for close-ok"
    CLOSED = "closed"


_EXPECTED = {State.START: ConnectionStartOk, State.TUNE: ConnectionTuneOk, State.VHOST: ConnectionOpen}


class AmqpConnection:
    """ConnectionHandler of protocols/wire.py."""

    __slots__ = ("_admitted", "_cutter", "_deadline_s", "_give_up_login", "_holds", "_identity", "_last_in_s",
                 "_last_out_s", "_offer", "_paused", "_start_ok", "_wrote", "address", "capabilities", "channel",
                 "channels", "client_id", "client_properties", "closed", "connected_ms", "frame_max", "heartbeat_s",
                 "login_name", "partial_bytes", "publishing", "server", "state", "tuned_channels", "vhost")

    def __init__(self, server: AmqpServer, channel: ByteChannel, now_s: float) -> None:
        self.server = server
        self.channel = channel
        self.address = channel.address
        self.state = State.HEADER
        self.closed = False                         # nothing may be written, nothing more is read
        self.channels: dict[int, Channel] = {}
        self._identity: Identity | None = None      # once the login is accepted
        self.login_name = ""                        # as the client gave it
        self.client_id = ""
        self.client_properties: dict[str, Any] = {}
        self.capabilities: frozenset[str] = frozenset()
        self.vhost = "/"
        self.frame_max = server.settings.pre_auth_bytes_max
        self.tuned_channels = 0
        self.heartbeat_s = 0
        self.connected_ms = 0
        self.partial_bytes = 0                      # of bodies that have not come whole
        self.publishing: Publishing | None = None   # once the login is accepted
        self._cutter = frames.Cutter(self.frame_max)
        self._offer = ConnectionTune(
            server.settings.channels_max, server.settings.frame_bytes_max, server.settings.heartbeat_s)
        self._start_ok: ConnectionStartOk | None = None
        self._give_up_login: Callable[[], None] | None = None
        self._admitted = False                      # counts among the connections of its user
        self._holds = 0
        self._paused = False                        # the socket's write buffer is over its high-water mark
        self._deadline_s: float | None = now_s + server.settings.connect_timeout_s
        self._last_in_s = self._last_out_s = now_s
        self._wrote = False

    @property
    def identity(self) -> Identity:
        assert self._identity is not None
        return self._identity

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    @property
    def paused(self) -> bool:
        """The socket does not take more: nothing is delivered."""
        return self._paused

    # -- bytes in ---------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now_s: float) -> None:
        if self.closed:
            return
        self._last_in_s = now_s
        self.server.counters.bytes_in += len(data)
        joined = self._cutter.join(data)
        if joined is None:
            return
        try:
            self._read(joined)
            if self.publishing is not None:
                self.publishing.flush()
        except HardError as error:
            self._fail_after_flush(error)
        except Exception:                           # a fault of ours: this connection dies, the node lives
            log.exception("! internal error on the connection of %s", self.describe())
            self.fail(codes.INTERNAL_ERROR, "internal error")

    def _read(self, data: bytes) -> None:
        position = 0
        if self.state is State.HEADER:
            if len(data) < 8:
                if not frames.PROTOCOL_HEADER.startswith(data):
                    self._wrong_header()
                else:
                    self._cutter.keep(data, 8)
                return
            if data[:8] != frames.PROTOCOL_HEADER:
                self._wrong_header()
                return
            position = 8
            self._start()
        count = 0
        cut = self._cutter
        while not self.closed:
            count += 1
            if self._holds or (count % LOOK_EVERY == 0 and self.channel.over()):
                if position < len(data):
                    self.server.counters.bytes_in -= len(data) - position
                    self.channel.put_back(data[position:])
                return
            found = cut.next(data, position)
            if isinstance(found, int):
                if position < len(data):
                    cut.keep(data[position:], found)
                return
            position = found.end + 1
            self._frame(found, data)

    def _wrong_header(self) -> None:
        """We tell what we speak, and close.                                          Source: AMQP 0-9-1 §4.2.2"""
        self.write(frames.PROTOCOL_HEADER)
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
            if number:
                self._open_channel(number, frame, data)
            elif frame.type == frames.METHOD:
                self._method(decode_method(data, frame.position, frame.end))
            else:
                raise HardError(codes.UNEXPECTED_FRAME, "content on channel 0")
            return
        try:
            channel.frame(frame, data)
        except SoftError as error:
            self.fail_channel(channel, error)

    def _early_frame(self, frame: frames.Frame, data: bytes) -> None:
        """Before and after the connection is open only some methods on channel 0 are taken."""
        if self.state is State.CLOSING:
            if frame.type != frames.METHOD or frame.channel:
                return
            method_id = data[frame.position:frame.position + 4]
            if method_id == b"\x00\x0a\x00\x33":                                        # close-ok
                self._finish()
            elif method_id == b"\x00\x0a\x00\x32":                                      # close: both at a time
                self.send(0, ConnectionCloseOk())
            return
        if frame.type == frames.HEARTBEAT and not frame.channel:
            return
        if frame.type != frames.METHOD or frame.channel:
            raise HardError(codes.CHANNEL_ERROR if frame.type == frames.METHOD else codes.UNEXPECTED_FRAME,
                            "the connection is not open")
        self._method(decode_method(data, frame.position, frame.end))

    def _open_channel(self, number: int, frame: frames.Frame, data: bytes) -> None:
        if frame.type == frames.METHOD:
            method = decode_method(data, frame.position, frame.end)
            if isinstance(method, ChannelOpen):
                if number > self.tuned_channels:
                    raise HardError(codes.NOT_ALLOWED, f"number of channels opened ({number}) has reached the "
                                    f"negotiated channel_max ({self.tuned_channels})", ChannelOpen.id)
                self.channels[number] = Channel(self, number)
                self.channels[number].opened()
                return
            if isinstance(method, (ChannelClose, ChannelCloseOk)):      # of one that has gone: harmless
                if isinstance(method, ChannelClose):
                    self.send(number, ChannelCloseOk())
                return
            raise HardError(codes.CHANNEL_ERROR, "expected 'channel.open'", method.id)
        raise HardError(codes.CHANNEL_ERROR, "expected 'channel.open'")

    # -- waiting ----------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Look at nothing behind this method, until release() was called as often."""
        self._holds += 1
        if self._holds == 1:
            self.channel.pause_reading()

    def release(self) -> None:
        self._holds -= 1
        if not self._holds and not self.closed:
            self.channel.resume_reading()

    def after(self, when: Callable[[Callable[[], None]], None], work: Callable[[], None]) -> None:
        """Do work when something is done: when() calls what it is given, maybe at once. Nothing behind this method is
        looked at before.
        """
        self.hold()

        def done() -> None:
            if not self.closed:
                self.guarded(work)
            self.release()

        when(done)

    def guarded(self, work: Callable[[], None]) -> None:
        """Do something for the client outside of a read: what it raises ends what it has to."""
        try:
            work()
        except SoftError as error:
            channel = next((one for one in self.channels.values() if one.number == error.channel), None)
            if channel is None:
                self.fail(error.wire_code, error.text)
            else:
                self.fail_channel(channel, error)
        except HardError as error:
            self._close(error)
        except Exception:
            log.exception("! internal error on the connection of %s", self.describe())
            self.fail(codes.INTERNAL_ERROR, "internal error")

    # -- methods of the connection ----------------------------------------------------------------------------

    def _start(self) -> None:
        self.state = State.START
        server = self.server
        self.send(0, ConnectionStart(
            0, 9, handshake.server_properties(server.version, server.node),
            handshake.mechanisms(self.channel.tls_identity is not None), b"en_US"))

    def _method(self, method: Method) -> None:
        if isinstance(method, ConnectionClose):
            self.send(0, ConnectionCloseOk())
            self._finish()
            return
        if isinstance(method, ConnectionUpdateSecret) and self.state is State.OPEN:
            self._update_secret(method)
            return
        if not isinstance(method, _EXPECTED.get(self.state, ())):
            raise HardError(codes.COMMAND_INVALID, f"'{method.name}' is not expected now", method.id)
        if isinstance(method, ConnectionStartOk):
            self._log_in(method)
        elif isinstance(method, ConnectionTuneOk):
            self._tune(handshake.tuned(self._offer, method))
        elif isinstance(method, ConnectionOpen):
            self._open(method)

    def _log_in(self, start_ok: ConnectionStartOk) -> None:
        self._start_ok = start_ok
        self.client_properties = start_ok.client_properties
        self.capabilities = handshake.capabilities_of(start_ok.client_properties)
        self.client_id = handshake.client_id_of(start_ok.client_properties)
        login = handshake.login_of(start_ok.mechanism, start_ok.response)
        self.login_name = login.user or ""
        certificate = self.channel.tls_identity if login.certificate else None
        if login.certificate and certificate is None:
            raise HardError(codes.ACCESS_REFUSED, "there is no client certificate to log in with", start_ok.id)
        self.state = State.LOGIN
        self.hold()
        self._give_up_login = self.server.authenticator.authenticate(
            login.user, login.password, PROTOCOL, self.client_id, self.address, self._decided,
            certificate_name=certificate)

    def _decided(self, answer: Identity | Refusal) -> None:
        """The authenticator's answer; may come within authenticate()."""
        self._give_up_login = None
        if self.state is not State.LOGIN:
            return
        self.release()
        start_ok, self._start_ok = self._start_ok, None
        assert start_ok is not None
        if self.server.stopping:
            answer = Refusal(Reason.SHUTTING_DOWN, "the node shuts down")
        if isinstance(answer, Refusal):
            self._refuse_login(start_ok.mechanism, answer)
            return
        refusal = self.server.admit(answer)
        if refusal is not None:
            self.fail(codes.NOT_ALLOWED, refusal.text)
            return
        self._identity = answer
        self._admitted = True
        self.login_name = self.login_name or answer.user
        self.publishing = Publishing(self, answer)
        self.server.router.logins.add(self)
        self.state = State.TUNE
        self.send(0, self._offer)

    def _refuse_login(self, mechanism: str, refusal: Refusal) -> None:
        """A client that can hear it is told; others see the stream end, as with RabbitMQ."""
        log.info("! login of %r from %s refused: %s", self.login_name[:80], self.address, refusal.text)
        self.server.counters.connection_errors[codes.ACCESS_REFUSED] += 1
        if "authentication_failure_close" in self.capabilities:
            text = f"Login was refused using authentication mechanism {mechanism}. " + (
                refusal.text if refusal.reason in (Reason.BUSY, Reason.LOCKED_OUT, Reason.SHUTTING_DOWN) else
                "For details see the broker logfile.")
            self.send(0, ConnectionClose(codes.ACCESS_REFUSED, codes.short_text(f"ACCESS_REFUSED - {text}")))
            self._begin_closing()
        else:
            self._finish()

    def _tune(self, tuned: handshake.Tuned) -> None:
        self.tuned_channels = tuned.channel_max
        self.frame_max = self._cutter.frame_max = tuned.frame_max
        self.heartbeat_s = tuned.heartbeat_s
        self.state = State.VHOST

    def _open(self, method: ConnectionOpen) -> None:
        name = method.virtual_host
        if name not in self.server.settings.vhosts:
            raise HardError(codes.NOT_ALLOWED, f"vhost {name[:100]} not found", method.id)
        self.vhost = name or "/"
        self.state = State.OPEN
        self._deadline_s = None
        self.connected_ms = self.server.router.clock_ms()
        self.send(0, ConnectionOpenOk())
        if self.server.blocked:
            self.tell_blocked(True)

    def _update_secret(self, method: ConnectionUpdateSecret) -> None:
        """A new token for the same user."""
        identity = self.identity
        self.hold()

        def answered(answer: Identity | Refusal) -> None:
            self.release()
            if self.closed or self.state is not State.OPEN:
                return
            if isinstance(answer, Refusal) or answer.user != identity.user:
                self.fail(codes.NOT_ALLOWED, "the new secret was refused")
                return
            self.take_identity(answer)
            self.send(0, ConnectionUpdateSecretOk())

        self.server.authenticator.authenticate(
            self.login_name or None, method.new_secret, PROTOCOL, self.client_id, self.address, answered)

    # -- identity ---------------------------------------------------------------------------------------------

    def take_identity(self, identity: Identity) -> None:
        self._identity = identity
        if self.publishing is not None:
            self.publishing.take_identity(identity)
        for channel in self.channels.values():
            channel.take_identity(identity)

    def rights_changed(self, identity: Identity) -> None:
        """Called by routing/logins.py."""
        if identity.revoked:
            self.fail(codes.CONNECTION_FORCED, "the login does not count any more")
            return
        self.take_identity(identity)

    def tell_blocked(self, blocked: bool) -> None:
        """The disk is full, or has room again."""
        if self.state is State.OPEN and "connection.blocked" in self.capabilities:
            self.send(0, ConnectionBlocked("low on disk") if blocked else ConnectionUnblocked())

    # -- bytes out --------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._wrote = True
        self.server.counters.bytes_out += len(data)
        self.channel.write(data)

    def send(self, channel: int, method: Method) -> None:
        if not self.closed:
            self.write(frames.method_frame(channel, encode_method(method)))

    def pause_writing(self) -> None:
        self._paused = True
        for channel in self.channels.values():
            channel.refresh_credit()

    def resume_writing(self) -> None:
        self._paused = False
        for channel in self.channels.values():
            channel.refresh_credit()

    # -- time -------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Called every half second or so: heartbeats and timeouts."""
        if self.closed:
            return
        if self._wrote:
            self._wrote = False
            self._last_out_s = now_s
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._log("timed out: %s", self.state.value)
            self._finish(abort=self.state is State.CLOSING)
            return
        identity = self._identity
        if identity is not None and identity.expires_ms is not None and self.state is State.OPEN \
                and identity.expires_ms <= self.server.router.clock_ms():
            self.fail(codes.CONNECTION_FORCED, "the token has expired")
            return
        if self.heartbeat_s and self.state is State.OPEN:
            if now_s - self._last_in_s > 2 * self.heartbeat_s + 1 and not self._holds:
                self._log("missed heartbeats, timeout: %d s", self.heartbeat_s)
                self._finish(abort=True)
                return
            if now_s - self._last_out_s >= max(self.heartbeat_s / 2 - 1, 0.4 * self.heartbeat_s):
                self.write(frames.HEARTBEAT_FRAME)

    # -- the end ----------------------------------------------------------------------------------------------

    def fail_channel(self, channel: Channel, error: AmqpError) -> None:
        """A soft error: the channel ends, the connection goes on."""
        if self.publishing is not None:
            self.publishing.flush()
        if self.closed or channel.closing:
            return
        self.server.counters.channel_errors[error.wire_code] += 1
        self._log("channel %d: %s", channel.number, error.text)
        self.send(channel.number, ChannelClose(error.wire_code, error.text, *error.method))
        channel.begin_closing()

    def _fail_after_flush(self, error: HardError) -> None:
        """What came before the fault is still taken."""
        if self.publishing is not None:
            try:
                self.publishing.flush()
            except AmqpError:
                pass
        self._close(error)

    def fail(self, code: int, text: str) -> None:
        """Close the connection with a reply code."""
        self._close(HardError(code, text))

    def _close(self, error: AmqpError) -> None:
        if self.closed or self.state is State.CLOSING:
            return
        self.server.counters.connection_errors[error.wire_code] += 1
        self._log("%s", error.text)
        if self.state is State.HEADER:
            self._finish()
            return
        self.send(0, ConnectionClose(error.wire_code, error.text, *error.method))
        self._begin_closing()

    def _begin_closing(self) -> None:
        """connection.close is out. What the client had goes back at once; it has some seconds to answer."""
        self.state = State.CLOSING
        self._deadline_s = self._last_in_s + self.server.settings.close_timeout_s
        self._deadline_s = max(self._deadline_s, self.server.router.clock_s() + self.server.settings.close_timeout_s)
        self._let_go()

    def _finish(self, *, abort: bool = False) -> None:
        """Nothing more is said."""
        if not self.closed:
            self.closed = True
            self._let_go()
            self.state = State.CLOSED
            if abort:
                self.channel.abort()
            else:
                self.channel.close()

    def _let_go(self) -> None:
        if self._give_up_login is not None:
            self._give_up_login()
            self._give_up_login = None
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.close()
        if self.publishing is not None:
            self.publishing.close()
        self.server.router.logins.discard(self)
        if self._admitted:
            self._admitted = False
            self.server.left_login(self)

    def eof(self) -> None:
        """The stream is gone."""
        if not self.closed:
            self.closed = True
            try:
                if self.publishing is not None:
                    self.publishing.flush()
            except AmqpError:
                pass
            self._let_go()
            self.state = State.CLOSED
        self.server.left(self)

    def _log(self, text: str, *values: object) -> None:
        if self.server.log_limit.allows(self.server.router.clock_s()):
            log.info("! %s: " + text, self.describe(), *values)

    def describe(self) -> str:
        name = f" {self.client_id!r}" if self.client_id else ""
        return f"AMQP 0-9-1 client{name} of {self.login_name!r} at {self.address}"

    @property
    def shown_id(self) -> str:
        """For operators: what the client calls its connection, or where it is from."""
        return self.client_id or f"amqp-{self.address}"

    def snapshot(self) -> dict[str, Any]:
        """For the management API."""
        return {
            "client_id": self.shown_id, "user": self.identity.user,
            "connected": True, "address": self.address, "protocol_version": "0-9-1",
            "connected_since_ms": self.connected_ms, "channels": len(self.channels),
            "subscriptions": sum(len(channel.readers) for channel in self.channels.values()),
            "in_flight": sum(len(channel.unacked) for channel in self.channels.values()),
            "write_buffer_bytes": self.channel.buffered_bytes(),
            "product": str(self.client_properties.get("product", ""))[:100],
        }
