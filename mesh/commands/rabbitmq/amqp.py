"""A small client of AMQP 0-9-1, for commands that declare something: one method, one answer."""
from __future__ import annotations

import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from mesh.commands.client.errors import CommandError
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.codes import HardError
from protocols.amqp091.codec.methods import (
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    Method,
    decode_method,
    encode_method,
)

TIMEOUT_S = 30.0
FRAME_BYTES_MAX = 131_072
CHANNEL = 1
M = TypeVar("M", bound=Method)


class Refused(Exception):
    """The node has closed the channel for it; another one is open. text: the node's."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class AmqpClient:
    """A context manager. Raises CommandError when the node cannot be reached, or lets nobody in."""

    def __init__(self, host: str, port: int, user: str, password: str, *, tls: bool = False,
                 ca: Path | None = None) -> None:
        self._place = f"{host}:{port}"
        try:
            self._socket: socket.socket = socket.create_connection((host, port), TIMEOUT_S)
            if tls:
                context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:
            raise CommandError(f"no AMQP listener at {self._place}: {error}") from error
        self._cutter = frames.Cutter(FRAME_BYTES_MAX)
        self._data = b""
        self._begin(user, password)

    def _begin(self, user: str, password: str) -> None:
        self._write(frames.PROTOCOL_HEADER)
        self._expect(ConnectionStart)
        self._send(0, ConnectionStartOk(
            {"product": "meshgate import", "capabilities": {"authentication_failure_close": True}}, "PLAIN",
            b"\0" + user.encode() + b"\0" + password.encode(), "en_US"))
        tune = self._expect(ConnectionTune)
        self._send(0, ConnectionTuneOk(tune.channel_max, FRAME_BYTES_MAX, 0))
        self._send(0, ConnectionOpen("/"))
        self._expect(ConnectionOpenOk)
        self._open()

    def _open(self) -> None:
        self._send(CHANNEL, ChannelOpen())
        self._expect(ChannelOpenOk)

    def ask(self, method: Method) -> Method:
        """Its answer. Raises Refused, and CommandError when the connection ends."""
        self._send(CHANNEL, method)
        answer = self._method()
        if isinstance(answer, ChannelClose):
            self._send(CHANNEL, ChannelCloseOk())
            self._open()
            raise Refused(answer.reply_text)
        return answer

    def _expect(self, kind: type[M]) -> M:
        found = self._method()
        if not isinstance(found, kind):
            raise CommandError(f"{self._place} does not answer as AMQP 0-9-1 does: {found.name}")
        return found

    def _method(self) -> Method:
        try:
            while True:
                found = self._cutter.next(self._data, 0)
                if isinstance(found, frames.Frame):
                    data, self._data = self._data, self._data[found.end + 1:]
                    if found.type == frames.METHOD:
                        break
                    continue
                more = self._socket.recv(65_536)
                if not more:
                    raise CommandError(f"{self._place} has closed the connection")
                self._data += more
            method = decode_method(data, found.position, found.end)
        except HardError as error:
            raise CommandError(f"{self._place} does not speak AMQP 0-9-1: {error.text}") from error
        except OSError as error:
            raise CommandError(f"{self._place}: {error}") from error
        if isinstance(method, ConnectionClose):
            raise CommandError(f"{self._place}: {method.reply_text}")
        return method

    def _send(self, channel: int, method: Method) -> None:
        self._write(frames.method_frame(channel, encode_method(method)))

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise CommandError(f"{self._place}: {error}") from error

    def __enter__(self) -> AmqpClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._socket.sendall(frames.method_frame(0, encode_method(ConnectionClose(200, "done"))))
        except OSError:
            pass
        self._socket.close()
