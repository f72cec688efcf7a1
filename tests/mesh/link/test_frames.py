"""The frame codec: what goes in comes out, newer and older nodes understand each other, the rest is BadFrame."""
from __future__ import annotations

import struct

import msgspec
import pytest

from mesh.link.protocol.frames import (
    FRAME_BYTES_MAX,
    BadFrame,
    Frame,
    Goodbye,
    Gossip,
    Hello,
    Ping,
    Pong,
    Refuse,
    Relay,
    Welcome,
    decode_message,
    encode_frame,
)

HELLO = Hello(1, 2, "graz", "plant-graz", "e1", "b1", "0.2", 1_700_000_000_000, "l1", "secret token", (), 3, 4096)
FRAMES: list[Frame] = [
    HELLO, Welcome(1, "lyon", "plant-lyon", "e2", "b2", "0.2", 1, ("x",), 4096), Refuse(3, "no"), Ping(1, 2),
    Pong(1, 3),
    Gossip([b"", b"state"]), Relay("lyon", "graz", 16, 3, b"\x00" * 1000), Goodbye(1, "bye"),
]


def raw(*values: object) -> bytes:
    """A message of one frame, with any fields."""
    data = msgspec.msgpack.encode(list(values))
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert decode_message(encode_frame(frame)) == [frame]


def test_a_message_holds_many_frames_in_order() -> None:
    assert decode_message(b"".join(map(encode_frame, FRAMES))) == FRAMES


def test_the_bytes_are_an_array_with_the_tag_first() -> None:
    assert encode_frame(Ping(5, 7)) == b"\x00\x00\x00\x04" + b"\x93\x04\x05\x07"


def test_a_field_that_a_newer_node_added_is_ignored() -> None:
    assert decode_message(raw(4, 5, 7, {"new": ["field"]}, None)) == [Ping(5, 7)]


def test_a_field_that_an_older_node_does_not_have_gets_its_default() -> None:
    [hello] = decode_message(raw(1, 1, 1, "graz", "s", "e", "b", "0.1", 0, "l1"))
    assert isinstance(hello, Hello)
    assert (hello.token, hello.features, hello.cost, hello.frame_bytes_max) == (None, (), 1, FRAME_BYTES_MAX)


def test_a_token_is_not_in_the_text_of_a_hello() -> None:
    assert "secret" not in repr(HELLO) and "secret" not in str([HELLO])


@pytest.mark.parametrize(("message", "problem"), [
    (b"", "empty"),
    (b"\x00\x00", "length"),
    (b"\x00\x00\x00\x05\x93\x04\x05\x07", "longer than its message"),
    (struct.pack(">I", FRAME_BYTES_MAX + 1) + b"x", "at most"),
    (b"\xff\xff\xff\xff", "at most"),
    (b"\x00\x00\x00\x00", "not a frame"),
    (b"\x00\x00\x00\x01\xc1", "not a frame"),
    (raw(99, 1), "not a frame"),
    (raw("4", 1, 1), "not a frame"),
    (raw(4, -1, 1), "not a frame"),
    (raw(4, 1), "not a frame"),
    (raw(7, "lyon", "graz", 256, 3, b""), "not a frame"),
    (raw(7, "lyon", "graz", 16, 4, b""), "not a frame"),
    (raw(7, "l" * 65, "graz", 16, 3, b""), "not a frame"),
    (raw(7, "", "graz", 16, 3, b""), "not a frame"),
    (raw(6, [1, 2]), "not a frame"),
    (raw(1, 1, 1, "graz", "s", "e", "b", "0.1", 0, "l1", "t" * 20_000), "not a frame"),
    (b"\x00\x00\x00\x06" + b"\x93\x06\x05\xdd\xff\xff", "not a frame"),
    (b"\x00\x00\x00\x06" + b"\x92\x06\xdd\xff\xff\xff", "not a frame"),
], ids=range(19))
def test_anything_else_is_a_bad_frame(message: bytes, problem: str) -> None:
    with pytest.raises(BadFrame, match=problem):
        decode_message(message)


def test_nesting_does_not_end_the_process() -> None:
    data = b"\x94\x04\x05\x07" + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(BadFrame):
        decode_message(struct.pack(">I", len(data)) + data)


def test_many_empty_frames_are_bounded() -> None:
    with pytest.raises(BadFrame):
        decode_message(encode_frame(Ping(1, 1)) * 65_537)
