"""What nodes of one Kafka cluster say to each other. May be lost or overtaken: each message stands for itself.

    Hello       everybody to everybody, some times a second
    Copy        the leader: a group, and some of its committed offsets with what they mean on other nodes
    Gone        the leader: a group was deleted
    Topics      the leader: topics that were made at run time
    Dropped     the leader: a topic was deleted
    Make        to the leader: a client of mine uses a topic that is not there, and may
"""
from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

ROWS_MAX: Final = 500           # of one Copy; a group has as many as it needs
REACHED_MAX: Final = 1_000      # other partitions that one row speaks of
TOPICS_MAX: Final = 200         # of one message

Name: TypeAlias = Annotated[str, Meta(max_length=1_024)]
Number: TypeAlias = Annotated[int, Meta(ge=-(2**62), le=2**62)]


class Hello(msgspec.Struct, array_like=True, tag=1, frozen=True):
    term: Annotated[int, Meta(ge=0, le=2**53)]
    leads: bool
    host: Name
    port: Annotated[int, Meta(ge=0, le=65_535)]


class Reached(msgspec.Struct, array_like=True, frozen=True):
    """Of an origin partition: all that the group has not read of it stands at next or behind it."""

    node: Name
    epoch: Name
    stream: Name
    index: Number
    next: Number


class Row(msgspec.Struct, array_like=True, frozen=True):
    """A committed offset of the leader's log, and what it means."""

    topic: Name
    partition: Annotated[int, Meta(ge=0, le=100_000)]
    offset: Number
    epoch: Number
    metadata: Annotated[str, Meta(max_length=65_536)] | None
    at_ms: Number
    reached: Annotated[list[Reached], Meta(max_length=REACHED_MAX)]


class Copy(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """number: grows with each of a term, so that one which was overtaken changes nothing."""

    term: Number
    number: Number
    group_id: Name
    owner: Name
    generation: Number
    rows: Annotated[list[Row], Meta(max_length=ROWS_MAX)]


class Gone(msgspec.Struct, array_like=True, tag=3, frozen=True):
    group_id: Name


class Topic(msgspec.Struct, array_like=True, frozen=True):
    """settings: a StreamSettings as MessagePack."""

    name: Name
    incarnation: Annotated[bytes, Meta(min_length=16, max_length=16)]
    settings: bytes
    owner: Name


class Topics(msgspec.Struct, array_like=True, tag=4, frozen=True):
    topics: Annotated[list[Topic], Meta(max_length=TOPICS_MAX)]


class Dropped(msgspec.Struct, array_like=True, tag=5, frozen=True):
    name: Name
    incarnation: bytes


class Make(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """user: whose it is."""

    name: Name
    user: Name


Message: TypeAlias = Hello | Copy | Gone | Topics | Dropped | Make

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
encode = _encoder.encode


def decode(body: bytes) -> Message:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(body)
