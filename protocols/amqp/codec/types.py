"""Values of AMQP's types in Python. What Python has no type for is a subclass of one, so that nothing loses its type.

    null None · boolean bool · long int · double float · string str · binary bytes · list list · map dict · uuid UUID
    ubyte UByte … ulong ULong · byte Byte, short Short, int Int · float Float · timestamp Timestamp (ms since 1970)
    char Char · symbol Symbol · decimal32|64|128 Decimal (bytes, as they are) · array Array · described Described

Source: AMQP 1.0 §1.6
"""
from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

Value: TypeAlias = Any      # one of the above; a recursive type would say no more to a reader


class UByte(int):
    __slots__ = ()


class UShort(int):
    __slots__ = ()


class UInt(int):
    __slots__ = ()


class ULong(int):
    __slots__ = ()


class Byte(int):
    __slots__ = ()


class Short(int):
    __slots__ = ()


class Int(int):
    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970, UTC."""

    __slots__ = ()


class Float(float):
    """32 bits."""

    __slots__ = ()


class Char(str):
    __slots__ = ()


class Symbol(str):
    """ASCII."""

    __slots__ = ()


class Decimal(bytes):
    """IEEE 754 decimal in 4, 8 or 16 bytes, as it came."""

    __slots__ = ()


class Uuid(UUID):
    """As it came. Its hash is of its bytes: that of a UUID is of a number, and who chooses that makes all keys of a map
    fall into one place.
    """

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(self.bytes)


class Described(NamedTuple):
    """descriptor: mostly ULong or Symbol."""

    descriptor: Value
    value: Value


class Array:
    """Items of one type. code: the constructor that they share; descriptor: None when they are not described."""

    __slots__ = ("code", "descriptor", "items")

    def __init__(self, code: int, items: list[Value], descriptor: Value = None) -> None:
        self.code = code
        self.items = items
        self.descriptor = descriptor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and (self.items, self.descriptor) == (other.items, other.descriptor)

    def __hash__(self) -> int:
        return hash(len(self.items))

    def __repr__(self) -> str:
        return f"Array({self.code:#x}, {self.items!r}, {self.descriptor!r})"


SYMBOL_8, SYMBOL_32 = 0xA3, 0xB3
