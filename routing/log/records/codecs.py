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
from mmap import mmap
from typing import Protocol, TypeVar, cast

from routing.log.records.batch import BatchError

EXPANDED_BYTES_MAX = 16 * 1024 * 1024       # of one batch; a 1 KiB gzip can declare 1 GiB (hostile.md, line 64)
SMALL_BYTES = 64 * 1024                     # of room that is tried first: most batches come to less
LARGE_BYTES = 512 * 1024                    # from here on it is much
PIECE_BYTES = 256 * 1024                    # that come out of gzip at a time


class CodecError(BatchError):
    """A compression that is not known, or not available here."""


class ExpandsTooMuch(BatchError):
    """More comes out than is taken."""


Expanded = TypeVar("Expanded")

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_NAMES = {_GZIP: "gzip", _SNAPPY: "snappy", _LZ4: "lz4", _ZSTD: "zstd"}
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class _Module(Protocol):
    """The part of cramjam's codec modules that we use: fills output, raises when it is too small."""

    def decompress_into(self, data: bytes, output: memoryview) -> int: ...
    def decompress_raw_into(self, data: bytes, output: memoryview) -> int: ...


def available(codec: int) -> bool:
    """True when batches of this codec (attribute bits 0..2) can be read here."""
    return codec in (0, _GZIP) or (codec in _NAMES and importlib.util.find_spec("cramjam") is not None)


def expand(codec: int, data: bytes, bytes_max: int = EXPANDED_BYTES_MAX) -> bytes:
    """The records of a compressed batch. Raises CodecError, ExpandsTooMuch (bytes_max), BatchError: broken data."""
    def expanded(size: int) -> bytes:
        room = room_for(size)
        return bytes(room[:expand_into(codec, data, room)])

    return in_room(expanded, len(data), bytes_max)


def in_room(expanded: Callable[[int], Expanded], size: int, bytes_max: int) -> Expanded:
    """expanded(what data of this size most often come to at most), as room for more costs more; and where that is too
    little, expanded(bytes_max).
    """
    likely = max(SMALL_BYTES, size * 4)
    if likely <= LARGE_BYTES and likely < bytes_max:
        try:
            return expanded(likely)
        except ExpandsTooMuch:
            pass
    return expanded(bytes_max)


def room_for(size: int) -> memoryview:
    """Room for what may come out. Much of it is memory that nobody fills with zeros before, nor touches in vain."""
    return memoryview(bytearray(size) if size <= 2 * LARGE_BYTES else mmap(-1, size))


def expand_into(codec: int, data: bytes, room: memoryview) -> int:
    """As expand(), into room. Returns how many bytes that are. Others have the interpreter meanwhile."""
    if not available(codec):
        raise CodecError(f"the codec {_NAMES.get(codec, codec)} is not available here")
    try:
        return _EXPANDERS[codec](data, room)
    except BatchError:
        raise
    except Exception as error:  # cramjam raises its own classes
        raise BatchError(f"{_NAMES[codec]}: cannot decompress: {error}") from None


def _gzip(data: bytes, room: memoryview) -> int:
    expander = zlib.decompressobj(wbits=31)
    size = 0
    while not expander.eof:
        piece = expander.decompress(data, min(PIECE_BYTES, len(room) - size + 1))
        data = expander.unconsumed_tail
        if size + len(piece) > len(room):
            raise _too_large(len(room))
        room[size:size + len(piece)] = piece
        size += len(piece)
        if not piece and not data and not expander.eof:
            raise BatchError("gzip: the data end early")
    return size


def _snappy(data: bytes, room: memoryview) -> int:
    """Raw snappy, or Java's framing: 16 bytes, then blocks of length (4 bytes) and raw snappy."""
    if not data.startswith(_XERIAL_MAGIC):
        return _raw_snappy(data, room)
    expanded = 0
    position = _XERIAL_HEADER_BYTES
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if size < 0 or position + size > len(data):
            raise BatchError("snappy: a block is longer than the data")
        expanded += _raw_snappy(data[position:position + size], room[expanded:])
        position += size
    return expanded


def _raw_snappy(data: bytes, room: memoryview) -> int:
    length = shift = 0                      # snappy begins with the length of the result as a varint
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > len(room):
        raise _too_large(len(room))
    return _module("snappy").decompress_raw_into(data, room) if length else 0


def _framed(name: str) -> Callable[[bytes, memoryview], int]:
    def expand_framed(data: bytes, room: memoryview) -> int:
        try:
            return _module(name).decompress_into(data, room)
        except Exception as error:
            if "whole buffer" not in str(error):        # broken: more room would not help
                raise
            raise _too_large(len(room)) from None
    return expand_framed


def _too_large(bytes_max: int) -> BatchError:
    return ExpandsTooMuch(f"a batch expands to more than {bytes_max} bytes")


def _module(name: str) -> _Module:
    return cast(_Module, getattr(importlib.import_module("cramjam"), name))


_EXPANDERS: dict[int, Callable[[bytes, memoryview], int]] = {
    _GZIP: _gzip, _SNAPPY: _snappy, _LZ4: _framed("lz4"), _ZSTD: _framed("zstd"),
}
