"""A method <-> bytes: the base of the structs, one per method, and the table of them.

A method's payload is class id, method id, then its fields as layout says, one letter each:

    o octet · h short · l long · L long long · s short string · S long string · t table · b bit (packed, 8 in an octet)

Names and texts are UTF-8 without NUL, or the connection ends with 502. Source: AMQP 0-9-1 §4.2.5.
"""
from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, ClassVar, TypeVar

import msgspec

from protocols.amqp091.codec.codes import COMMAND_INVALID, SYNTAX_ERROR, HardError
from protocols.amqp091.codec.tables import decode_table, encode_table

_ID = Struct(">HH")
_FIXED = {"o": Struct(">B"), "h": Struct(">H"), "l": Struct(">I"), "L": Struct(">Q")}


class Method(msgspec.Struct, gc=False):
    id: ClassVar[tuple[int, int]]
    name: ClassVar[str]                     # as the specification writes it: "queue.declare"
    layout: ClassVar[str]
    has_content: ClassVar[bool] = False


M = TypeVar("M", bound=Method)
METHODS: dict[bytes, type[Method]] = {}


def method(class_id: int, method_id: int, name: str, layout: str) -> Callable[[type[M]], type[M]]:
    def register(cls: type[M]) -> type[M]:
        cls.id, cls.name, cls.layout = (class_id, method_id), name, layout
        METHODS[_ID.pack(class_id, method_id)] = cls
        return cls
    return register


def decode_method(data: bytes, position: int, end: int) -> Method:
    """The method whose payload stands there. Raises HardError: 502 malformed, 503 unknown."""
    if end - position < 4:
        raise HardError(SYNTAX_ERROR, "a method frame without a method")
    found = METHODS.get(data[position:position + 4])
    if found is None:
        class_id, method_id = _ID.unpack_from(data, position)
        raise HardError(COMMAND_INVALID, f"unknown method {class_id}.{method_id}", (class_id, method_id))
    try:
        return found(*_decode_fields(data, position + 4, end, found.layout))
    except HardError as error:
        error.method = found.id
        raise


def _decode_fields(data: bytes, position: int, end: int, layout: str) -> list[Any]:
    values: list[Any] = []
    bit = 8
    for letter in layout:
        if letter == "b":
            if bit == 8:
                bit = 0
                position += 1
                if position > end:
                    raise HardError(SYNTAX_ERROR, "a method is cut off")
            values.append(bool(data[position - 1] >> bit & 1))
            bit += 1
            continue
        bit = 8
        if letter == "s":
            text, position = short_string(data, position, end)
            values.append(text)
        elif letter == "t":
            table, position = decode_table(data, position, end)
            values.append(table)
        elif letter == "S":
            if position + 4 > end or (size := int.from_bytes(data[position:position + 4], "big")) > end - position - 4:
                raise HardError(SYNTAX_ERROR, "a long string is cut off")
            values.append(data[position + 4:position + 4 + size])
            position += 4 + size
        else:
            fixed = _FIXED[letter]
            if position + fixed.size > end:
                raise HardError(SYNTAX_ERROR, "a method is cut off")
            values.append(fixed.unpack_from(data, position)[0])
            position += fixed.size
    if position != end:
        raise HardError(SYNTAX_ERROR, "a method is followed by something else in its frame")
    return values


def short_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A short string of names and keys, and the position behind it."""
    if position >= end or (stop := position + 1 + data[position]) > end:
        raise HardError(SYNTAX_ERROR, "a short string is cut off")
    raw = data[position + 1:stop]
    try:
        if 0 in raw:
            raise HardError(SYNTAX_ERROR, "a short string with NUL")
        return raw.decode(), stop
    except UnicodeDecodeError:
        raise HardError(SYNTAX_ERROR, "a short string that is not UTF-8") from None


def encode_method(method: Method) -> bytes:
    """Payload of its frame."""
    parts = [_ID.pack(*method.id)]
    bits, used = 0, 0
    for letter, name in zip(method.layout, method.__struct_fields__):
        value = getattr(method, name)
        if letter == "b":
            bits |= bool(value) << used
            used += 1
            continue
        if used:
            parts.append(bytes((bits,)))
            bits = used = 0
        if letter == "s":
            parts.append(pack_short(value))
        elif letter == "S":
            parts += (len(value).to_bytes(4, "big"), value)
        elif letter == "t":
            parts.append(encode_table(value))
        else:
            parts.append(_FIXED[letter].pack(value))
    if used:
        parts.append(bytes((bits,)))
    return b"".join(parts)


def pack_short(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")[:255]
    return bytes((len(raw),)) + raw
