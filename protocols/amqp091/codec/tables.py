"""Field tables <-> Python values. Bounded: bad input raises HardError 501 or 502, never anything else.

    letter  value                       Python          letter  value                   Python
    t       boolean                     bool            D       scale, 32 bit           Decimal
    b B     8 bit, signed or not        int             S       long string             str, bytes when not UTF-8
    s u     16 bit                      int             A       array                   list
    I i     32 bit                      int             T       seconds since 1970      Timestamp
    l L     64 bit, signed              int             F       table                   dict
    f d     float, double               float           V       nothing                 None
                                                        x       bytes                   bytes
Source: AMQP 0-9-1 §4.2.1 with the letters that RabbitMQ and its clients use (its errata page).
"""
from __future__ import annotations

from decimal import Decimal
from struct import Struct
from struct import error as StructError
from typing import TypeAlias

from protocols.amqp091.codec.codes import FRAME_ERROR, SYNTAX_ERROR, HardError

DEPTH_MAX = 100             # tables and arrays in one another
DECIMAL_SCALE_MAX = 255


class Timestamp(int):
    """Seconds since 1970, 64 bits, whatever they say."""


class Long(int):
    """Written as 64 bits, whatever it says."""


Value: TypeAlias = "bool | int | float | str | bytes | Decimal | Timestamp | list[Value] | dict[str, Value] | None"
Table: TypeAlias = "dict[str, Value]"

_FIXED = {
    ord("b"): Struct(">b"), ord("B"): Struct(">B"), ord("s"): Struct(">h"), ord("u"): Struct(">H"),
    ord("I"): Struct(">i"), ord("i"): Struct(">I"), ord("l"): Struct(">q"), ord("L"): Struct(">q"),
    ord("f"): Struct(">f"), ord("d"): Struct(">d"),
}
_LONG = Struct(">I")
_SIZED = b"SxFA"             # letters of values that begin with their size
_TIME = Struct(">Q")
_SIGNED = Struct(">i")
_INT64 = Struct(">q")
_DOUBLE = Struct(">d")


def decode_table(data: bytes, position: int, end: int, depth: int = 0) -> tuple[Table, int]:
    """The table whose length stands at position, and the position behind it. end: of what may be read."""
    position, stop = _bounds(data, position, end, depth)
    table: Table = {}
    while position < stop:
        size = data[position]
        name_end = position + 1 + size
        if name_end >= stop:
            raise HardError(SYNTAX_ERROR, "a field table ends within a field")
        name = _text(data[position + 1:name_end])
        if not isinstance(name, str):
            raise HardError(SYNTAX_ERROR, "the name of a field is not UTF-8")
        table[name], position = _decode_value(data, name_end, stop, depth)
    return table, stop


def _bounds(data: bytes, position: int, end: int, depth: int) -> tuple[int, int]:
    if depth > DEPTH_MAX:
        raise HardError(SYNTAX_ERROR, f"tables are nested deeper than {DEPTH_MAX}")
    if position + 4 > end:
        raise HardError(SYNTAX_ERROR, "a field table is cut off")
    size = _LONG.unpack_from(data, position)[0]
    if size > end - position - 4:
        raise HardError(SYNTAX_ERROR, "a field table is longer than its frame")
    return position + 4, position + 4 + size


def _decode_value(data: bytes, position: int, end: int, depth: int) -> tuple[Value, int]:
    """The value whose letter stands at position, which is before end."""
    letter = data[position]
    position += 1
    fixed = _FIXED.get(letter)
    try:
        if letter == 0x53 or letter == 0x78:                        # S x
            size = _LONG.unpack_from(data, position)[0]
            position += 4
            if size > end - position:
                raise HardError(SYNTAX_ERROR, "a long string is longer than its table")
            raw = data[position:position + size]
            return raw if letter == 0x78 else _text(raw), position + size
        if fixed is not None:
            if position + fixed.size > end:
                raise HardError(SYNTAX_ERROR, "a field is cut off")
            return fixed.unpack_from(data, position)[0], position + fixed.size
        if letter == 0x74:                                          # t
            if position >= end:
                raise HardError(SYNTAX_ERROR, "a field is cut off")
            return data[position] != 0, position + 1
        if letter == 0x56:                                          # V
            return None, position
        if letter == 0x46:                                          # F
            return decode_table(data, position, end, depth + 1)
        if letter == 0x41:                                          # A
            return _decode_array(data, position, end, depth + 1)
        if letter == 0x54 and position + 8 <= end:                  # T
            return Timestamp(_TIME.unpack_from(data, position)[0]), position + 8
        if letter == 0x44 and position + 5 <= end:                  # D
            unscaled = _SIGNED.unpack_from(data, position + 1)[0]
            return Decimal(unscaled).scaleb(-data[position]), position + 5
    except StructError:
        raise HardError(SYNTAX_ERROR, "a field is cut off") from None
    if letter in b"TD":
        raise HardError(SYNTAX_ERROR, "a field is cut off")
    raise HardError(FRAME_ERROR, f"unknown type {letter} of a field")


def _decode_array(data: bytes, position: int, end: int, depth: int) -> tuple[list[Value], int]:
    position, stop = _bounds(data, position, end, depth)
    values: list[Value] = []
    while position < stop:
        value, position = _decode_value(data, position, stop, depth)
        values.append(value)
    return values, stop


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def encode_table(table: Table) -> bytes:
    """With its length. Values must come from us or from decode_table()."""
    parts: list[bytes] = []
    for name, value in table.items():
        raw = name.encode()
        parts += (bytes((len(raw),)), raw, encode_value(value))
    body = b"".join(parts)
    return _LONG.pack(len(body)) + body


def encode_value(value: Value) -> bytes:
    """The value behind its letter; integers as 32 bit where they fit."""
    if isinstance(value, str):
        raw = value.encode()
        return b"S" + _LONG.pack(len(raw)) + raw
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\1" if value else b"t\0"
    if isinstance(value, Timestamp):
        return b"T" + _TIME.pack(value)
    if isinstance(value, int) and not isinstance(value, Long):
        return b"I" + _SIGNED.pack(value) if -(1 << 31) <= value < 1 << 31 else b"l" + _INT64.pack(value)
    if isinstance(value, Long):
        return b"l" + _INT64.pack(value)
    if isinstance(value, float):
        return b"d" + _DOUBLE.pack(value)
    if isinstance(value, bytes):
        return b"x" + _LONG.pack(len(value)) + value
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, list):
        body = b"".join([encode_value(item) for item in value])
        return b"A" + _LONG.pack(len(body)) + body
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    unscaled = int("".join(map(str, digits)) or "0") * 10 ** max(exponent, 0)
    return b"D" + bytes((min(max(-exponent, 0), DECIMAL_SCALE_MAX),)) + _SIGNED.pack(-unscaled if sign else unscaled)


def with_field(table: bytes | None, name: str, value: bytes) -> bytes:
    """An encoded table with one more field, or another value in its place. value: behind its letter."""
    return with_fields(table, {name: value})


def with_fields(table: bytes | None, fields: dict[str, bytes]) -> bytes:
    """The same with more of them, at the end."""
    parts = _fields_but(table, {name.encode() for name in fields}) if table else []
    for name, value in fields.items():
        raw = name.encode()
        parts += (bytes((len(raw),)), raw, value)
    body = b"".join(parts)
    return _LONG.pack(len(body)) + body


def without_field(table: bytes, name: str) -> bytes:
    """An encoded table without a field; the others stay byte for byte."""
    body = b"".join(_fields_but(table, {name.encode()}))
    return _LONG.pack(len(body)) + body


def _fields_but(table: bytes, names: set[bytes]) -> list[bytes]:
    """The fields as they stand there. Values are stepped over, not read."""
    parts: list[bytes] = []
    position, end = _bounds(table, 0, len(table), 0)
    while position < end:
        start = position
        name_end = position + 1 + table[position]
        position = _skip_value(table, name_end, end)
        if table[start + 1:name_end] not in names:
            parts.append(table[start:position])
    return parts


def _skip_value(data: bytes, position: int, end: int) -> int:
    """The position behind the value whose letter stands at position."""
    letter = data[position]
    if letter in _SIZED:
        if position + 5 > end or (after := position + 5 + int(_LONG.unpack_from(data, position + 1)[0])) > end:
            raise HardError(SYNTAX_ERROR, "a value is longer than its table")
        return after
    return _decode_value(data, position, end, 0)[1]
