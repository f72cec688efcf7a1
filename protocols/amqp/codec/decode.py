"""Bytes to values: all types of AMQP 1.0 §1.6, with bounds on what a few bytes can ask for. Sans-IO.

    one value    constructor ┬ 0x00 descriptor value                    described
                             ├ 0x4x nothing   0x5x 1 byte   0x6x 2   0x7x 4   0x8x 8   0x9x 16
                             ├ 0xAx size8 bytes             0xBx size32 bytes
                             ├ 0xCx size8 count8 items      0xDx size32 count32 items
                             └ 0xEx size8 count8 constructor items      0xFx the same with 32

Every bad input raises DecodeFault, never IndexError or struct.error.
"""
from __future__ import annotations

import struct
from collections.abc import Callable

from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.types import (
    Array,
    Byte,
    Char,
    Decimal,
    Described,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Uuid,
    Value,
)

DEPTH_MAX = 32              # lists in lists, descriptors of descriptors: no protocol on top of AMQP goes beyond 8
VALUES_MAX = 5_000          # items of all lists, maps and arrays of one performative or section: 5 ms
ZERO_WIDTH_MAX = 64         # items of an array that take no bytes: else 20 bytes ask for 2**32 of them

_WIDTHS = (0, 0, 0, 0, 0, 1, 2, 4, 8, 16)           # by the first digit of the constructor
_CUT_OFF = "a value is cut off"
Left = list[int]            # [how many items more are taken]


class TooManyValues(DecodeFault):
    """More than VALUES_MAX."""


def take_items(left: Left, count: int) -> None:
    """Raises TooManyValues."""
    left[0] -= count
    if left[0] < 0:
        raise TooManyValues(f"more than {VALUES_MAX} items of lists, maps and arrays")


def _unsigned(kind: type[int]) -> Callable[[bytes], Value]:
    return lambda raw: kind(int.from_bytes(raw, "big"))


def _signed(kind: type[int]) -> Callable[[bytes], Value]:
    return lambda raw: kind(int.from_bytes(raw, "big", signed=True))


def _boolean(raw: bytes) -> bool:
    if raw[0] > 1:
        raise DecodeFault("a boolean is neither 0 nor 1")
    return raw[0] == 1


def _char(raw: bytes) -> Char:
    number = int.from_bytes(raw, "big")
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise DecodeFault("a char is no Unicode code point")
    return Char(chr(number))


def text_of(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DecodeFault("a string is not UTF-8") from None


def _symbol(raw: bytes) -> Symbol:
    try:
        return Symbol(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise DecodeFault("a symbol is not ASCII") from None


_float, _double = struct.Struct(">f").unpack, struct.Struct(">d").unpack

_READERS: dict[int, Callable[[bytes], Value]] = {
    0x40: lambda raw: None, 0x41: lambda raw: True, 0x42: lambda raw: False,
    0x43: lambda raw: UInt(0), 0x44: lambda raw: ULong(0), 0x45: lambda raw: [],
    0x50: _unsigned(UByte), 0x51: _signed(Byte), 0x52: _unsigned(UInt), 0x53: _unsigned(ULong),
    0x54: _signed(Int), 0x55: _signed(int), 0x56: _boolean,
    0x60: _unsigned(UShort), 0x61: _signed(Short),
    0x70: _unsigned(UInt), 0x71: _signed(Int), 0x72: lambda raw: Float(_float(raw)[0]), 0x73: _char, 0x74: Decimal,
    0x80: _unsigned(ULong), 0x81: _signed(int), 0x82: lambda raw: _double(raw)[0], 0x83: _signed(Timestamp),
    0x84: Decimal, 0x94: Decimal, 0x98: lambda raw: Uuid(bytes=raw),
    0xA0: bytes, 0xA1: text_of, 0xA3: _symbol, 0xB0: bytes, 0xB1: text_of, 0xB3: _symbol,
}
_COMPOUND = frozenset((0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0))


def decode(data: bytes, position: int, end: int, depth: int = 0, left: Left | None = None) -> tuple[Value, int]:
    """One value and where the next one begins. end: it may not reach beyond. left: shared by values that belong
    together."""
    if position >= end:
        raise DecodeFault(_CUT_OFF)
    code = data[position]
    if code:
        return _plain(data, position + 1, end, code, depth, left)
    if depth >= DEPTH_MAX:
        raise DecodeFault(f"more than {DEPTH_MAX} levels")
    if left is None:
        left = [VALUES_MAX]
    descriptor, position = decode(data, position + 1, end, depth + 1, left)
    value, position = decode(data, position, end, depth + 1, left)
    return Described(descriptor, value), position


def decode_all(data: bytes) -> Value:
    """The one value that these bytes are."""
    value, position = decode(data, 0, len(data))
    if position != len(data):
        raise DecodeFault("there are bytes behind a value")
    return value


def _plain(data: bytes, position: int, end: int, code: int, depth: int, left: Left | None) -> tuple[Value, int]:
    """A value without descriptor. position: behind its constructor."""
    reader = _READERS.get(code)
    if reader is None:
        if code in _COMPOUND:
            return _compound(data, position, end, code, depth, left if left is not None else [VALUES_MAX])
        raise DecodeFault(f"unknown type {code:#04x}")
    start, stop = extent(data, position, end, code)
    return reader(data[start:stop]), stop


def extent(data: bytes, position: int, end: int, code: int) -> tuple[int, int]:
    """Where what stands behind a constructor begins (after its size, if it has one) and ends."""
    kind = code >> 4
    if 4 <= kind <= 9:
        start, stop = position, position + _WIDTHS[kind]
    elif kind in (0xA, 0xC, 0xE):
        if position >= end:
            raise DecodeFault(_CUT_OFF)
        start = position + 1
        stop = start + data[position]
    elif kind in (0xB, 0xD, 0xF):
        start = position + 4
        stop = start + int.from_bytes(data[position:start], "big")
    else:
        raise DecodeFault(f"unknown type {code:#04x}")
    if start > end or stop > end:
        raise DecodeFault(_CUT_OFF)
    return start, stop


def skip(data: bytes, position: int, end: int) -> int:
    """Where the next value begins. What a compound value holds is not looked at."""
    for _ in range(DEPTH_MAX):
        if position >= end:
            raise DecodeFault(_CUT_OFF)
        code = data[position]
        if code:
            return extent(data, position + 1, end, code)[1]
        position = skip_plain(data, position + 1, end)
    raise DecodeFault(f"more than {DEPTH_MAX} levels")


def skip_plain(data: bytes, position: int, end: int) -> int:
    """The same for a value that may not be described, such as a descriptor."""
    if position >= end:
        raise DecodeFault(_CUT_OFF)
    if not data[position]:
        raise DecodeFault("a descriptor that is described")
    return extent(data, position + 1, end, data[position])[1]


def head(data: bytes, position: int, end: int, code: int) -> tuple[int, int, int]:
    """Of a compound value: number of items, where they begin, where they end. position: behind its constructor."""
    start, stop = extent(data, position, end, code)
    width = 4 if code >> 4 in (0xD, 0xF) else 1
    if start + width > stop:
        raise DecodeFault(_CUT_OFF)
    return int.from_bytes(data[start:start + width], "big"), start + width, stop


def _compound(data: bytes, position: int, end: int, code: int, depth: int, left: Left) -> tuple[Value, int]:
    if depth >= DEPTH_MAX:
        raise DecodeFault(f"more than {DEPTH_MAX} levels")
    count, position, stop = head(data, position, end, code)
    if code in (0xE0, 0xF0):
        return _array(data, position, stop, count, depth + 1, left), stop
    if count > stop - position:                         # each takes a byte at least
        raise DecodeFault("a list or map has more items than bytes")
    take_items(left, count)
    items: list[Value] = []
    for _ in range(count):
        item, position = decode(data, position, stop, depth + 1, left)
        items.append(item)
    if position != stop:
        raise DecodeFault("a list or map is longer than its items")
    return (items if code in (0xC0, 0xD0) else _map(items)), stop


def _map(items: list[Value]) -> dict[Value, Value]:
    if len(items) & 1:
        raise DecodeFault("a map with a key and no value")
    try:
        found = dict(zip(items[::2], items[1::2]))
    except TypeError:
        raise DecodeFault("a map whose key is a list or a map") from None
    if len(found) * 2 != len(items):
        raise DecodeFault("a map with two equal keys")
    return found


def _array(data: bytes, position: int, stop: int, count: int, depth: int, left: Left) -> Array:
    descriptor: Value = None
    if position >= stop:
        raise DecodeFault(_CUT_OFF)
    if data[position] == 0:
        descriptor, position = decode(data, position + 1, stop, depth, left)
        if position >= stop:
            raise DecodeFault(_CUT_OFF)
    code = data[position]
    position += 1
    width = _WIDTHS[code >> 4] if 4 <= code >> 4 <= 9 else 1
    if (count > ZERO_WIDTH_MAX if not width else count * width > stop - position):
        raise DecodeFault("an array has more items than bytes")
    take_items(left, count)
    items: list[Value] = []
    for _ in range(count):
        item, position = _plain(data, position, stop, code, depth, left)
        items.append(item)
    if position != stop:
        raise DecodeFault("an array is longer than its items")
    return Array(code, items, descriptor)
