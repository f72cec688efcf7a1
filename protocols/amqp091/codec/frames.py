"""Frames of AMQP 0-9-1: cutting a byte stream into them, and putting content into them. Sans-IO.

    ┌──────┬─────────┬──────────┬─────────────────┬──────┐      type 1 method · 2 content header · 3 body · 8 heartbeat
    │ type │ channel │ size     │ payload         │ 0xCE │      frame_max counts all of it
    │ 1    │ 2       │ 4        │ size            │ 1    │
    └──────┴─────────┴──────────┴─────────────────┴──────┘
Source: AMQP 0-9-1 §2.3.5, §4.2.3.
"""
from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from protocols.amqp091.codec.codes import FRAME_ERROR, HardError

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
OVERHEAD_BYTES = 8
FRAME_MIN_BYTES = 4096
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_HEAD = Struct(">BHI")
_CONTENT_HEAD = Struct(">BHIHHQ")        # frame head, class, weight, body size


class Frame(NamedTuple):
    """position, end: of the payload within the data that was cut."""

    type: int
    channel: int
    position: int
    end: int


class Cutter:
    """Collects what is not a whole frame yet. At most one frame is kept."""

    __slots__ = ("_kept", "_needed", "frame_max")

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self._kept = bytearray()
        self._needed = 0

    def join(self, data: bytes) -> bytes | None:
        """What was kept and data, or None while that is less than a frame."""
        if not self._kept:
            return data
        self._kept += data
        if len(self._kept) < self._needed:
            return None
        joined = bytes(self._kept)
        self._kept.clear()
        return joined

    def keep(self, rest: bytes, needed: int) -> None:
        """rest: shorter than needed bytes, the beginning of a frame."""
        self._kept += rest
        self._needed = needed

    def take(self) -> bytes:
        """Give back what is kept."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept

    def next(self, data: bytes, position: int) -> Frame | int:
        """The frame at position, or how many bytes are needed from there. Raises HardError 501."""
        left = len(data) - position
        if left < 7:
            return 7
        type_, channel, size = _HEAD.unpack_from(data, position)
        if size + OVERHEAD_BYTES > self.frame_max:
            raise HardError(FRAME_ERROR, f"a frame of {size + OVERHEAD_BYTES} bytes, at most {self.frame_max} are "
                                         "taken")
        if left < size + OVERHEAD_BYTES:
            return int(size) + OVERHEAD_BYTES
        end = position + 7 + size
        if data[end] != FRAME_END:
            raise HardError(FRAME_ERROR, "a frame does not end with 0xCE")
        return Frame(type_, channel, position + 7, end)


def method_frame(channel: int, payload: bytes) -> bytes:
    return b"%b%b\xce" % (_HEAD.pack(METHOD, channel, len(payload)), payload)


def content_head(channel: int, properties: bytes, body_bytes: int) -> bytes:
    """The content header frame. properties: flags and values as they stand in it."""
    return b"%b%b\xce" % (_CONTENT_HEAD.pack(HEADER, channel, len(properties) + 12, 60, 0, body_bytes), properties)


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Header and body frames. properties: flags and values as they stand in a content header."""
    size = len(body)
    head = content_head(channel, properties, size)
    room = frame_max - OVERHEAD_BYTES
    if size <= room:
        return b"%b%b%b\xce" % (head, _HEAD.pack(BODY, channel, size), body) if size else head
    parts = [head]
    for start in range(0, size, room):
        piece = body[start:start + room]
        parts += (_HEAD.pack(BODY, channel, len(piece)), piece, b"\xce")
    return b"".join(parts)
