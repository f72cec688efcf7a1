"""Decompression of the record batches of Kafka producers, with a bound on what comes out.

Called by decode.py. We compress nothing ourselves. gzip is the standard library's; snappy, lz4 and zstd come from
cramjam, the library that aiokafka uses; where there is no build of it, such batches are refused when they come in.
"""
from __future__ import annotations

import importlib
import importlib.util
import struct
import zlib
from collections.abc import Callable
from typing import Protocol, cast

from routing.log.records.batch import BatchError

EXPANDED_BYTES_MAX = 16 * 1024 * 1024       # of one batch; a 1 KiB gzip can declare 1 GiB (hostile.md, line 64)


class CodecError(BatchError):
    """A compression that is not known, or not available here."""


class ExpandsTooMuch(BatchError):
    """More comes out than is taken."""

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_NAMES = {_GZIP: "gzip", _SNAPPY: "snappy", _LZ4: "lz4", _ZSTD: "zstd"}
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class _Module(Protocol):
    """The part of cramjam's codec modules that we use: fills output, raises when it is too small."""

    def decompress_into(self, data: bytes, output: bytearray) -> int: ...
    def decompress_raw_into(self, data: bytes, output: bytearray) -> int: ...


def available(codec: int) -> bool:
    """True when batches of this codec (attribute bits 0..2) can be read here."""
    return codec in (0, _GZIP) or (codec in _NAMES and importlib.util.find_spec("cramjam") is not None)


def expand(codec: int, data: bytes, bytes_max: int = EXPANDED_BYTES_MAX) -> bytes:
    """The records of a compressed batch. Raises CodecError, ExpandsTooMuch (bytes_max), BatchError: broken data."""
    if not available(codec):
        raise CodecError(f"the codec {_NAMES.get(codec, codec)} is not available here")
    try:
        return _EXPANDERS[codec](data, bytes_max)
    except BatchError:
        raise
    except Exception as error:  # cramjam raises its own classes
        raise BatchError(f"{_NAMES[codec]}: cannot decompress: {error}") from None


def _gzip(data: bytes, bytes_max: int) -> bytes:
    expander = zlib.decompressobj(wbits=31)
    out = expander.decompress(data, bytes_max + 1)
    if len(out) > bytes_max:
        raise _too_large(bytes_max)
    if not expander.eof:
        raise BatchError("gzip: the data end early")
    return out


def _snappy(data: bytes, bytes_max: int) -> bytes:
    """Raw snappy, or Java's framing: 16 bytes, then blocks of length (4 bytes) and raw snappy."""
    if not data.startswith(_XERIAL_MAGIC):
        return _raw_snappy(data, bytes_max)
    blocks: list[bytes] = []
    room = bytes_max
    position = _XERIAL_HEADER_BYTES
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if size < 0 or position + size > len(data):
            raise BatchError("snappy: a block is longer than the data")
        blocks.append(_raw_snappy(data[position:position + size], room))
        room -= len(blocks[-1])
        position += size
    return b"".join(blocks)


def _raw_snappy(data: bytes, room: int) -> bytes:
    length = shift = 0                      # snappy begins with the length of the result as a varint
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > room:
        raise _too_large(room)
    output = bytearray(length)
    return bytes(output[:_module("snappy").decompress_raw_into(data, output)])


def _framed(name: str) -> Callable[[bytes, int], bytes]:
    def expand_framed(data: bytes, bytes_max: int) -> bytes:
        size = max(64 * 1024, len(data) * 4)
        while True:                         # grow by need: the frame need not say how large it is
            output = bytearray(min(size, bytes_max))
            try:
                return bytes(output[:_module(name).decompress_into(data, output)])
            except Exception as error:
                if "whole buffer" not in str(error):        # broken: more room would not help
                    raise
                if size >= bytes_max:
                    raise _too_large(bytes_max) from None
                size *= 8
    return expand_framed


def _too_large(bytes_max: int) -> BatchError:
    return ExpandsTooMuch(f"a batch expands to more than {bytes_max} bytes")


def _module(name: str) -> _Module:
    return cast(_Module, getattr(importlib.import_module("cramjam"), name))


_EXPANDERS: dict[int, Callable[[bytes, int], bytes]] = {
    _GZIP: _gzip, _SNAPPY: _snappy, _LZ4: _framed("lz4"), _ZSTD: _framed("zstd"),
}
