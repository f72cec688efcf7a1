"""Sockets as ByteChannels: asyncio transports on one side, a protocol's ConnectionHandler on the other.

    loop.create_server(listener.channel, …)  →  SocketChannel per connection  →  listener.factory.connection(channel)

One read is one receive_data() call, as long as that is within the peer's part of the turn: see slices.py. All
channels of a listener read into one buffer, of which each may use as many bytes as its next slice has, and few when
the turn is full: what waits does so in the kernel. Writes of one loop turn go out together: uvloop's TCP transport
does that by itself, but for the many small ones that a slice may cause, which are joined at its end; for plain asyncio,
and for TLS, where every write would become a record, all are gathered here. asyncio's Protocol and not its streams:
those cost 6 µs per message. Ordered and lossless, as [MQTT-4.2.0-1] wants it.
"""
from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

import msgspec

from protocols.transport.slices import BUSY_READ_BYTES, SLICE_BYTES_MAX, Slices
from protocols.transport.wire import ConnectionFactory, ConnectionHandler
from routing.fairness.turns import Turns

PEER_CLOSE_S = 1.0              # after our end of a connection the peer has so long to send its own
CLOSED_POLL_S = 0.01            # at the end of a node
LINGER_BYTES_MAX = 4 * 1024 * 1024      # thrown away of a closed connection before it is cut off


class SocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one listener's sockets."""

    write_buffer_high_bytes: int = 256 * 1024   # pause_writing() above
    write_buffer_low_bytes: int = 64 * 1024     # resume_writing() below
    gather_bytes_max: int = 64 * 1024           # gathered writes go out before the end of the turn above this
    linger_s: float = 5.0                       # a closed connection whose peer does not read is cut off after this
    connections_max: int | None = None          # None: as many as the limit of open files allows


class WriteBuffers(Protocol):
    """What the settings of a protocol on sockets say of what a peer has not read."""

    @property
    def write_buffer_high_bytes(self) -> int: ...
    @property
    def write_buffer_low_bytes(self) -> int: ...


class SocketListener:
    """What the connections of one listener share. Loop thread only."""

    __slots__ = ("_flush_scheduled", "_gathering", "buffer", "busy_buffer", "channels", "factory", "loop", "refused",
                 "settings", "turns")

    def __init__(self, factory: ConnectionFactory, settings: SocketSettings, loop: asyncio.AbstractEventLoop,
                 turns: Turns | None = None) -> None:
        """turns: shared by everybody who works on this loop; None: of this listener alone."""
        self.factory = factory
        self.settings = settings
        self.loop = loop
        self.turns = turns or Turns(loop.call_soon, time.monotonic)
        self.buffer = memoryview(bytearray(SLICE_BYTES_MAX))    # a read is over before the next one begins
        self.busy_buffer = self.buffer[:BUSY_READ_BYTES]
        self.channels: set[SocketChannel] = set()
        self.refused = 0                        # connections above connections_max
        self._gathering: list[SocketChannel] = []
        self._flush_scheduled = False

    @classmethod
    def of_protocol(cls, factory: ConnectionFactory, settings: WriteBuffers, turns: Turns) -> SocketListener:
        """On the running loop, with the bounds of a protocol's own settings."""
        return cls(factory, SocketSettings(write_buffer_high_bytes=settings.write_buffer_high_bytes,
                                           write_buffer_low_bytes=settings.write_buffer_low_bytes),
                   asyncio.get_running_loop(), turns)

    def channel(self) -> SocketChannel:
        """Protocol factory for loop.create_server()."""
        return SocketChannel(self)

    async def closed(self) -> None:
        """Returns when no connection is left: goodbyes are still on their way. The caller bounds the wait."""
        while self.channels:
            await asyncio.sleep(CLOSED_POLL_S)

    def gather(self, channel: SocketChannel) -> None:
        """Have channel.flush() called at the end of this turn."""
        self._gathering.append(channel)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        channels, self._gathering = self._gathering, []
        for channel in channels:
            channel.flush()


class SocketChannel(Slices, asyncio.BufferedProtocol):
    """One connection: ByteChannel to its handler, asyncio.Protocol to its transport."""

    __slots__ = ("_closed", "_direct", "_ended", "_handler", "_in_slice", "_listener", "_pending",
                 "_pending_bytes", "_thrown_away", "_transport", "address", "secure", "tls_identity")

    def __init__(self, listener: SocketListener) -> None:
        super().__init__(listener.turns)
        self.address = ""
        self.secure = False
        self.tls_identity: str | None = None
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._handler: ConnectionHandler | None = None
        self._direct = False                    # the transport gathers writes by itself
        self._in_slice = False
        self._pending: list[bytes] | None = None
        self._pending_bytes = 0
        self._closed = False                    # by us
        self._thrown_away = 0                   # bytes that came after that
        self._ended = False                     # the socket is gone

    # -- asyncio.BufferedProtocol -----------------------------------------------------------------------------

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, base)       # uvloop's are not subclasses
        listener = self._listener
        limit = listener.settings.connections_max
        if limit is not None and len(listener.channels) >= limit:
            listener.refused += 1
            self._closed = True
            transport.abort()
            return
        self._transport = transport
        certificate = transport.get_extra_info("peercert")
        self.secure = transport.get_extra_info("ssl_object") is not None
        self._direct = type(transport).__module__.startswith("uvloop") and not self.secure
        self.address = _text(transport.get_extra_info("peername"))
        self.tls_identity = _common_name(certificate) if certificate else None
        transport.set_write_buffer_limits(
            listener.settings.write_buffer_high_bytes, listener.settings.write_buffer_low_bytes)
        listener.channels.add(self)
        self._handler = listener.factory.connection(self, listener.turns.clock_s())

    def get_buffer(self, sizehint: int) -> memoryview:
        listener, turns = self._listener, self._turns
        if self._closed:
            return listener.buffer
        return listener.buffer[:self.slice_bytes] if turns.spent_s < turns.turn_s else listener.busy_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._closed:
            self.take(bytes(self._listener.buffer[:nbytes]))
            return
        self._thrown_away += nbytes
        if self._thrown_away > LINGER_BYTES_MAX and self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> bool:
        return False                            # the transport closes, connection_lost() follows

    def connection_lost(self, exc: Exception | None) -> None:
        """What was read before counts: the handler hears of the end behind it."""
        self._ended = True
        self._transport = None
        self._pending = None
        self._listener.channels.discard(self)
        if self._closed or not self.waits:
            self._tell_end()
        else:
            self.write_buffer_full(False)

    def _tell_end(self) -> None:
        self._closed = True
        self.drop_later()
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.eof()

    def pause_writing(self) -> None:
        self.write_buffer_full(True)
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self.write_buffer_full(False)
        if self._handler is not None:
            self._handler.resume_writing()

    @property
    def local_address(self) -> str:
        """Where the peer came to, as "host:port"; "" when unknown."""
        return _text(self._transport.get_extra_info("sockname")) if self._transport is not None else ""

    def describe(self) -> str:
        return self._handler.describe() if self._handler is not None else f"a closed connection of {self.address}"

    # -- Slices -----------------------------------------------------------------------------------------------

    def _deliver(self, data: bytes) -> None:
        handler = self._handler
        if handler is None or self._closed:
            return
        self._in_slice = True
        try:
            handler.receive_data(data, self._start_s)
        finally:
            self._in_slice = False
        if self._direct and self._pending is not None:
            self.flush()

    def _worked_off(self) -> None:
        if self._ended:
            self._tell_end()

    def _stop_stream(self) -> None:
        if self._transport is not None and not self._closed:
            self._transport.pause_reading()

    def _start_stream(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- ByteChannel ------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._closed or transport is None:
            return
        if self._direct and not self._in_slice:
            transport.write(data)
            return
        if self._pending is None:
            self._pending = []
            if not self._direct:
                self._listener.gather(self)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > self._listener.settings.gather_bytes_max:
            self._send_pending(transport)
            self._pending = []                  # still in the listener's list for this turn

    def flush(self) -> None:
        """Send what was gathered. Called by the listener."""
        if self._transport is not None and not self._closed:
            self._send_pending(self._transport)
        self._pending = None

    def _send_pending(self, transport: asyncio.Transport) -> None:
        pending = self._pending
        if pending:
            self._pending = None
            self._pending_bytes = 0
            transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def close(self) -> None:
        transport = self._transport
        if self._closed:
            return
        if transport is None:
            self._end_soon()
            return
        self._send_pending(transport)
        self._closed = True
        self.drop_later()
        self.release()
        self._start()                           # a paused transport does not notice that the peer has gone
        if transport.is_closing():
            return
        if transport.can_write_eof():           # else a reset, for what we have not read, takes our last words from it
            transport.write_eof()
            linger_s = self._listener.settings.linger_s
            self._listener.loop.call_later(
                linger_s if transport.get_write_buffer_size() else min(linger_s, PEER_CLOSE_S), transport.abort)
            return
        if transport.get_write_buffer_size():
            self._listener.loop.call_later(self._listener.settings.linger_s, transport.abort)
        transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._closed = True
            self.drop_later()
            self._transport.abort()
        elif not self._closed:
            self._end_soon()

    def _end_soon(self) -> None:
        """The socket is gone, and the handler wants nothing of what was read before: it hears of the end now."""
        self._closed = True
        self.drop_later()
        if self._ended:
            self._listener.loop.call_soon(self._tell_end)

    def buffered_bytes(self) -> int:
        transport = self._transport
        return self._pending_bytes + (transport.get_write_buffer_size() if transport is not None else 0)


def _text(peername: Any) -> str:
    """An address as "host:port"; IPv6 in brackets; "" for a socket that has none."""
    if not isinstance(peername, tuple) or len(peername) < 2:
        return ""
    host = f"[{peername[0]}]" if ":" in str(peername[0]) else str(peername[0])
    return f"{host}:{peername[1]}"


def _common_name(certificate: Any) -> str | None:
    """Common name of the subject, from what ssl's getpeercert() gives."""
    for names in certificate.get("subject", ()):
        for name, value in names:
            if name == "commonName":
                return str(value)
    return None
