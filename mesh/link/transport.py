"""One link connection on asyncio: bytes of a socket <-> messages of a LinkSession, by the WebSocket protocol.

    data_received ▸ slices ▸ websockets (RFC 6455, sans-IO) ▸ session, a frame at a time ▸ overlay
    … session.send ▸ one write per turn

websockets' Protocol classes do the framing; its asyncio connection class is not used, because it spends 12 µs, a task
switch and a write per message. Here everything that a turn of the loop produced leaves in one write.

Non-obvious: only write_buffer_bytes are given to the transport; what waits beyond it stays in the session's queues,
where a frame of higher priority can still overtake it. The kernel's share is bounded by TCP_NOTSENT_LOWAT.
A read is worked off in slices (protocols/transport/slices.py), and so is a message with many frames or a frame with
many states: what is left of them waits in _work, and nothing more is read meanwhile.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import LENGTH, Gossip, Relay
from mesh.link.protocol.session import LinkSession, Phase
from mesh.link.settings import LinkLimits
from mesh.link.sockets import common_name, set_socket_options
from protocols.transport.slices import Slices
from routing.fairness.turns import Turns

SUBPROTOCOL = Subprotocol("meshgate-link")
CLOSE_TIMEOUT_S = 2.0           # for the peer to close its side
PARTS_MAX = 1_024               # of a message; empty ones do not count against its size
LATE_BYTES_MAX = 1024 * 1024    # read after our last word, so that it is not destroyed by a reset
CONTROL_WRITES_MAX = 1_000      # WebSocket pongs and the like that wait for a peer that does not read
DEFLATE = {"level": 1, "memLevel": 5}       # links carry batches: speed before the last per cent

_wire_logger = logging.getLogger("mesh.link.wire")
_wire_logger.setLevel(logging.WARNING)      # at debug level websockets would log payloads


class Host(Protocol):
    """Who owns the connections: manager.py."""

    def received(self, connection: LinkConnection, frames: list[Gossip | Relay]) -> None: ...

    def changed(self, connection: LinkConnection) -> None:
        """The session's phase may have changed."""

    def closed(self, connection: LinkConnection) -> None:
        """The socket is gone. Called once."""


class LinkConnection(Slices, asyncio.Protocol):
    """One socket, either side."""

    transport: asyncio.Transport

    def __init__(
        self, host: Host, limits: LinkLimits, make_session: Callable[[LinkConnection, float], LinkSession], *,
        uri: WebSocketURI | None = None, compress: bool = True, clock_s: Callable[[], float] = time.monotonic,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        dial: Callable[[LinkSession], None] | None = None, turns: Turns | None = None,
    ) -> None:
        """uri: where the client side dialled; None on the accept side.

        compress: client: ask for permessage-deflate; server: grant it.  dial: client: say Hello on an open session.
        """
        super().__init__(turns or Turns(asyncio.get_running_loop().call_soon, clock_s))
        self._host = host
        self._limits = limits
        self._make_session = make_session
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._dial = dial
        self._client: ClientProtocol | None = None
        self._server: ServerProtocol | None = None
        message_max = LENGTH.size + limits.frame_bytes_max
        if uri is None:
            self._server = ServerProtocol(
                origins=[None],         # a browser always sends one: no web page may speak to a link
                extensions=[ServerPerMessageDeflateFactory(compress_settings=DEFLATE)] if compress else None,
                subprotocols=[SUBPROTOCOL], max_size=limits.pre_auth_bytes, logger=_wire_logger)
        else:
            self._client = ClientProtocol(
                uri, extensions=[ClientPerMessageDeflateFactory(compress_settings=DEFLATE)] if compress else None,
                subprotocols=[SUBPROTOCOL], max_size=message_max, logger=_wire_logger)
        self._ws: ClientProtocol | ServerProtocol = cast(Any, self._client or self._server)
        self._message_max = message_max
        self._pre_auth_bytes = 0
        self._parts: list[bytes | bytearray] = []       # of a fragmented message
        self._work_left: deque[Iterator[Gossip | Relay | None]] = deque()   # messages, as their frames are looked at
        self._eof = False
        self._flush_due = False
        self._receiving = False
        self._writable = True
        self._closing: asyncio.TimerHandle | None = None
        self._late_bytes = 0                    # that came after our last word
        self._made = False
        self.lost = False
        self.reported = False                   # owned by the host: it knows that the session has ended
        self.remote = ""
        self.certificate_name: str | None = None
        self.secure = False
        self.problem: str | None = None         # why there was no session, or how the socket ended

    # -- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)     # uvloop's class does not derive from it
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self.remote = f"[{peer[0]}]:{peer[1]}" if peer and ":" in peer[0] else f"{peer[0]}:{peer[1]}" if peer else ""
        certificate = transport.get_extra_info("peercert")
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.certificate_name = common_name(certificate) if certificate else None
        set_socket_options(transport.get_extra_info("socket"), self._limits)
        high = self._limits.write_buffer_bytes
        self.transport.set_write_buffer_limits(high=high - 1, low=high // 2)
        self.session = self._make_session(self, self._clock_s())
        self._made = True
        if self._client is not None:
            self._client.send_request(self._client.connect())
            self.flush()

    def data_received(self, data: bytes) -> None:
        if self._closing is not None:
            self._late_bytes += len(data)
            if self._late_bytes > LATE_BYTES_MAX:
                self.abort()
                return
        self.session.heard(self._clock_s())
        if self._work_left:
            self._keep(data)
        else:
            self.take(data)

    def eof_received(self) -> bool:
        """True keeps our side open, until what came before was looked at."""
        self._eof = True
        if self.waits:
            return True
        self._ws.receive_eof()
        return False

    def pause_writing(self) -> None:
        self._writable = False
        self.session.step_aside()

    def resume_writing(self) -> None:
        self._writable = True
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also called by the dialler for a connection that nobody took; the second call does nothing."""
        if self.lost:
            return
        self.lost = True
        if not self._made:
            return
        if self._closing is not None:
            self._closing.cancel()
        self.drop_later()
        self._work_left.clear()
        if exc is not None and self.problem is None:
            self.problem = f"connection lost: {exc}"
        self._host.closed(self)

    # -- slices ---------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        return f"link {self.remote}"

    @property
    def waits(self) -> bool:
        return bool(self._work_left) or bool(self._later)

    def _stop_stream(self) -> None:
        if not self.lost and not self.transport.is_closing():
            self.transport.pause_reading()

    def _start_stream(self) -> None:
        if not self.lost and not self.transport.is_closing():
            self.transport.resume_reading()

    def buffered_bytes(self) -> int:
        return 0 if self.lost else self.transport.get_write_buffer_size()

    def _worked_off(self) -> None:
        if self._eof and not self.lost:
            self._ws.receive_eof()
            self._check_end()
            self._close()

    def _deliver(self, data: bytes) -> None:
        if self.lost:
            return
        now_s = self._clock_s()
        self.session.heard(now_s)
        self._receiving = True
        try:
            if not self._go_through():
                if data:
                    self.put_back(data)
                data = b""
            else:
                self._ws.receive_data(data)
                self._take_events()
                self._go_through()
        finally:
            self._receiving = False
        if self.session.phase not in (Phase.UP, Phase.CLOSING):
            self._pre_auth_bytes += len(data)
            if self._pre_auth_bytes > self._limits.pre_auth_bytes:
                self.session.close(Code.BAD_FRAME, f"more than {self._limits.pre_auth_bytes} bytes before Welcome")
        self._check_end()
        self.flush()

    def _go_through(self) -> bool:
        """Look at messages that have come, frame by frame. False: the slice has had its time, something is left."""
        work = self._work_left
        while work:
            before = self.session.phase
            try:
                frame = next(work[0])
            except StopIteration:
                work.popleft()
                continue
            if frame is not None:
                self._host.received(self, [frame])
            if self.session.phase is not before:
                self.phase_changed()
            if self.session.phase is Phase.CLOSING:
                work.clear()
            elif self.over():
                return False
        return True

    # -- in -------------------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, WebSocketFrame):
                if self._ws.state is State.CONNECTING:
                    continue            # came in one packet with an opening that was refused
                message = self._message_of(event)
                if message is not None:
                    self._work_left.append(self.session.steps(message, self._clock_s, self._clock_ms))
            elif isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Response):
                self._opened(event)

    def _message_of(self, frame: WebSocketFrame) -> bytes | bytearray | None:
        """A whole message, once its last fragment is there."""
        if frame.opcode is Opcode.BINARY and frame.fin:
            return cast("bytes | bytearray", frame.data)
        if frame.opcode is Opcode.TEXT:
            self.session.close(Code.BAD_FRAME, "a text message; links speak binary")
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if len(self._parts) > PARTS_MAX:
                self.session.close(Code.BAD_FRAME, f"a message of more than {PARTS_MAX} fragments")
            elif frame.fin:
                parts, self._parts = self._parts, []
                return b"".join(parts)
        return None

    def phase_changed(self) -> None:
        """Called here, and by the host after it admitted a peer."""
        if self.session.phase is Phase.UP:
            self._ws.max_size = self._message_max
        self._host.changed(self)

    def _answer(self, request: Request) -> None:
        """The accept side's half of the opening handshake."""
        assert self._server is not None
        response = self._server.accept(request)
        if response.status_code == 101 and self._server.subprotocol != SUBPROTOCOL:
            response = self._server.reject(400, f"this port takes links between nodes ({SUBPROTOCOL})\n")
        self._server.send_response(response)
        if response.status_code != 101:
            self.problem = f"not a link: {response.status_code}"

    def _opened(self, response: Response) -> None:
        """The dialler's half."""
        assert self._client is not None and self._dial is not None
        if response.status_code == 101 and self._client.handshake_exc is None:
            self._dial(self.session)

    def _check_end(self) -> None:
        """What went wrong below the session ends it."""
        ws = self._ws
        error: Exception | None = ws.handshake_exc or ws.parser_exc
        if error is not None and self.problem is None:
            self.problem = _explain(error)
            self.session.close(Code.BAD_FRAME, self.problem)
        elif ws.close_rcvd is not None and self.session.end is None:
            self.problem = f"closed by the peer: {ws.close_rcvd}"
            self._close()
        if self.session.phase is Phase.CLOSING:
            self._host.changed(self)

    # -- out ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was queued: write it at the end of this turn."""
        if not self._flush_due and not self._receiving:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Write what there is, as far as the transport takes it."""
        if self.lost or self.transport.is_closing():
            return
        writes = self._ws.data_to_send() if self._writable else []
        more = False
        if self._writable and self._ws.state is State.OPEN:
            more = self._add_messages(writes)
        elif not self._writable and len(self._ws.writes) > CONTROL_WRITES_MAX:
            self.problem = "the peer asks and does not read the answers"
            self.abort()
            return
        if writes:
            self._write(writes)
        if more and self._writable:         # the socket took it all, so nobody will call resume_writing()
            self.wake()
        if self.session.phase is Phase.CLOSING and self._closing is None:
            self._end()

    def _add_messages(self, writes: list[bytes]) -> bool:
        """Messages of the session up to the bound of the write buffer. True: there are more, and no rate holds them."""
        session, ws = self.session, self._ws
        now_s = self._clock_s()
        room = self._limits.write_buffer_bytes - self.transport.get_write_buffer_size()
        while room > 0:
            message = session.message(now_s)
            if not message:
                return False
            ws.send_binary(message)
            data = ws.data_to_send()
            room -= sum(map(len, data))
            writes += data
        return session.outbox.frames > 0

    def _write(self, writes: list[bytes]) -> None:
        ended = not writes[-1]              # the sign of websockets for the end of the stream
        if ended:
            writes = [data for data in writes if data]
        if len(writes) == 1:
            self.transport.write(writes[0])
        elif writes:
            self.transport.writelines(writes)
        if ended and self._client is not None and self._ws.state is not State.OPEN and not self._ws.close_sent:
            self._close()                   # what answered the dial is no link: nothing to wait for
        elif ended:
            if self.transport.can_write_eof() and not self.transport.is_closing():
                self.transport.write_eof()
            self._close_soon()

    def _end(self) -> None:
        """The session is over and its last word is written: close the WebSocket, then the socket."""
        if self._ws.state is State.OPEN:
            end = self.session.end
            self._ws.send_close(1000, "" if end is None else end.text.encode()[:100].decode("utf-8", "ignore"))
            writes = self._ws.data_to_send()
            if writes:
                self._write(writes)
        elif self._ws.state is State.CONNECTING:
            self.transport.close()
        self._close_soon()

    def _close(self) -> None:
        """Close the socket once what is written has gone, but do not wait for ever for a peer that does not read."""
        self.transport.close()
        self._close_soon()

    def _close_soon(self) -> None:
        """The peer has a moment to read the last word; closing at once with unread input would destroy it."""
        if self._closing is None:
            self._closing = self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        if not self.lost:
            self.transport.abort()

    @property
    def is_gone(self) -> bool:
        """Its socket is closed, or about to be."""
        return self.lost or self.transport.is_closing()

    @property
    def is_open(self) -> bool:
        return self._ws.state is State.OPEN

    @property
    def is_proven(self) -> bool:
        """Its credentials were good."""
        return self._made and self.session.phase in (Phase.CHECKING_HELLO, Phase.UP)

    @property
    def is_ending(self) -> bool:
        return self._closing is not None or (self._made and self.session.phase is Phase.CLOSING)

    @property
    def compressed(self) -> bool:
        return bool(self._ws.extensions)

    @property
    def backlog_bytes(self) -> int:
        buffered = 0 if self.lost else self.transport.get_write_buffer_size()
        return self.session.outbox.size_bytes + buffered


def _explain(error: Exception) -> str:
    """websockets' errors in one line, without what a stranger could write into a log."""
    if isinstance(error, InvalidStatus):
        return f"not a link listener: HTTP {error.response.status_code}"
    if isinstance(error, InvalidHandshake):
        return f"not a link: {type(error).__name__}"
    return f"{type(error).__name__}: {str(error)[:200]}"
