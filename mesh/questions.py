"""Ask and Answer, the messages by which one node asks another what its management API would say. Sans-IO.

    [33, id, method, path, names, query, body, user, roles, address, reason, key]      body: JSON, b"" without one
    [34, id, status, body]                                                              status: as in HTTP

MessagePack arrays like those of mesh/replication and mesh/direct.py; the first number tells them apart. Whatever comes
is bounded in size and checked; bad bytes raise BadAsk and nothing else.
"""
from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

ASK: Final = 33
ANSWER: Final = 34
ASK_BYTES_MAX: Final = 64 * 1024            # as of a request to the console listener
ANSWER_BYTES_MAX: Final = 256 * 1024        # a table is cut to it

Id: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
Short: TypeAlias = Annotated[str, Meta(max_length=200)]
Text: TypeAlias = Annotated[str, Meta(max_length=2_000)]
Texts: TypeAlias = Annotated[dict[Short, Text], Meta(max_length=32)]


class BadAsk(Exception):
    """The sender's fault: bytes that are no such message."""


class Ask(msgspec.Struct, array_like=True, tag=ASK, frozen=True):
    """user, roles, address: who asks, as the asking node has it."""

    id: Id
    method: Annotated[str, Meta(max_length=10)]
    path: Short                             # of the endpoint, with {names}
    names: Texts = {}
    query: Texts = {}
    body: bytes = b""
    user: Text = ""
    roles: Annotated[tuple[Short, ...], Meta(max_length=64)] = ()
    address: Short = ""
    reason: Text = ""
    key: Short = ""


class Answer(msgspec.Struct, array_like=True, tag=ANSWER, frozen=True):
    id: Id
    status: Annotated[int, Meta(ge=100, le=599)]
    body: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Ask | Answer] = msgspec.msgpack.Decoder(Ask | Answer)


def is_asking(body: bytes) -> bool:
    return len(body) > 1 and body[1] in (ASK, ANSWER) and 0x91 <= body[0] <= 0x9F


def encode(message: Ask | Answer) -> bytes:
    return _encoder.encode(message)


def decode(body: bytes) -> Ask | Answer:
    """Raises BadAsk."""
    if len(body) > ANSWER_BYTES_MAX + 1_024:
        raise BadAsk(f"{len(body)} bytes")
    try:
        message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAsk(str(error)[:200]) from None
    if isinstance(message, Ask) and len(body) > ASK_BYTES_MAX + 1_024:
        raise BadAsk(f"a question of {len(body)} bytes")
    return message


def json_object(body: bytes) -> dict[str, Any]:
    """Raises BadAsk for what is no JSON object."""
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAsk(str(error)[:200]) from None
