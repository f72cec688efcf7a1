"""Frames and headers of Kafka's protocol. Called by connection.py.

    0          4        6         8              12
    +----------+--------+---------+--------------+------------------+---------+----
    | length   | api    | version | correlation  | client id        | tags    | body       header version 1: no tags
    | int32    | key    |         | id           | int16 and text   | varint… |            header version 2: tags
    +----------+--------+---------+--------------+------------------+---------+----
    length counts what follows it. The client id has its old form in version 2 as well.         Source: KIP-482

    response: length, correlation id, and tags where the API's version is flexible; never for ApiVersions (KIP-511).
"""
from __future__ import annotations

import struct

import msgspec

from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.fields import parse
from protocols.kafka.codec.read import Input, decode, struct_reader
from protocols.kafka.codec.write import Out

LENGTH_BYTES = 4
_START = struct.Struct(">hhi")
_CLIENT_ID_LENGTH = struct.Struct(">h")
_TAGS = struct_reader(parse(""), 0, flexible=True)
_TAGS_MAX = 100


class Header(msgspec.Struct, frozen=True, gc=False):
    """Of a request."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    body_at: int                # where the tags begin, or the body in header version 1


def frame_length(prefix: bytes | bytearray | memoryview) -> int:
    """The length that a frame of at least 4 bytes declares, which may be anything."""
    return int.from_bytes(prefix[:LENGTH_BYTES], "big", signed=True)


def read_header(frame: bytes) -> Header:
    """frame: without its length. Raises MalformedRequest."""
    try:
        key, version, correlation_id = _START.unpack_from(frame)
        length = _CLIENT_ID_LENGTH.unpack_from(frame, 8)[0]
    except struct.error as error:
        raise MalformedRequest("the request is shorter than its header") from error
    source = Input(frame, 10, 0)
    try:
        client_id = None if length == -1 else source.take(length).decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("the client id is not UTF-8") from error
    return Header(key, version, correlation_id, client_id, source.at)


def skip_tags(frame: bytes, at: int) -> int:
    """Where the body begins behind the tags of header version 2. Raises MalformedRequest."""
    source = Input(frame, at, _TAGS_MAX)

    decode(lambda _: _TAGS(source), frame, at, _TAGS_MAX)
    return source.at


def response_frame(correlation_id: int, body: Out, *, tags: bool) -> bytes:
    """A whole response. tags: the header has (no) tagged fields, as those of flexible versions."""
    size = sum(map(len, body)) + 4 + tags
    return b"".join((struct.pack(">ii", size, correlation_id), b"\0" if tags else b"", *body))


def request_frame(api_key: int, version: int, correlation_id: int, client_id: str | None, body: Out, *,
                  flexible: bool) -> bytes:
    """A whole request: for tests and tools that speak as a client."""
    client = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(client)
    head = _START.pack(api_key, version, correlation_id) + _CLIENT_ID_LENGTH.pack(length) + client
    data = b"".join((head, b"\0" if flexible else b"", *body))
    return struct.pack(">i", len(data)) + data
