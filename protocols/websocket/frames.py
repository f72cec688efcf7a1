"""WebSocket frames <-> bytes, the server's side: RFC 6455 §5. Sans-IO. No extensions are ever negotiated.

     0               1               2               3
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |F|R|R|R| opcode|M| length      | extended length, 2 or 8 bytes |
    +-+-+-+-+-------+-+-------------+-------------------------------+
    | masking key, 4 bytes (always there from a client) | payload … |
    +---------------------------------------------------+-----------+

The payload of binary messages is passed on as it comes, before its frame is complete: MQTT is a byte stream, and no
declared length makes us keep anything. Whole messages, and text, are in messages.py. A peer's fault raises
WebSocketViolation after what came before it was returned.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator

from protocols.errors import ProtocolViolation

try:
    from websockets.speedups import apply_mask
except ImportError:             # a platform without its C extension
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL = 1000                   # close codes, RFC 6455 §7.4.1
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
INVALID_TEXT = 1007
TOO_BIG = 1009
INTERNAL_ERROR = 1011

FRAMES_OF_PIECE = 64            # some hundred µs of the smallest messages
CONTROL_BYTES_MAX = 125         # RFC 6455 §5.5
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class WebSocketViolation(ProtocolViolation):
    """wire_code is the close code that the peer gets."""


class Received:
    """A piece of a read: what came up to the first control frame that wants an answer, that frame included, or so many
    frames that it is time to look at the clock."""

    __slots__ = ("close_code", "parts", "ping", "unread_bytes", "violation")

    def __init__(self) -> None:
        self.parts: list[bytes] = []                    # payload of binary messages, in order
        self.ping: bytes | None = None                  # to be answered with a pong of the same content
        self.close_code: int | None = None              # the peer closes; 1005 when it gave no code
        self.violation: WebSocketViolation | None = None    # comes after everything else here
        self.unread_bytes = 0                           # at the end of the read, not looked at yet

    @property
    def payload(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class FrameReader:
    """Decodes what a client sends. Keeps at most a frame head or a control frame between reads."""

    __slots__ = ("_in_message", "_left", "_mask", "_mask_at", "_message_bytes", "_message_bytes_max", "_partial")
    accepts_text = False

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._partial = b""             # a head, or a control frame, that has not ended
        self._left = 0                  # payload bytes of the current data frame still to come
        self._mask = b""
        self._mask_at = 0               # position in the mask, 0..3
        self._in_message = False        # a fragmented message is open
        self._message_bytes = 0         # declared so far in the current message

    def receive(self, data: bytes) -> Iterator[Received]:
        """The pieces of what one read gave, each decoded when it is asked for. Nothing comes after a violation or a
        close, and receive() is not to be called again then.

        A ping ends a piece, so that its pong keeps its place among the answers to what came before. Whoever stops
        before the end keeps the last unread_bytes of data and gives them to the next receive().
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        position = 0
        end = len(data)
        going = True
        while going and position < end:
            received = self._piece()
            frames = FRAMES_OF_PIECE
            try:
                while position < end and frames:
                    if self._left:
                        size = min(self._left, end - position)
                        self._payload(received, self._unmask(data[position:position + size]))
                        position += size
                    else:
                        used = self._head(data, position, received)
                        if not used:
                            self._partial = data[position:]
                            going = False
                            break
                        position += used
                        if received.ping is not None or received.close_code is not None:
                            going = received.close_code is None
                            break
                    if not self._left:
                        frames -= 1
                        if not self._in_message:
                            self._message_ended(received)
            except WebSocketViolation as violation:
                received.violation = violation
                going = False
            received.unread_bytes = end - position if going else 0
            yield received

    def _piece(self) -> Received:
        return Received()

    def _payload(self, received: Received, data: bytes) -> None:
        """Some payload of a data frame."""
        received.parts.append(data)

    def _message_ended(self, received: Received) -> None:
        """A data frame or a control frame has ended, and no message is open."""

    def _unmask(self, data: bytes) -> bytes:
        at = self._mask_at
        self._left -= len(data)
        self._mask_at = (at + len(data)) & 3
        return apply_mask(data, self._mask if not at else self._mask[at:] + self._mask[:at])

    def _head(self, data: bytes, at: int, received: Received) -> int:
        """Take a frame head, and a control frame whole. Returns the bytes used, 0 when more are needed."""
        available = len(data) - at
        if available < 2:
            return 0
        first, second = data[at], data[at + 1]
        self._check_head(first, second)
        length = second & 0x7F
        size = 2
        if length >= 126:
            size = 4 if length == 126 else 10
            if available < size:
                return 0
            length = _extended_length(length, data[at + 2:at + size])
        opcode = first & 0x0F
        control = opcode >= CLOSE
        if not control:
            self._check_message(opcode, length)
        if available < size + 4 + (length if control else 0):
            return 0
        mask = data[at + size:at + size + 4]
        size += 4
        if control:
            payload = apply_mask(data[at + size:at + size + length], mask) if length else b""
            _take_control(opcode, payload, received)
            return size + length
        self._begin_frame(opcode, bool(first & 0x80), length, mask)
        return size

    def _check_head(self, first: int, second: int) -> None:
        if first & 0x70:                                            # RFC 6455 §5.2: no extension was negotiated
            raise WebSocketViolation(PROTOCOL_ERROR, "reserved bits are set")
        if not second & 0x80:                                       # RFC 6455 §5.1
            raise WebSocketViolation(PROTOCOL_ERROR, "a client must mask its frames")
        opcode = first & 0x0F
        if opcode in (CLOSE, PING, PONG):
            if not first & 0x80:                                    # RFC 6455 §5.5
                raise WebSocketViolation(PROTOCOL_ERROR, "control frames must not be fragmented")
            if second & 0x7F > CONTROL_BYTES_MAX:
                raise WebSocketViolation(PROTOCOL_ERROR, "a control frame has at most 125 bytes")
        elif opcode == TEXT and not self.accepts_text:              # [MQTT-6.0.0-1]
            raise WebSocketViolation(UNSUPPORTED, "MQTT wants binary frames")
        elif opcode not in (CONTINUATION, TEXT, BINARY):
            raise WebSocketViolation(PROTOCOL_ERROR, "unknown opcode")
        elif (opcode == CONTINUATION) is not self._in_message:      # RFC 6455 §5.4
            raise WebSocketViolation(PROTOCOL_ERROR, "fragments out of order")

    def _check_message(self, opcode: int, length: int) -> None:
        total = self._message_bytes + length if opcode == CONTINUATION else length
        if total > self._message_bytes_max:
            raise WebSocketViolation(TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")

    def _begin_frame(self, opcode: int, final: bool, length: int, mask: bytes) -> None:
        self._message_bytes = self._message_bytes + length if self._in_message else length
        self._in_message = not final
        self._left = length
        self._mask = mask
        self._mask_at = 0


def _extended_length(kind: int, data: bytes) -> int:
    """The 2 or 8 bytes behind the head.                                                  Source: RFC 6455 §5.2"""
    length = int.from_bytes(data, "big")
    if length < (126 if kind == 126 else 65_536) or length >= 2**63:
        raise WebSocketViolation(PROTOCOL_ERROR, "the length is not in its shortest form")
    return length


def _take_control(opcode: int, payload: bytes, received: Received) -> None:
    if opcode == PING:
        received.ping = payload
    elif opcode == CLOSE:
        received.close_code = _close_code(payload)


def _close_code(payload: bytes) -> int:
    """Source: RFC 6455 §5.5.1, §7.4"""
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or (code not in _REGISTERED and not 3000 <= code <= 4999):
        raise WebSocketViolation(PROTOCOL_ERROR, "bad close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketViolation(INVALID_TEXT, "the close reason is not UTF-8") from None
    return code


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame, not masked: a server's are not (RFC 6455 §5.1)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    return encode_frame(CLOSE, struct.pack("!H", code) + reason.encode()[:CONTROL_BYTES_MAX - 2])
