"""One WebSocket on an upgraded aiohttp connection: bytes in and out, pings, closing. What is in the messages is the
business of its two kinds, ByteStreamChannel (bytestream.py) and JsonChannel (json/channel.py).

    aiohttp connection ── feed_data ──► WebSocketChannel ── slices ──► frames.py or messages.py ──► _act(piece)
                       ◄── transport.write, once per loop turn ──┘

aiohttp does the HTTP part; after the handshake its connection object hands every read to the channel, with no task or
queue per message. Reads are worked off in slices (transport/slices.py), and control frames in their place: a pong goes
out behind the answers to what came before its ping, and none behind our Close.
"""
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from protocols.transport.slices import Slices
from protocols.websocket.frames import NORMAL, PONG, Received, WebSocketViolation, encode_close, encode_frame
from protocols.websocket.settings import WebSocketSettings
from routing.fairness.turns import Turns

PONG_BACKLOG_BYTES_MAX = 64 * 1024   # answers to pings that wait in the socket; more is a flood and is not answered


class UpgradedConnection(Protocol):
    """What we need of aiohttp's connection after the handshake (GuardedHandler in protocols/rest/http/guard.py)."""

    on_writing: Callable[[bool], None] | None

    def set_parser(self, parser: WebSocketChannel) -> None: ...


class WebSocketCounters:
    """Plain ints, read through snapshot()."""

    __slots__ = ("bytes_in", "bytes_out", "closed_for", "connections", "connections_opened", "refused")

    def __init__(self) -> None:
        self.connections = 0
        self.connections_opened = 0
        self.bytes_in = 0                               # payload, without frame heads
        self.bytes_out = 0
        self.refused: Counter[int] = Counter()          # handshakes by HTTP status
        self.closed_for: Counter[int] = Counter()       # violations of RFC 6455 by close code

    def snapshot(self) -> dict[str, int]:
        numbers = {
            "connections": self.connections, "connections_opened": self.connections_opened,
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
        }
        numbers.update({f"refused.{status}": count for status, count in self.refused.items()})
        numbers.update({f"violations.{code}": count for code, count in self.closed_for.items()})
        return numbers


class WebSocketChannel(Slices):
    """The parser that aiohttp's connection feeds. Subclasses say what comes in, and hear of the end."""

    def __init__(self, transport: asyncio.Transport, address: str, settings: WebSocketSettings,
                 counters: WebSocketCounters, clock_s: Callable[[], float], turns: Turns) -> None:
        super().__init__(turns)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._address = address
        self._settings = settings
        self._counters = counters
        self._clock_s = clock_s
        self._outgoing: list[bytes] = []                # frames of this loop turn
        self._outgoing_bytes = 0
        self._closing = False
        self._postponed: Received | None = None         # a piece that the handler has not taken whole
        self._gone = False                              # the socket is
        self._deaf = False                              # after a violation nothing is parsed any more
        self._close_timer: asyncio.TimerHandle | None = None

    # -- for the kinds ----------------------------------------------------------------------------------------

    def _pieces(self, data: bytes) -> Iterator[Received]:
        """Decode one slice."""
        raise NotImplementedError

    def _act(self, received: Received) -> None:
        """Act on the messages of a piece. Control frames and violations are dealt with here."""
        raise NotImplementedError

    def _tell_handler(self) -> None:
        """The stream is over: say so, once. Called after close_with() too, in a turn of its own."""
        raise NotImplementedError

    def _tell_writing(self, blocked: bool) -> None:
        """The socket is full (True) or has drained (False)."""
        raise NotImplementedError

    def _flushed(self) -> None:
        """What was gathered in this turn has gone to the socket."""

    # -- the stream -------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._address

    @property
    def tls_identity(self) -> str | None:
        return _common_name(self._transport.get_extra_info("peercert"))

    @property
    def secure(self) -> bool:
        return self._transport.get_extra_info("ssl_object") is not None

    def close(self) -> None:
        self.close_with(NORMAL)

    def abort(self) -> None:
        self._closing = True
        self._outgoing.clear()
        self._transport.abort()

    def buffered_bytes(self) -> int:
        return self._outgoing_bytes + self._transport.get_write_buffer_size()

    # -- aiohttp's connection ---------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """One read. The answer (False, b"") tells aiohttp that we go on."""
        if not self._deaf:
            self.take(data)
        return False, b""

    def feed_eof(self) -> None:
        """The socket is gone. What was read before counts, unless we have closed."""
        self._gone = True
        if self._closing or not self.waits:
            self._end()
        else:
            self.write_buffer_full(False)

    def on_writing(self, blocked: bool) -> None:
        self.write_buffer_full(blocked)
        self._tell_writing(blocked)

    # -- slices -----------------------------------------------------------------------------------------------

    def put_back(self, data: bytes) -> None:
        """Payload that the handler takes later; the control frame behind it waits, too."""
        if self._postponed is None:
            self._postponed = Received()
        self._postponed.parts.insert(0, data)
        self._wait()

    @property
    def waits(self) -> bool:
        return self._postponed is not None or super().waits

    def drop_later(self) -> None:
        super().drop_later()
        self._postponed = None

    def _deliver(self, data: bytes) -> None:
        postponed, self._postponed = self._postponed, None
        if postponed is not None:
            self._take_piece(postponed)
            if self._postponed is not None:
                if data:
                    super().put_back(data)
                return
        for received in self._pieces(data):
            if self._deaf:
                return
            self._take_piece(received)
            if received.unread_bytes and (self._postponed is not None or self.over()):
                super().put_back(data[-received.unread_bytes:])
                return

    def _take_piece(self, received: Received) -> None:
        self._act(received)
        postponed = self._postponed
        if postponed is not None:                       # not all of its payload was taken
            postponed.ping, postponed.close_code = received.ping, received.close_code
            postponed.violation = received.violation
            return
        if received.ping is not None and not self._closing and self.buffered_bytes() <= PONG_BACKLOG_BYTES_MAX:
            self._send(encode_frame(PONG, received.ping))
        if received.close_code is not None:
            self._peer_closes(received.close_code)
        elif received.violation is not None:
            self._fail(received.violation)

    def _worked_off(self) -> None:
        if self._gone:
            self._end()

    def _stop_stream(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _start_stream(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- closing ----------------------------------------------------------------------------------------------

    def close_with(self, code: int, reason: str = "") -> None:
        """Send what waits, then Close; the peer has close_timeout_s to answer. Idempotent."""
        if self._closing:
            return
        self._send(encode_close(code, reason))
        self._closing = True
        self.release()                                  # the peer's Close must get through
        loop = asyncio.get_running_loop()
        self._close_timer = loop.call_later(self._settings.close_timeout_s, self._transport.abort)
        loop.call_soon(self._tell_handler)

    def _peer_closes(self, code: int) -> None:
        if not self._closing:
            self._send(encode_close(code if code != 1005 else NORMAL))
            self._closing = True
        self._flush()
        self._transport.close()

    def _fail(self, violation: WebSocketViolation) -> None:
        """RFC 6455 §7.1.7: tell why, then close. What still comes is read and dropped for a moment: closing with
        unread input would destroy our Close on its way."""
        self._counters.closed_for[violation.wire_code] += 1
        self._deaf = True
        self.drop_later()
        self.close_with(violation.wire_code, violation.text)
        self._flush()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _end(self) -> None:
        self._closing = True
        self._outgoing.clear()
        self.drop_later()
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._tell_handler()
        if not self.ended.done():
            self.ended.set_result(None)

    # -- bytes out --------------------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frame)
        self._outgoing_bytes += len(frame)

    def _send_all(self, frames: list[bytes]) -> None:
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing += frames
        self._outgoing_bytes += sum(map(len, frames))

    def _flush(self) -> None:
        """One write for everything of this turn."""
        if not self._outgoing:
            return
        frames, self._outgoing = self._outgoing, []
        self._outgoing_bytes = 0
        if not self._transport.is_closing():
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        self._flushed()


def _common_name(certificate: object) -> str | None:
    """The CN of a certificate as ssl.getpeercert() gives it; None without one."""
    if not isinstance(certificate, dict):
        return None
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return str(names[0]) if names else None
