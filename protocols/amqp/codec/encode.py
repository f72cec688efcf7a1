"""Values to bytes: each in the shortest of its encodings. AMQP 1.0 §1.6. Sans-IO."""
from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

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

_float, _double = struct.Struct(">f").pack, struct.Struct(">d").pack
_DECIMALS = {4: 0x74, 8: 0x84, 16: 0x94}


def encode(value: Value) -> bytes:
    """One value. int is a long, float a double. Raises TypeError, ValueError: AMQP has no such value."""
    return _WRITERS[type(value)](value)


def _integer(small: int, large: int, width: int, *, zero: int | None = None,
             signed: bool = False) -> Callable[[int], bytes]:
    """small: constructor of the form with one byte, zero: that of 0, if there are any."""
    low, high = (-128, 127) if signed else (0, 255)

    def write(value: int) -> bytes:
        if value == 0 and zero is not None:
            return bytes((zero,))
        try:
            if small and low <= value <= high:
                return bytes((small, value & 0xFF))
            return bytes((large,)) + value.to_bytes(width, "big", signed=signed)
        except OverflowError:
            raise ValueError(f"{value} does not fit in {width} bytes") from None

    return write


def _sized(small: int, raw: bytes) -> bytes:
    """small: the constructor with a size of one byte; that with four is 16 further."""
    size = len(raw)
    if size < 256:
        return bytes((small, size)) + raw
    return bytes((small + 16,)) + size.to_bytes(4, "big") + raw


def counted(small: int, count: int, body: bytes) -> bytes:
    """A compound value of so many encoded items."""
    size = len(body)
    if size < 255 and count < 256:
        return bytes((small, size + 1, count)) + body
    return bytes((small + 16,)) + (size + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + body


def _list(items: list[Value]) -> bytes:
    if not items:
        return b"\x45"
    return counted(0xC0, len(items), b"".join([_WRITERS[type(item)](item) for item in items]))


def _map(items: dict[Value, Value]) -> bytes:
    body = b"".join([_WRITERS[type(one)](one) for pair in items.items() for one in pair])
    return counted(0xC1, 2 * len(items), body)


def _described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


def _array(value: Array) -> bytes:
    body = b"".join(_array_item(value.code, item) for item in value.items)
    described = b"" if value.descriptor is None else b"\x00" + encode(value.descriptor)
    body = described + bytes((value.code,)) + body
    size, count = len(body), len(value.items)
    if size < 255 and count < 256:
        return bytes((0xE0, size + 1, count)) + body
    return b"\xf0" + (size + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + body


_FIXED = {0x50: 1, 0x51: 1, 0x52: 1, 0x53: 1, 0x54: 1, 0x55: 1, 0x60: 2, 0x61: 2, 0x70: 4, 0x71: 4, 0x80: 8, 0x81: 8,
          0x83: 8}
_SIGNED = frozenset((0x51, 0x54, 0x55, 0x61, 0x71, 0x81, 0x83))


def _array_item(code: int, item: Value) -> bytes:
    """What stands behind the constructor that all items of an array share."""
    kind = code >> 4
    if kind == 4:
        return b""
    if code in _FIXED:
        return int(item).to_bytes(_FIXED[code], "big", signed=code in _SIGNED)
    if code == 0x56:
        return b"\x01" if item else b"\x00"
    if code == 0x72:
        return _float(item)
    if code == 0x82:
        return _double(item)
    if code == 0x73:
        return ord(item).to_bytes(4, "big")
    if code == 0x98:
        return bytes(item.bytes)
    if kind in (7, 8, 9):                               # decimals
        return bytes(item)
    if kind in (0xA, 0xB):
        raw = item if isinstance(item, bytes) else item.encode()
        return len(raw).to_bytes(1 if kind == 0xA else 4, "big") + raw
    return _array_compound(code, item)


def _array_compound(code: int, item: Value) -> bytes:
    if isinstance(item, Array):
        start = b"" if item.descriptor is None else b"\x00" + encode(item.descriptor)
        body = start + bytes((item.code,)) + b"".join(_array_item(item.code, one) for one in item.items)
        count = len(item.items)
    else:
        items = [one for pair in item.items() for one in pair] if isinstance(item, dict) else item
        body = b"".join(encode(one) for one in items)
        count = len(items)
    width = 1 if code >> 4 in (0xC, 0xE) else 4
    return (len(body) + width).to_bytes(width, "big") + count.to_bytes(width, "big") + body


def _decimal(value: Decimal) -> bytes:
    return bytes((_DECIMALS[len(value)],)) + value


_WRITERS: dict[type, Callable[[Value], bytes]] = {
    type(None): lambda value: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    UByte: _integer(0, 0x50, 1), UShort: _integer(0, 0x60, 2),
    UInt: _integer(0x52, 0x70, 4, zero=0x43), ULong: _integer(0x53, 0x80, 8, zero=0x44),
    Byte: _integer(0, 0x51, 1, signed=True), Short: _integer(0, 0x61, 2, signed=True),
    Int: _integer(0x54, 0x71, 4, signed=True), int: _integer(0x55, 0x81, 8, signed=True),
    Timestamp: _integer(0, 0x83, 8, signed=True),
    Float: lambda value: b"\x72" + _float(value), float: lambda value: b"\x82" + _double(value),
    Char: lambda value: b"\x73" + ord(value).to_bytes(4, "big"),
    Decimal: _decimal,
    UUID: lambda value: b"\x98" + value.bytes,
    Uuid: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _sized(0xA0, value),
    str: lambda value: _sized(0xA1, value.encode("utf-8", "replace")),
    Symbol: lambda value: _sized(0xA3, value.encode("ascii", "replace")),
    list: _list, dict: _map, Described: _described, Array: _array,
}
