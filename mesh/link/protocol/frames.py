"""Link frames <-> bytes. Sans-IO. Used by session.py, by mesh/topology and by the simulation.

One WebSocket message (binary) holds one or more frames, so that many small ones cost one write:

    message = ( length: u32 big endian | frame: length bytes )+
    frame   = MessagePack array [ tag, field, field, … ]        tag: number of the frame's type

A field may be added at the end of a frame, with a default: an older node ignores it and a newer node fills it in. Any
other change raises PROTOCOL_MAX. decode_message() raises BadFrame for what is not exactly this, and nothing else.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

PROTOCOL_MIN: Final = 1         # oldest version that we speak
PROTOCOL_MAX: Final = 1         # newest version that we speak

PRIORITY_CONTROL: Final = 0     # heartbeat, goodbye
PRIORITY_GOSSIP: Final = 1      # node states, interest
PRIORITY_DIRECT: Final = 2      # events that no stream captures, requests
PRIORITY_DATA: Final = 3        # replication
PRIORITIES: Final = 4

HOPS_MAX: Final = 16            # hops_left of a fresh Relay: far more than any mesh is wide
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024    # unless the peer says something else in its Hello or Welcome
NAME_MAX: Final = 64            # characters of node, site and link names
TEXT_MAX: Final = 512           # characters of a reason
TOKEN_MAX: Final = 16 * 1024    # a JWT with many claims has 4 KiB
FRAMES_PER_MESSAGE_MAX: Final = 65_536
LENGTH: Final = struct.Struct(">I")

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_MAX)]
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_MAX)]
Token: TypeAlias = Annotated[str, Meta(max_length=TOKEN_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Millis: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]          # since 1970, as the sender's clock has it
Features: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=64)]


class BadFrame(Exception):
    """The peer's fault: bytes that are no frame of this protocol. The text is safe to send and to log."""


class Hello(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """The dialler's first frame: who it is and why it may come in."""

    protocol_min: Annotated[int, Meta(ge=0, le=65_535)]
    protocol_max: Annotated[int, Meta(ge=0, le=65_535)]
    node: Name
    site: Name
    epoch: Name                         # of its log
    boot: Name                          # random, new with every start of the process
    version: Name
    time_ms: Millis
    link: Name                          # tells several links between the same two nodes apart
    token: Token | None = None          # shared secret or JWT
    features: Features = ()
    cost: Annotated[int, Meta(ge=1, le=65_535)] = 1
    frame_bytes_max: Annotated[int, Meta(ge=1024, le=2**31 - 1)] = FRAME_BYTES_MAX     # largest frame that it takes

    def __repr__(self) -> str:          # a token never gets into a log by way of a struct
        return f"Hello({self.node!r}, link={self.link!r}, protocol={self.protocol_min}-{self.protocol_max})"


class Welcome(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """The acceptor's yes. The link is up."""

    protocol: Annotated[int, Meta(ge=0, le=65_535)]     # the version that both speak from here on
    node: Name
    site: Name
    epoch: Name
    boot: Name
    version: Name
    time_ms: Millis
    features: Features = ()
    frame_bytes_max: Annotated[int, Meta(ge=1024, le=2**31 - 1)] = FRAME_BYTES_MAX


class Refuse(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """The acceptor's no; the connection ends. code: one of mesh.link.protocol.codes.Code."""

    code: Annotated[int, Meta(ge=0, le=65_535)]
    text: Text = ""


class Ping(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """Answer at once. id: the sender's own."""

    id: Count
    time_ms: Millis


class Pong(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """The answer to a Ping: what was sent before that Ping has arrived."""

    id: Count
    time_ms: Millis


class Gossip(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """States of nodes, each encoded by mesh/topology."""

    states: Annotated[list[bytes], Meta(max_length=4_096)]


class Relay(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """A message from node `source` for node `to`. hops_left: one less with every node that passes it on."""

    to: Name
    source: Name
    hops_left: Annotated[int, Meta(ge=0, le=255)]
    priority: Annotated[int, Meta(ge=0, le=PRIORITIES - 1)]
    body: bytes


class Goodbye(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """The last frame of either side, with why."""

    code: Annotated[int, Meta(ge=0, le=65_535)]
    text: Text = ""


Frame: TypeAlias = Hello | Welcome | Refuse | Ping | Pong | Gossip | Relay | Goodbye

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """One frame with its length in front: a message, or a part of one."""
    buffer = bytearray(LENGTH.size)
    _encoder.encode_into(frame, buffer, LENGTH.size)
    LENGTH.pack_into(buffer, 0, len(buffer) - LENGTH.size)
    return bytes(buffer)


def decode_message(message: bytes | bytearray | memoryview, frame_bytes_max: int = FRAME_BYTES_MAX) -> list[Frame]:
    """The frames of one WebSocket message, at least one. Raises BadFrame."""
    return list(frames_of(message, frame_bytes_max))


def frames_of(message: bytes | bytearray | memoryview, frame_bytes_max: int = FRAME_BYTES_MAX) -> Iterator[Frame]:
    """The same one by one: what stands before a bad frame comes. Raises BadFrame."""
    count = 0
    view = memoryview(message)
    end = len(view)
    position = 0
    while position < end:
        if end - position < LENGTH.size:
            raise BadFrame("a message that ends in a frame's length")
        (length,) = LENGTH.unpack_from(view, position)
        position += LENGTH.size
        if length > frame_bytes_max:
            raise BadFrame(f"a frame of {length} bytes, at most {frame_bytes_max} are taken")
        if length > end - position:
            raise BadFrame("a frame that is longer than its message")
        if count == FRAMES_PER_MESSAGE_MAX:
            raise BadFrame(f"a message of more than {FRAMES_PER_MESSAGE_MAX} frames")
        count += 1
        yield _decode_frame(view[position:position + length])
        position += length
    if not count:
        raise BadFrame("an empty message")


def _decode_frame(data: memoryview) -> Frame:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(f"not a frame: {str(error)[:200]}") from None
