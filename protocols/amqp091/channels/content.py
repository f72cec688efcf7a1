"""Content of a message on its way in: a content header and bodies behind basic.publish.   Source: AMQP 0-9-1 §4.2.6"""
from __future__ import annotations

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import HardError, SoftError
from protocols.amqp091.codec.methods import short_string

PUBLISH = (60, 40)


class Incoming:
    """A message whose content is on its way. size -1: its content header has not come."""

    __slots__ = ("body", "exchange", "got", "key", "mandatory", "properties", "size")

    def __init__(self, exchange: str, key: str, mandatory: bool) -> None:
        self.exchange = exchange
        self.key = key
        self.mandatory = mandatory
        self.properties = b""
        self.size = -1
        self.body = bytearray()         # not a list of frames: there may be one per byte, or of none
        self.got = 0


class Assembly:
    """One per channel: at most one message is on its way there."""

    __slots__ = ("_incoming", "_peer")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._incoming: Incoming | None = None

    @property
    def waits(self) -> bool:
        """For content: a method must not come now."""
        return self._incoming is not None

    def publish(self, data: bytes, position: int, end: int) -> None:
        """basic.publish, whose payload stands there. Raises HardError 502, 540."""
        exchange, after = short_string(data, position + 6, end)
        key, after = short_string(data, after, end)
        if after + 1 != end:
            raise HardError(codes.SYNTAX_ERROR, "a method is cut off", PUBLISH)
        bits = data[after]
        if bits & 2:
            raise HardError(codes.NOT_IMPLEMENTED, "immediate=true", PUBLISH)
        self._incoming = Incoming(exchange, key, bool(bits & 1))

    def header(self, data: bytes, position: int, end: int) -> tuple[Incoming, bytes] | None:
        """A content header. The message with its body, if that makes it whole.

        Raises HardError 501, 505, 506, SoftError 311: nothing of a body that is too large is kept.
        """
        incoming = self._incoming
        if incoming is None or incoming.size >= 0:
            raise HardError(codes.UNEXPECTED_FRAME, "a content header without a method before it")
        if end - position < 14 or data[position:position + 2] != b"\x00\x3c":
            raise HardError(codes.FRAME_ERROR, "a content header is cut off, or of another class", PUBLISH)
        size = int.from_bytes(data[position + 4:position + 12], "big")
        maximum = self._peer.broker.router.limits.payload_bytes_max
        if size > maximum:
            self._incoming = None
            raise SoftError(codes.CONTENT_TOO_LARGE, f"message size {size} is larger than configured max size "
                                                     f"{maximum}", PUBLISH)
        self._peer.partial_bytes += size
        incoming.size = size
        if self._peer.partial_bytes > self._peer.broker.settings.partial_bytes_max:
            raise HardError(codes.RESOURCE_ERROR, "too many messages that are not complete", PUBLISH)
        incoming.properties = data[position + 12:end]
        return self._whole(incoming, b"") if not size else None

    def piece(self, data: bytes, position: int, end: int) -> tuple[Incoming, bytes] | None:
        """A body frame. The same. Raises HardError 505."""
        incoming = self._incoming
        if incoming is None or incoming.size < 0:
            raise HardError(codes.UNEXPECTED_FRAME, "a body without a content header before it")
        incoming.got += end - position
        if incoming.got > incoming.size:
            raise HardError(codes.UNEXPECTED_FRAME, "a body is longer than its content header said", PUBLISH)
        if incoming.got == incoming.size and not incoming.body:
            return self._whole(incoming, data[position:end])
        incoming.body += data[position:end]
        return self._whole(incoming, bytes(incoming.body)) if incoming.got == incoming.size else None

    def _whole(self, incoming: Incoming, body: bytes) -> tuple[Incoming, bytes]:
        self._incoming = None
        self._peer.partial_bytes -= incoming.size
        return incoming, body

    def close(self) -> None:
        if self._incoming is not None and self._incoming.size >= 0:
            self._peer.partial_bytes -= self._incoming.size
        self._incoming = None
