"""Whole WebSocket messages, text and binary, out of frames: RFC 6455 §5.4–5.6. Sans-IO. For /v1/ws; MQTT has no need.

A message is kept until it has ended, in one buffer that never outgrows message_bytes_max: a head that declares more is
refused before anything of its payload is kept, and a million tiny fragments cost no more than their bytes.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from protocols.websocket.frames import INVALID_TEXT, TEXT, FrameReader, Received, WebSocketViolation


class Messages(Received):
    """A piece of a read: whole messages as text (str) or bytes, in order, and the control frame that ended it."""

    __slots__ = ("messages",)

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str | bytes] = []


class MessageReader(FrameReader):
    """A FrameReader that puts messages together. message_bytes_max may be raised once the peer is known."""

    __slots__ = ("_buffer", "_is_text", "_started")
    accepts_text = True

    def __init__(self, message_bytes_max: int) -> None:
        super().__init__(message_bytes_max)
        self._buffer = bytearray()
        self._is_text = False
        self._started = False           # the head of a data frame was read

    def allow(self, message_bytes_max: int) -> None:
        """Take another bound, from the next frame on."""
        self._message_bytes_max = message_bytes_max

    def receive(self, data: bytes) -> Iterator[Messages]:
        return cast(Iterator[Messages], super().receive(data))

    def _piece(self) -> Messages:
        return Messages()

    def _payload(self, received: Received, data: bytes) -> None:
        self._buffer += data

    def _message_ended(self, received: Received) -> None:
        if self._started:
            cast(Messages, received).messages.append(self._message())

    def _begin_frame(self, opcode: int, final: bool, length: int, mask: bytes) -> None:
        if not self._in_message:
            self._is_text = opcode == TEXT
        super()._begin_frame(opcode, final, length, mask)
        self._started = True

    def _message(self) -> str | bytes:
        data, self._buffer = bytes(self._buffer), bytearray()
        self._started = False
        if not self._is_text:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise WebSocketViolation(INVALID_TEXT, "a text message is not UTF-8") from None     # RFC 6455 §8.1
