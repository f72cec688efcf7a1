"""One AMQP 1.0 connection: headers, SASL, open, frames, idle time-out, close. AMQP 1.0 §2.2-2.4, §5.3. Sans-IO.

    HEADER ─┬─ SASL header ─► SASL ─ outcome ok ─► HEADER_AGAIN ─ AMQP header ─► HEAD ─ open ─► OPEN ─ close ─► CLOSED
            └─ AMQP header, where nobody has to log in ──────────────────────────►┘       └─ fault ─► CLOSING ──►┘

One read is cut into frames; messages that it brings are published at its end, or before the next performative that is
no transfer, so that what a client did before counts before.
"""
from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any, Protocol

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec.composite import Composite, build, encode_composite, kind_of
from protocols.amqp.codec.conditions import (
    CONNECTION_FORCED,
    DECODE_ERROR,
    FRAMING_ERROR,
    ILLEGAL_STATE,
    INTERNAL_ERROR,
    NOT_ALLOWED,
    RESOURCE_LIMIT,
    AmqpFault,
    ConnectionFault,
    LinkFault,
    SessionFault,
)
from protocols.amqp.codec.decode import decode
from protocols.amqp.codec.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Open,
    SaslChallenge,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    SaslResponse,
)
from protocols.amqp.engine.seams import Container
from protocols.amqp.engine.session import LinkFaultOf, Session
from protocols.wire import ByteChannel
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

log = logging.getLogger(__name__)

LOOK_EVERY = 32             # frames between two questions whether the turn is over
CHANNEL_LIMIT = 65_535
_TRANSFER, _DISPOSITION, _FLOW = b"\x00\x53\x14", b"\x00\x53\x15", b"\x00\x53\x13"


class State(enum.Enum):
    HEADER = "waits for the protocol header"
    SASL = "waits for a login"
    HEADER_AGAIN = "waits for the header after the login"
    HEAD = "waits for open"
    OPENING = "decides about open"
    OPEN = "open"
    CLOSING = "waits for close"
    CLOSED = "closed"


class Bounds(Protocol):
    """Settings of the server that a connection needs."""

    @property
    def connect_timeout_s(self) -> float: ...
    @property
    def pre_auth_bytes_max(self) -> int: ...
    @property
    def open_bytes_max(self) -> int: ...
    @property
    def frame_bytes_max(self) -> int: ...
    @property
    def sessions_max(self) -> int: ...
    @property
    def idle_timeout_s(self) -> float: ...
    @property
    def close_timeout_s(self) -> float: ...
    @property
    def unsettled_max(self) -> int: ...


class Login(Protocol):
    """A SASL exchange, see sasl.py."""

    mechanisms: tuple[str, ...]

    def begin(self, mechanism: str, response: bytes | None, done: Callable[[Any], None]) -> None: ...
    def step(self, response: bytes, done: Callable[[Any], None]) -> None: ...
    def nobody(self, done: Callable[[Any], None]) -> bool:
        """Log in without SASL. False: that is not allowed here."""

    def give_up(self) -> None: ...


class Host(Container, Protocol):
    """The server, as its connections see it."""

    @property
    def bounds(self) -> Bounds: ...
    @property
    def stopping(self) -> bool: ...
    def login(self, connection: Any) -> Login: ...
    def logged_in(self, connection: Any, identity: Identity) -> Refusal | None: ...
    def read_over(self, connection: Any) -> None: ...
    def identity_changed(self, connection: Any) -> None: ...
    def left(self, connection: Any) -> None: ...
    def gone(self, connection: Any) -> None: ...
    def may_log(self) -> bool: ...


class Connection:
    """ConnectionHandler of protocols/wire.py, and ConnectionSide of seams.py."""

    __slots__ = (
        "__weakref__",
        "_answering",
        "_corked",
        "_data",
        "_deadline_s",
        "_identity",
        "_last_in_s",
        "_last_out_s",
        "_login",
        "_out",
        "_paused",
        "_wrote",
        "address",
        "channel",
        "channel_max",
        "clock_s",
        "closed",
        "connected_ms",
        "container_id",
        "frame_max",
        "held",
        "host",
        "open",
        "partial_bytes",
        "parts",
        "peer_idle_s",
        "sessions",
        "state",
    )

    def __init__(self, host: Host, channel: ByteChannel, now_s: float, clock_s: Callable[[], float]) -> None:
        self.host = host
        self.channel = channel
        self.clock_s = clock_s
        self.address = channel.address
        self.state = State.HEADER
        self.closed = False
        self.container_id = ""
        self.open = Open()                              # as the peer sent it
        self.sessions: dict[int, Session] = {}
        self.partial_bytes = 0                          # of messages that have not come whole
        self.frame_max = frames.FRAME_MIN_BYTES         # that the peer takes
        self.channel_max = 0
        self.peer_idle_s = 0.0                          # it goes away after that; 0: never
        self.connected_ms = 0
        self.held = 0                                   # reasons not to read
        self.parts: Any = None                          # what the server keeps for it
        self._identity: Identity | None = None
        self._login = host.login(self)
        self._data = b""                                # the beginning of a frame
        self._out: list[bytes] = []
        self._corked = 0
        self._answering: dict[Session, None] = {}
        self._paused = False
        self._wrote = False
        self._last_in_s = self._last_out_s = now_s
        self._deadline_s: float | None = now_s + host.bounds.connect_timeout_s

    @property
    def container(self) -> Container:
        return self.host

    @property
    def identity(self) -> Identity:
        assert self._identity is not None
        return self._identity

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    @property
    def paused(self) -> bool:
        return self._paused

    # -- bytes in ---------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now_s: float) -> None:
        if self.closed:
            return
        self._last_in_s = now_s
        self.host.count("bytes_in", len(data))
        if self._data:
            data = self._data + data
            self._data = b""
        self.cork()
        try:
            self._read(data)
            if self.state is State.OPEN:
                self.host.read_over(self)
        except ConnectionFault as fault:
            self.fail(fault)
        except Exception:                               # a fault of ours: this connection dies, the node lives
            log.exception("! internal error on the connection of %s", self.describe())
            self.fail(ConnectionFault(INTERNAL_ERROR, "internal error"))
        finally:
            self.uncork()

    def _read(self, data: bytes) -> None:
        position = count = 0
        size_max = self._size_max()
        while not self.closed:
            count += 1
            if self.held or (count % LOOK_EVERY == 0 and self.channel.over()):
                if position < len(data):
                    self.channel.put_back(data[position:])
                return
            if self.state in (State.HEADER, State.HEADER_AGAIN):
                if len(data) - position < frames.HEADER_BYTES:
                    self._data = data[position:]
                    return
                self._header(data[position:position + frames.HEADER_BYTES])
                position += frames.HEADER_BYTES
                size_max = self._size_max()
                continue
            size = frames.next_frame(data, position, size_max)
            if not size:
                self._data = data[position:]
                return
            start, end = position + data[position + 4] * 4, position + size
            kind, channel = data[position + 5], int.from_bytes(data[position + 6:position + 8], "big")
            position = end
            if self.state is State.OPEN and kind == frames.AMQP:
                self._frame(channel, data, start, end)
            else:
                self._early_frame(kind, channel, data, start, end)
                size_max = self._size_max()

    def _size_max(self) -> int:
        bounds = self.host.bounds
        if self.state is State.SASL:
            return bounds.pre_auth_bytes_max
        return bounds.frame_bytes_max if self.state in (State.OPEN, State.CLOSING) else bounds.open_bytes_max

    def _header(self, header: bytes) -> None:
        """We answer with what we speak; what is none of it is answered with that, too, and the end.   Source: §2.2"""
        if header == frames.SASL_HEADER and self.state is State.HEADER:
            self.state = State.SASL
            self._write(frames.SASL_HEADER)
            self._sasl(SaslMechanisms(self._login.mechanisms))
            return
        if header == frames.AMQP_HEADER and (
                self.state is State.HEADER_AGAIN or self._login.nobody(self._nobody_decided)):
            self._write(frames.AMQP_HEADER)
            if self.state is not State.CLOSED:
                self.state = State.HEAD
            return
        self._write(frames.SASL_HEADER if self.state is State.HEADER else frames.AMQP_HEADER)
        self._finish()

    def _frame(self, number: int, data: bytes, start: int, end: int) -> None:
        """A frame on an open connection."""
        if start == end:
            return                                      # empty: it only says that the peer is there        §2.4.5
        try:
            session = self.sessions.get(number)
            head = data[start:start + 3]
            if head == _TRANSFER:
                if session is None:
                    raise ConnectionFault(NOT_ALLOWED, f"no session has begun on channel {number}")
                if not session.ended:
                    session.transfer(data, start + 3, end)
                return
            self.host.before_settlement(self)
            if head == _DISPOSITION and session is not None and not session.ended:
                session.disposition(hot.decode_disposition(data, start + 3, end))
            elif head == _FLOW and session is not None and not session.ended:
                session.flow(hot.decode_flow(data, start + 3, end))
            else:
                self._performative(number, session, _performative(data, start, end))
        except LinkFaultOf as fault:
            self.fail_link(fault.link, fault)
        except SessionFault as fault:
            self._log("session %d: %s", number, fault.text)
            self.host.count(f"session_ended.{fault.condition}")
            self.sessions[number].fail(fault)

    def _performative(self, number: int, session: Session | None, found: Composite) -> None:
        if isinstance(found, Close):
            self._closed_by_peer()
        elif isinstance(found, Open):
            raise ConnectionFault(ILLEGAL_STATE, "open comes once")
        elif isinstance(found, Begin):
            self._begin(number, session, found)
        elif session is None:
            raise ConnectionFault(NOT_ALLOWED, f"no session has begun on channel {number}")
        elif isinstance(found, End):
            del self.sessions[number]
            session.end()
        elif session.ended:
            return                                      # it came before the peer knew
        elif isinstance(found, Attach):
            session.attach(found)
        elif isinstance(found, Detach):
            session.detach(found)
        elif isinstance(found, Flow):
            session.flow(found)
        elif isinstance(found, Disposition):
            session.disposition(found)
        else:
            raise ConnectionFault(NOT_ALLOWED, f"{found.name} does not belong here")

    def _begin(self, number: int, session: Session | None, begin: Begin) -> None:
        if number > self.channel_max:
            raise ConnectionFault(FRAMING_ERROR, f"channel {number} is above channel-max")              # §2.7.1
        if session is not None:
            raise ConnectionFault(ILLEGAL_STATE, f"a session has begun on channel {number} before")
        if begin.remote_channel is not None:
            raise ConnectionFault(NOT_ALLOWED, "a server does not begin sessions, so none is answered")
        self.sessions[number] = Session(self, number, begin, unsettled_max=self.host.bounds.unsettled_max)

    def _early_frame(self, kind: int, number: int, data: bytes, start: int, end: int) -> None:
        """Before and after the connection is open."""
        if self.state is State.SASL:
            if kind != frames.SASL:
                raise ConnectionFault(FRAMING_ERROR, "a frame that does not belong to a login")
            self._sasl_frame(_performative(data, start, end))
            return
        if kind != frames.AMQP:
            raise ConnectionFault(FRAMING_ERROR, f"a frame of type {kind}")
        if start == end:
            return
        found = _performative(data, start, end)
        if self.state is State.CLOSING:
            if isinstance(found, Close):
                self._finish()
            return
        if isinstance(found, Close):
            self._closed_by_peer()
        elif not isinstance(found, Open) or self.state is not State.HEAD:
            raise ConnectionFault(ILLEGAL_STATE, f"{found.name} before open")
        else:
            self.open = found
            self.container_id = found.container_id
            self.frame_max = min(max(found.max_frame_size if found.max_frame_size is not None else 1 << 31,
                                     frames.FRAME_MIN_BYTES), self.host.bounds.frame_bytes_max)
            self.channel_max = min(found.channel_max if found.channel_max is not None else CHANNEL_LIMIT,
                                   self.host.bounds.sessions_max - 1)
            self.peer_idle_s = (found.idle_time_out or 0) / 1000
            self.state = State.OPENING
            self.host.opened(self, found)

    # -- login ------------------------------------------------------------------------------------------------

    def _sasl(self, performative: Composite) -> None:
        self._write(frames.frame(0, encode_composite(performative), frames.SASL))

    def _sasl_frame(self, found: Composite) -> None:
        if isinstance(found, SaslInit):
            self.hold()
            self._login.begin(found.mechanism, found.initial_response, self._decided)
        elif isinstance(found, SaslResponse):
            self.hold()
            self._login.step(found.response, self._decided)
        else:
            raise ConnectionFault(NOT_ALLOWED, f"{found.name} is not for clients to send")

    def _decided(self, answer: Identity | Refusal | bytes) -> None:
        """Of the login: bytes are a challenge."""
        if self.state is not State.SASL:
            return
        self.cork()
        if isinstance(answer, bytes):
            self._sasl(SaslChallenge(answer))
        elif not self._take_login(answer):
            busy = isinstance(answer, Refusal) and answer.reason in (Reason.BUSY, Reason.SHUTTING_DOWN)
            self._sasl(SaslOutcome(4 if busy else 1))                                       # §5.3.3.6: sys-temp, auth
            self._finish()
        else:
            self._sasl(SaslOutcome(0))
            self.state = State.HEADER_AGAIN
        self.uncork()
        self.release()

    def _nobody_decided(self, answer: Identity | Refusal | bytes) -> None:
        if isinstance(answer, bytes) or not self._take_login(answer):
            self._finish()

    def _take_login(self, answer: Identity | Refusal) -> bool:
        if self.host.stopping:
            answer = Refusal(Reason.SHUTTING_DOWN, "the node shuts down")
        refusal = answer if isinstance(answer, Refusal) else self.host.logged_in(self, answer)
        if refusal is not None:
            self._log("login refused: %s", refusal.text)
            self.host.count("logins_refused")
            return False
        assert isinstance(answer, Identity)
        self._identity = answer
        return True

    def take_identity(self, identity: Identity) -> None:
        self._identity = identity

    # -- open and close ---------------------------------------------------------------------------------------

    def accept_open(self, answer: Open, now_ms: int) -> None:
        self.state = State.OPEN
        self._deadline_s = None
        self.connected_ms = now_ms
        self.write_frame(0, encode_composite(answer))

    def refuse_open(self, answer: Open, fault: ConnectionFault) -> None:
        """open with the word that it is no good, then close with the reason.             Source: Qpid, Artemis"""
        self.write_frame(0, encode_composite(answer))
        self.fail(fault)

    def _closed_by_peer(self) -> None:
        self.flush_answers()
        self._let_go()
        self.write_frame(0, encode_composite(Close()))
        self._finish()

    def fail(self, fault: ConnectionFault) -> None:
        """Close the connection, with the reason where the peer can hear it."""
        if self.closed or self.state is State.CLOSING:
            return
        self._log("%s", fault.text)
        self.host.count(f"closed.{fault.condition}")
        if self.state in (State.HEADER, State.SASL, State.HEADER_AGAIN):
            self._finish()
            return
        self.cork()
        if self.state is State.HEAD:                    # close comes after open                               §2.4.3
            self.write_frame(0, encode_composite(Open("-")))
        self.flush_answers()
        self._let_go()
        self.state = State.CLOSING
        self._deadline_s = self.clock_s() + self.host.bounds.close_timeout_s
        self.write_frame(0, encode_composite(Close(Error(fault.condition, fault.text[:1000], fault.info))))
        self.uncork()
        if fault.condition in (FRAMING_ERROR, DECODE_ERROR):
            self._finish()                              # what comes next cannot be read

    def fail_link(self, link: Any, fault: AmqpFault) -> None:
        self._log("link %r: %s", str(link.name)[:100], fault.text)
        self.host.count(f"detached.{fault.condition}")
        link.fail(fault)

    def _finish(self, *, abort: bool = False) -> None:
        """Nothing more is said."""
        if not self.closed:
            self.closed = True
            self._let_go()
            self.state = State.CLOSED
            if abort:
                self.channel.abort()
            else:
                self._send_out()
                self.channel.close()

    def _let_go(self) -> None:
        self._login.give_up()
        sessions, self.sessions = self.sessions, {}
        self._answering.clear()
        for session in sessions.values():
            session.lost()
        self.host.left(self)

    def eof(self) -> None:
        """The stream is gone."""
        if not self.closed:
            self.closed = True
            self._out.clear()
            self._let_go()
            self.state = State.CLOSED
        self.host.gone(self)

    def rights_changed(self, identity: Identity) -> None:
        """Called by routing/logins.py."""
        if identity.revoked:
            self.fail(ConnectionFault(CONNECTION_FORCED, "the login does not count any more"))
        else:
            self.take_identity(identity)
            self.host.identity_changed(self)

    # -- waiting ----------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Look at nothing behind this frame until release() was called as often."""
        self.held += 1
        if self.held == 1:
            self.channel.pause_reading()

    def release(self) -> None:
        self.held -= 1
        if not self.held and not self.closed:
            self.channel.resume_reading()

    def guarded(self, link: Any, work: Callable[[], None]) -> None:
        """Do something for a link outside of a read: what it raises ends what it has to."""
        if self.closed:
            return
        self.cork()
        try:
            work()
        except LinkFault as fault:
            if link.is_attached:
                self.fail_link(link, fault)
            else:
                link.refuse(fault)
        except ConnectionFault as fault:
            self.fail(fault)
        except Exception:
            log.exception("! internal error on the connection of %s", self.describe())
            self.fail(ConnectionFault(INTERNAL_ERROR, "internal error"))
        finally:
            self.uncork()

    # -- bytes out --------------------------------------------------------------------------------------------

    def cork(self) -> None:
        """What is written goes out together, at the last uncork()."""
        self._corked += 1

    def uncork(self) -> None:
        self._corked -= 1
        if not self._corked:
            self._send_out()

    def _send_out(self) -> None:
        out = self._out
        if out:
            self._out = []
            data = out[0] if len(out) == 1 else b"".join(out)
            self._wrote = True
            self.host.count("bytes_out", len(data))
            self.channel.write(data)

    def _write(self, data: bytes) -> None:
        if not self.closed:
            self._out.append(data)
            if not self._corked:
                self._send_out()

    def write_frame(self, channel: int, body: bytes) -> None:
        if not self.closed:
            self._out.append(b"".join((
                (len(body) + 8).to_bytes(4, "big"), b"\x02\x00", channel.to_bytes(2, "big"), body)))
            if not self._corked:
                self._send_out()

    def answers_wait(self, session: Session) -> None:
        self._answering[session] = None

    def flush_answers(self) -> None:
        """Say what has become of deliveries. Called at the end of a batch."""
        if self._answering:
            answering, self._answering = self._answering, {}
            self.cork()
            for session in answering:
                session.flush_answers()
            self.uncork()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.cork()
        for session in list(self.sessions.values()):
            session.has_room()
        self.uncork()

    # -- time -------------------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Called every half second or so: time-outs and signs of life.                           Source: §2.4.5"""
        if self.closed:
            return
        if self._wrote:
            self._wrote = False
            self._last_out_s = now_s
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._log("timed out: %s", self.state.value)
            self._finish(abort=self.state is State.CLOSING)
            return
        if self.state is not State.OPEN:
            return
        idle_s = self.host.bounds.idle_timeout_s
        if idle_s and now_s - self._last_in_s > idle_s and not self.held:
            self.fail(ConnectionFault(RESOURCE_LIMIT, f"nothing was heard for {idle_s:g} s"))
        elif self.peer_idle_s and now_s - self._last_out_s >= max(self.peer_idle_s / 2 - 1, self.peer_idle_s / 4):
            self._last_out_s = now_s
            self._write(frames.EMPTY_FRAME)

    def _log(self, text: str, *values: object) -> None:
        if self.host.may_log():
            log.info("! %s: " + text, self.describe(), *values)

    def describe(self) -> str:
        user = self._identity.user if self._identity is not None else ""
        return f"AMQP 1.0 client {self.container_id[:100]!r} of {user!r} at {self.address}"


def _performative(data: bytes, start: int, end: int) -> Composite:
    """What a frame holds, other than transfers."""
    if start >= end or data[start]:
        raise ConnectionFault(DECODE_ERROR, "a frame does not begin with a performative")
    descriptor, position = decode(data, start + 1, end, 1)
    kind = kind_of(descriptor)
    if kind is None:
        raise ConnectionFault(DECODE_ERROR, f"unknown performative {descriptor!r:.60}")
    return build(kind, hot.fields(data, position, end)[0])
