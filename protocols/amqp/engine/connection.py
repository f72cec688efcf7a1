"""One AMQP 1.0 connection: frames, idle time-out, close. AMQP 1.0 §2.3-2.4. Sans-IO. Its states: states.py.

One read is cut into frames; messages that it brings are published at its end, or before the next performative that is
no transfer, so that what a client did before counts before.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec.composite import Composite
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
from protocols.amqp.codec.performatives import Attach, Begin, Close, Detach, Disposition, End, Error, Flow, Open
from protocols.amqp.engine.host import Host
from protocols.amqp.engine.opening import Opening
from protocols.amqp.engine.outgoing import Outgoing
from protocols.amqp.engine.runs import Run
from protocols.amqp.engine.seams import Container
from protocols.amqp.engine.session import LinkFaultOf, Session
from protocols.amqp.engine.states import State
from protocols.scheduling.longwork import LongWork
from protocols.transport.wire import ByteChannel
from routing.rights.policy import Identity

log = logging.getLogger(__name__)

LOOK_EVERY = 32             # frames between two questions whether the turn is over
CHANNEL_LIMIT = 65_535
_TRANSFER, _DISPOSITION, _FLOW = b"\x00\x53\x14", b"\x00\x53\x15", b"\x00\x53\x13"


class Connection(Outgoing):
    """ConnectionHandler of protocols/transport/wire.py, and ConnectionSide of seams.py."""

    __slots__ = (
        "__weakref__", "_data", "_deadline_s", "_identity", "_last_in_s", "_last_out_s", "_opening", "address",
        "channel_max", "clock_s", "connected_ms", "container_id", "frame_max", "held", "host", "open", "partial_bytes",
        "parts", "peer_idle_s", "run", "sessions", "state", "tags", "waiting_bytes",
        "withholds_credit",
    )

    def __init__(self, host: Host, channel: ByteChannel, now_s: float, clock_s: Callable[[], float]) -> None:
        super().__init__(channel, host, full=host.full_frames)
        self.host = host
        self.clock_s = clock_s
        self.address = channel.address
        self.state = State.HEADER
        self.container_id = ""
        self.open = Open()                              # as the peer sent it
        self.sessions: dict[int, Session] = {}
        self.partial_bytes = 0                          # of messages that have not come whole
        self.tags = 0
        self.waiting_bytes = 0                          # of frames for which sessions have no window
        self.frame_max = frames.FRAME_MIN_BYTES         # that the peer takes
        self.channel_max = 0
        self.peer_idle_s = 0.0                          # it goes away after that; 0: never
        self.connected_ms = 0
        self.held = 0                                   # reasons not to read
        self.withholds_credit = False
        self.run: Run | None = None
        self.parts: Any = None                          # what the server keeps for it
        self._identity: Identity | None = None
        self._data = b""                                # the beginning of a frame
        self._last_in_s = self._last_out_s = now_s
        self._deadline_s: float | None = now_s + host.bounds.connect_timeout_s
        self._opening = Opening(self)

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
                self._opening.header(data[position:position + frames.HEADER_BYTES])
                position += frames.HEADER_BYTES
                size_max = self._size_max()
                continue
            if self.run is not None and (stop := self.run.go(data, position)) != position:
                position = stop
                count |= LOOK_EVERY - 1                 # then it is asked again
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
                self._opening.frame(kind, data, start, end)
                size_max = self._size_max()

    def _size_max(self) -> int:
        bounds = self.host.bounds
        if self.state is State.SASL:
            return bounds.pre_auth_bytes_max
        return bounds.frame_bytes_max if self.state in (State.OPEN, State.CLOSING) else bounds.open_bytes_max

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
                self._performative(number, session, hot.decode_performative(data, start, end))
        except LinkFaultOf as fault:
            self.fail_link(fault.link, fault)
        except SessionFault as fault:
            self.note("session %d: %s", number, fault.text)
            self.host.count(f"session_ended.{fault.condition}")
            self.sessions[number].fail(fault)

    def _performative(self, number: int, session: Session | None, found: Composite) -> None:
        if isinstance(found, Close):
            self.closed_by_peer()
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

    # -- open and close ---------------------------------------------------------------------------------------

    def take_identity(self, identity: Identity) -> None:
        self._identity = identity

    def take_open(self, found: Open) -> None:
        """open of the peer. The host answers by accept_open() or refuse_open()."""
        bounds = self.host.bounds
        self.open = found
        self.container_id = found.container_id
        self.frame_max = min(max(found.max_frame_size if found.max_frame_size is not None else 1 << 31,
                                 frames.FRAME_MIN_BYTES), bounds.frame_bytes_max)
        self.channel_max = min(found.channel_max if found.channel_max is not None else CHANNEL_LIMIT,
                               bounds.sessions_max - 1)
        self.peer_idle_s = (found.idle_time_out or 0) / 1000
        self.host.opened(self, found)

    def accept_open(self, answer: Open, now_ms: int) -> None:
        self.state = State.OPEN
        self._deadline_s = None
        self.connected_ms = now_ms
        self.say(0, answer)

    def refuse_open(self, answer: Open, fault: ConnectionFault) -> None:
        """open with the word that it is no good, then close with the reason.             Source: Qpid, Artemis"""
        self.say(0, answer)
        self.fail(fault)

    def closed_by_peer(self) -> None:
        """close has come."""
        self.flush_answers()
        self._let_go()
        self.say(0, Close())
        self.finish()

    def fail(self, fault: ConnectionFault) -> None:
        """Close the connection, with the reason where the peer can hear it."""
        if self.closed or self.state is State.CLOSING:
            return
        self.note("%s", fault.text)
        self.host.count(f"closed.{fault.condition}")
        if self.state in (State.HEADER, State.SASL, State.HEADER_AGAIN):
            self.finish()
            return
        self.cork()
        if self.state is State.HEAD:                    # close comes after open                               §2.4.3
            self.say(0, Open("-"))
        self.flush_answers()
        self._let_go()
        self.state = State.CLOSING
        self._deadline_s = self.clock_s() + self.host.bounds.close_timeout_s
        self.say(0, Close(Error(fault.condition, fault.text[:1000], fault.info)))
        self.uncork()
        if fault.condition in (FRAMING_ERROR, DECODE_ERROR):
            self.finish()                               # what comes next cannot be read

    def fail_link(self, link: Any, fault: AmqpFault) -> None:
        self.note("link %r: %s", str(link.name)[:100], fault.text)
        self.host.count(f"detached.{fault.condition}")
        link.fail(fault)

    def finish(self, *, abort: bool = False) -> None:
        """Nothing more is said."""
        if not self.closed:
            self.closed = True
            self._let_go()
            self.state = State.CLOSED
            if abort:
                self.channel.abort()
            else:
                self.send_out()
                self.channel.close()

    def _let_go(self) -> None:
        self._opening.give_up()
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

    def withhold_credit(self, withheld: bool) -> None:
        """Senders get no more credit until they are given it again. What they have counts, and all else goes on."""
        self.withholds_credit = withheld
        if not withheld and not self.closed:
            self.cork()
            for session in self.sessions.values():
                session.refill()
            self.uncork()

    def long_work(self, work: Iterator[None]) -> None:
        """ConnectionSide of seams.py. What each slice has settled goes to the core with it."""
        def told() -> Iterator[None]:
            for _ in work:
                self.host.before_settlement(self)
                yield

        LongWork(self.host.turns, self, told(), self._slice).start()

    def _slice(self, work: Callable[[], None]) -> None:
        """Outside of a read."""
        self.cork()
        try:
            work()
            if not self.closed:
                self.host.read_over(self)
        except LinkFaultOf as fault:
            self.fail_link(fault.link, fault)
        except Exception:
            log.exception("! internal error on the connection of %s", self.describe())
            self.fail(ConnectionFault(INTERNAL_ERROR, "internal error"))
        finally:
            self.uncork()

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

    def resume_writing(self) -> None:
        self._paused = False
        self.has_room()

    def has_room(self) -> None:
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
            self.note("timed out: %s", self.state.value)
            self.finish(abort=self.state is State.CLOSING)
            return
        if self.state is not State.OPEN:
            return
        idle_s = self.host.bounds.idle_timeout_s
        if idle_s and now_s - self._last_in_s > idle_s and not self.held:
            self.fail(ConnectionFault(RESOURCE_LIMIT, f"nothing was heard for {idle_s:g} s"))
        elif self.peer_idle_s and now_s - self._last_out_s >= max(self.peer_idle_s / 2 - 1, self.peer_idle_s / 4):
            self._last_out_s = now_s
            self.write(frames.EMPTY_FRAME)

    def note(self, text: str, *values: object) -> None:
        """A line of the log, as far as those have a share left."""
        if self.host.may_log():
            log.info("! %s: " + text, self.describe(), *values)

    def describe(self) -> str:
        user = self._identity.user if self._identity is not None else ""
        return f"AMQP 1.0 client {self.container_id[:100]!r} of {user!r} at {self.address}"
