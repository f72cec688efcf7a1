"""What neighbours say to each other about managed documents. Sans-IO.

    [40, digest, horizon]         Have: what I would give you has this digest now
    [41, after]                   List please, the keys after this one
    [42, [[kind, name, number, node, digest], …], more]
    [43, [[kind, name], …]]       Want
    [44, [Stored, …]]             Documents

MessagePack arrays; bad bytes raise BadMessage and nothing else. Bounded in size and number.
"""
from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from mesh.administration.documents import Stored

TAGS: Final = frozenset(range(40, 45))
MESSAGE_BYTES_MAX: Final = 512 * 1024
LISTED_MAX: Final = 1_000
WANTED_MAX: Final = 200
BODY_BYTES_MAX: Final = 64 * 1024

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**53)]
Short: TypeAlias = Annotated[str, Meta(max_length=64)]


class Have(msgspec.Struct, array_like=True, tag=40, frozen=True):
    """horizon_ms: of its book; what was deleted up to then it may have forgotten."""

    digest: Short
    horizon_ms: Annotated[int, Meta(ge=0, le=2**53)] = 0


class ListPlease(msgspec.Struct, array_like=True, tag=41, frozen=True):
    kind: Short = ""
    name: Annotated[str, Meta(max_length=255)] = ""


class Listed(msgspec.Struct, array_like=True, tag=42, frozen=True):
    """entries: in the order of their keys. more: there are some after the last one."""

    entries: Annotated[list[tuple[Short, Name, Number, Short, Short]], Meta(max_length=LISTED_MAX)]
    more: bool


class Want(msgspec.Struct, array_like=True, tag=43, frozen=True):
    keys: Annotated[list[tuple[Short, Name]], Meta(max_length=WANTED_MAX)]


class Told(msgspec.Struct, array_like=True, frozen=True):
    """A Stored as it comes from elsewhere: every field has a bound."""

    kind: Short
    name: Name
    body: Annotated[dict[str, Any], Meta(max_length=64)] | None
    number: Number
    node: Short
    seen: Annotated[dict[Short, Number], Meta(max_length=1_000)]
    author: Annotated[str, Meta(max_length=600)]
    time_ms: Annotated[int, Meta(ge=0, le=2**53)]
    reason: Annotated[str, Meta(max_length=500)]
    withheld: bool = False

    def stored(self) -> Stored:
        return Stored(self.kind, self.name, self.body, self.number, self.node, self.seen, self.author, self.time_ms,
                      self.reason, self.withheld)


class Documents(msgspec.Struct, array_like=True, tag=44, frozen=True):
    documents: Annotated[list[Told], Meta(max_length=WANTED_MAX)]


Message: TypeAlias = Have | ListPlease | Listed | Want | Documents
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class BadMessage(Exception):
    """The sender's fault: bytes that are no such message."""


def is_administration(body: bytes) -> bool:
    return len(body) > 1 and body[1] in TAGS and 0x91 <= body[0] <= 0x9F


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(body: bytes) -> Message:
    """Raises BadMessage."""
    if len(body) > MESSAGE_BYTES_MAX:
        raise BadMessage(f"{len(body)} bytes")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)[:200]) from None


def told(stored: Stored) -> Told:
    return Told(stored.kind, stored.name, stored.body, stored.number, stored.node, stored.seen, stored.author,
                stored.time_ms, stored.reason, stored.withheld)
