"""Ack tokens: a delivery as text that says everything, so that no server-side instance is needed to answer it. Sans-IO.

base64url without padding of

    byte 0      1, the version
    1..4        generation of the consumer, which a seek moves on
    5..12       offset        13..14  partition        15..16  attempt
    then        name of the stream, UTF-8
    last 4      CRC-32 of everything before, the log's epoch and the consumer's name

The checksum is no signature: it keeps a token of another consumer, or of a wiped log, from being taken for one of
this, and that is all that is needed. Who may answer for a consumer may also read, seek and delete it.
"""
from __future__ import annotations

import binascii
import struct
import zlib
from typing import NamedTuple

VERSION = 1
TOKEN_CHARS_MAX = 400           # stream names have at most 249 bytes, as Kafka topics
_HEAD = struct.Struct(">BIQHH")
_CRC = 4
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_U32, _U16 = 0xFFFFFFFF, 0xFFFF


class Token(NamedTuple):
    generation: int
    offset: int
    partition: int
    attempt: int
    stream: str


class BadToken(ValueError):
    """No token of this consumer on this log."""


class Tokens:
    """Writes and reads the tokens of one consumer."""

    __slots__ = ("_seed",)

    def __init__(self, epoch: str, consumer: str) -> None:
        self._seed = zlib.crc32(f"{epoch}\0{consumer}".encode())

    def write(self, token: Token) -> str:
        """Attempts above 65,535 and generations above 32 bits are cut; they wrap around alike on both sides."""
        data = _HEAD.pack(VERSION, token.generation & _U32, token.offset, token.partition, min(token.attempt, _U16))
        data += token.stream.encode()
        data += zlib.crc32(data, self._seed).to_bytes(_CRC, "big")
        return binascii.b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode("ascii")

    def read(self, text: str) -> Token:
        """Raises BadToken."""
        if len(text) > TOKEN_CHARS_MAX or not text.isascii():
            raise BadToken
        try:
            raw = text.encode("ascii").translate(_FROM_URL)
            data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
        except binascii.Error:
            raise BadToken from None
        if len(data) <= _HEAD.size + _CRC:
            raise BadToken
        if zlib.crc32(data[:-_CRC], self._seed) != int.from_bytes(data[-_CRC:], "big"):
            raise BadToken
        version, generation, offset, partition, attempt = _HEAD.unpack_from(data)
        if version != VERSION:
            raise BadToken
        return Token(generation, offset, partition, attempt, data[_HEAD.size:-_CRC].decode("utf-8", "replace"))


def same_generation(token: Token, generation: int) -> bool:
    return token.generation == generation & _U32
