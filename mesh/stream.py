"""A TCP or TLS socket as a ByteChannel (interim)."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from protocols.wire import ConnectionFactory, ConnectionHandler


class StreamProtocol(asyncio.Protocol):
    __slots__ = ("_closing", "_factory", "_handler", "_out", "_out_bytes", "_transport", "address")

    def __init__(self, factory: ConnectionFactory) -> None:
        self._factory = factory
        self._handler: ConnectionHandler | None = None
        self._out: list[bytes] = []
        self._closing = False
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        self._handler = self._factory.connection(self, time.monotonic())

    @property
    def tls_identity(self) -> str | None:
        certificate = self._transport.get_extra_info("peercert")
        if not isinstance(certificate, dict):
            return None
        names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
        return str(names[0]) if names else None

    def data_received(self, data: bytes) -> None:
        if self._handler is not None and not self._closing:
            self._handler.receive_data(data, time.monotonic())

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._out.clear()
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.eof()

    def pause_writing(self) -> None:
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._handler is not None:
            self._handler.resume_writing()

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if not self._out:
            return
        out, self._out = self._out, []
        if not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def close(self) -> None:
        self._flush()
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._out.clear()
        self._transport.abort()

    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._out))

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


def make_stream_factory(factory: ConnectionFactory) -> Callable[[], asyncio.BaseProtocol]:
    return lambda: StreamProtocol(factory)
