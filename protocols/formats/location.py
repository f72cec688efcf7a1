"""Places in the log as text: the id of one event, and the position of a reader over several partitions. Sans-IO.

Event id, answered to a publisher and part of each SSE event: "<stream>:<partition>:<offset>".

Position, the `id:` of an SSE event, which a client hands back as Last-Event-ID: base64url without padding of

    byte 0      1, the version
    1..4        tag of the log's epoch, so that an id from a wiped log is noticed
    5..8        wall clock at the start of the reader, seconds: where a partition that is not named here begins.
                Rounded down to START_STEP_S, so that readers that start at about the same time have the same ids
    then        per stream: length of the name, name, number of partitions, and per partition (0, 1, …) the next
                offset to read, as a LEB128 varint
    last 4      CRC-32 of everything before

Clients must treat both as opaque. Raises BadPosition for anything that encode() did not make.
"""
from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterator

Vector = dict[str, list[int]]       # stream → next offset to read per partition, index = partition

VERSION = 1
OFFSET_MAX = 2**63 - 1              # offsets are signed 64-bit in Kafka's record format
START_STEP_S = 600
POSITION_TEXT_MAX = 8_000           # fits in one header field of 8,190 bytes: some 400 partitions
_FIXED = 9                          # version, epoch, time
_CRC = 4


class BadPosition(ValueError):
    """The text is not a position or an event id. Its text is safe to show."""


def event_id(stream: str, partition: int, offset: int) -> str:
    return f"{stream}:{partition}:{offset}"


def parse_event_id(text: str) -> tuple[str, int, int] | None:
    """Stream, partition, offset; None when the text has not the form of an event id."""
    parts = text.split(":")
    if len(parts) != 3 or not parts[0]:
        return None
    partition, offset = _decimal(parts[1]), _decimal(parts[2])
    if partition is None or offset is None:
        return None
    return parts[0], partition, offset


def epoch_tag(epoch: str) -> bytes:
    return zlib.crc32(epoch.encode()).to_bytes(4, "big")


def encode_position(tag: bytes, time_s: int, vector: Vector) -> str:
    """tag: epoch_tag() of the log. time_s: seconds since 1970."""
    data = bytearray(_fixed(tag, time_s))
    for stream, offsets in vector.items():
        name = stream.encode()
        data.append(len(name))
        data += name
        _put_varint(data, len(offsets))
        for offset in offsets:
            _put_varint(data, offset)
    data += zlib.crc32(data).to_bytes(_CRC, "big")
    return _to_base64url(data)


class PositionWriter:
    """Encodes the positions of one reader: what does not change is prepared once."""

    def __init__(self, tag: bytes, time_s: int, vector: Vector) -> None:
        """time_s: see start_time_s(). vector belongs to the caller, who moves the offsets in it."""
        self._tag = tag
        self._time_s = time_s
        self._vector = vector
        self._single: list[int] | None = None
        self._head = b""
        if len(vector) == 1:
            (stream, offsets), = vector.items()
            if len(offsets) == 1:
                self._single = offsets
                self._head = _fixed(tag, time_s) + bytes((len(stream),)) + stream.encode() + b"\1"
                self._head_crc = zlib.crc32(self._head)

    @property
    def single(self) -> list[int] | None:
        """The offsets of the one stream, when that has one partition: [next offset]. Else None."""
        offsets = self._single
        return offsets if offsets is not None and len(offsets) == 1 and len(self._vector) == 1 else None

    @property
    def head(self) -> bytes:
        """What all positions in the same single partition have in common: readers with one head have the same ids."""
        return self._head

    def text(self) -> str:
        offsets = self.single
        if offsets is None:
            return encode_position(self._tag, self._time_s, self._vector)
        return self.text_at(offsets[0])

    def text_at(self, offset: int) -> str:
        """In a single partition, the position before this offset."""
        tail = bytearray()
        _put_varint(tail, offset)
        crc = zlib.crc32(tail, self._head_crc).to_bytes(_CRC, "big")
        return _to_base64url(self._head + tail + crc)


def start_time_s(now_ms: int) -> int:
    """What the positions of a reader say that starts now."""
    return now_ms // (1000 * START_STEP_S) * START_STEP_S


def decode_position(text: str) -> tuple[bytes, int, Vector]:
    """Epoch tag, time in seconds and vector. Raises BadPosition."""
    data = _from_base64url(text)
    if len(data) < _FIXED + _CRC or zlib.crc32(data[:-_CRC]) != int.from_bytes(data[-_CRC:], "big"):
        raise BadPosition("this is not an id that this node gave out")
    if data[0] != VERSION:
        raise BadPosition(f"ids of version {data[0]} are not known here")
    vector: Vector = {}
    numbers = _Reader(data[_FIXED:-_CRC])
    while numbers.rest():
        name = numbers.take(numbers.byte()).decode("utf-8", "replace")
        count = numbers.varint()
        if not name or name in vector or count > numbers.rest():
            raise BadPosition("this is not an id that this node gave out")
        vector[name] = [numbers.varint() for _ in range(count)]
    return data[1:5], int.from_bytes(data[5:9], "big"), vector


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _fixed(tag: bytes, time_s: int) -> bytes:
    return bytes((VERSION,)) + tag + time_s.to_bytes(4, "big")


def _to_base64url(data: bytes | bytearray) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode("ascii")


def _from_base64url(text: str) -> bytes:
    if not text or len(text) > POSITION_TEXT_MAX or not text.isascii() or "+" in text or "/" in text or "=" in text:
        raise BadPosition("this is not an id that this node gave out")
    raw = text.encode("ascii").translate(_FROM_URL)
    try:
        data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except binascii.Error:
        raise BadPosition("this is not an id that this node gave out") from None
    if _to_base64url(data) != text:                     # the last character has bits that decoding ignores
        raise BadPosition("this is not an id that this node gave out")
    return data


def _put_varint(data: bytearray, value: int) -> None:
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)


class _Reader:
    """Takes numbers from bytes; BadPosition when they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def rest(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.rest():
            raise BadPosition("this is not an id that this node gave out")
        self._at += size
        return self._data[self._at - size:self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift, byte in zip(range(0, 63, 7), self._bytes()):
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BadPosition("this is not an id that this node gave out")

    def _bytes(self) -> Iterator[int]:
        while True:
            yield self.byte()


def _decimal(text: str) -> int | None:
    """A non-negative number of at most 63 bits in plain ASCII digits, else None."""
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    value = int(text)
    return value if value <= OFFSET_MAX else None
