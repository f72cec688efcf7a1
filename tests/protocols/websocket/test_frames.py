"""Frames of RFC 6455, bytes written out; examples of §5.7 where there are some."""
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameReader,
    encode_close,
    encode_frame,
)

MASK = b"\x37\xfa\x21\x3d"


def masked(opcode, payload, *, final=True, mask=MASK, rsv=0, length=None):
    """A client's frame. length: what the head declares when it is not the truth."""
    size = len(payload) if length is None else length
    head = bytes(((0x80 if final else 0) | rsv | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65_536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


class Read:
    """All pieces of one read."""

    def __init__(self, subject, data):
        pieces = list(subject.receive(data))
        self.payload = b"".join(piece.payload for piece in pieces)
        self.pings = [piece.ping for piece in pieces if piece.ping is not None]
        self.violation = pieces[-1].violation if pieces else None
        self.close_code = pieces[-1].close_code if pieces else None
        assert all(piece.violation is None and piece.close_code is None for piece in pieces[:-1])


def reader(limit=1000):
    return FrameReader(limit)


def test_the_example_of_the_rfc():
    """RFC 6455 §5.7: a single-frame masked message, as binary."""
    received = Read(reader(), b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
    assert received.payload == b"Hello" and received.violation is None


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=12),
       st.binary(min_size=4, max_size=4))
def test_any_cut_gives_the_same_bytes(payloads, cuts, mask):
    stream = b"".join(masked(BINARY, payload, mask=mask) + masked(PING, payload[:9]) for payload in payloads)
    points = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    subject, payload, pings = reader(), b"", []
    for start, end in pairwise(points):
        received = Read(subject, stream[start:end])
        assert received.violation is None
        payload += received.payload
        pings += received.pings
    assert payload == b"".join(payloads)
    assert pings == [payload[:9] for payload in payloads]


def test_payload_is_passed_on_before_its_frame_ends():
    subject = reader(1 << 20)
    frame = masked(BINARY, b"x" * 100_000)
    assert Read(subject, frame[:50_000]).payload == b"x" * (50_000 - 14)
    assert Read(subject, frame[50_000:]).payload == b"x" * (100_000 - 50_000 + 14)


def test_fragments_with_a_ping_between_them():
    stream = (masked(BINARY, b"ab", final=False) + masked(PING, b"p") + masked(CONTINUATION, b"", final=False)
              + masked(CONTINUATION, b"cd") + masked(BINARY, b"ef"))
    received = Read(reader(), stream)
    assert received.payload == b"abcdef" and received.pings == [b"p"] and received.violation is None


def test_a_ping_keeps_its_place():
    """RFC 6455 §5.5.2; Autobahn's 5.x: the pong is expected behind the answer to what came before its ping."""
    stream = (masked(BINARY, b"ab") + masked(PING, b"1") + masked(BINARY, b"cd") + masked(PING, b"2")
              + masked(CLOSE, b""))
    pieces = [(piece.payload, piece.ping, piece.close_code) for piece in reader().receive(stream)]
    assert pieces == [(b"ab", b"1", None), (b"cd", b"2", None), (b"", None, 1005)]


FAULTS = {
    # hostile.md row 71
    "unmasked": (b"\x82\x02hi", 1002),
    "unmasked ping": (b"\x89\x00", 1002),
    "RSV1": (masked(BINARY, b"hi", rsv=0x40), 1002),
    "RSV2": (masked(BINARY, b"hi", rsv=0x20), 1002),
    "RSV3 on a ping": (masked(PING, b"", rsv=0x10), 1002),
    "fragmented ping": (masked(PING, b"", final=False), 1002),
    "fragmented close": (masked(CLOSE, b"", final=False), 1002),
    "ping of 126": (masked(PING, b"x" * 126), 1002),
    "ping of 2^63": (b"\x89\xff" + b"\xff" * 8, 1002),
    "opcode 3": (masked(3, b""), 1002),
    "opcode 15": (masked(15, b""), 1002),
    "continuation of nothing": (masked(CONTINUATION, b"x"), 1002),
    "new message inside a message": (masked(BINARY, b"a", final=False) + masked(BINARY, b"b"), 1002),
    "length not shortest, 2 bytes": (b"\x82\xfe\x00\x7d" + MASK, 1002),
    "length not shortest, 8 bytes": (b"\x82\xff" + (65_535).to_bytes(8, "big") + MASK, 1002),
    "length of 2^63": (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + MASK, 1002),
    "close of 1 byte": (masked(CLOSE, b"\x03"), 1002),
    "close code 1005": (masked(CLOSE, b"\x03\xed"), 1002),
    "close code 999": (masked(CLOSE, b"\x03\xe7"), 1002),
    "close code 5000": (masked(CLOSE, b"\x13\x88"), 1002),
    # row 72
    "close reason not UTF-8": (masked(CLOSE, b"\x03\xe8\xff"), 1007),
    # row 33: MQTT is binary
    "text": (masked(TEXT, b"hi"), 1003),
    "text not UTF-8": (masked(TEXT, b"\xff"), 1003),
    # row 73
    "oversize": (masked(BINARY, b"", length=1001), 1009),
    "oversize 2^63-1": (masked(BINARY, b"", length=(1 << 63) - 1), 1009),
    "oversize in fragments": (masked(BINARY, b"x" * 600, final=False) + masked(CONTINUATION, b"x" * 600), 1009),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_faults_have_their_close_code(name, step):
    stream, code = FAULTS[name]
    good = masked(BINARY, b"before")
    subject, payload = reader(), b""
    violation = None
    for start in range(0, len(good + stream), step):
        received = Read(subject, (good + stream)[start:start + step])
        payload += received.payload
        violation = received.violation
        if violation is not None:
            break
    assert violation is not None and violation.wire_code == code
    assert payload.startswith(b"before"), "what came before the fault counts"


@pytest.mark.parametrize("payload, code", [
    (b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0b\xb8", 3000), (b"\x13\x87", 4999),
    (b"\x03\xe8" + "ü".encode() * 61, 1000),
])
def test_good_closes(payload, code):
    received = Read(reader(), masked(CLOSE, payload) + b"\x00garbage after a close is not looked at")
    assert received.close_code == code and received.violation is None


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_random_bytes_raise_nothing_and_are_not_kept(chunks):
    subject = reader()
    for chunk in chunks:
        received = Read(subject, chunk)
        assert len(subject._partial) <= 131
        if received.violation is not None or received.close_code is not None:
            assert received.violation is None or received.violation.wire_code in (1002, 1003, 1007, 1009)
            return


def test_encoding():
    """RFC 6455 §5.7."""
    assert encode_frame(PONG, b"Hello") == b"\x8a\x05Hello"
    assert encode_frame(BINARY, b"x" * 256) == b"\x82\x7e\x01\x00" + b"x" * 256
    assert encode_frame(BINARY, b"x" * 65_536) == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + b"x" * 65_536
    assert encode_close(1002, "no") == b"\x88\x04\x03\xeano"
    assert len(encode_close(1002, "x" * 500)) == 2 + 125
