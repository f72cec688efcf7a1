"""Composite types from a table: described lists with named fields, to structs and back. AMQP 1.0 §1.4. Sans-IO.

    class Begin(Composite):                             "!" mandatory, "*" several (an array, or one alone)
        code = 0x11
        name = "amqp:begin:list"
        wire = "ushort uint! uint! uint! uint symbol* symbol* fields"       the types of the fields, in their order
        remote_channel: int | None = None               a field that was left out is None, or its default
        …

A new type is a class; the functions here read and write all of them.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.encode import counted, encode
from protocols.amqp.codec.types import (
    SYMBOL_8,
    SYMBOL_32,
    Array,
    Described,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Value,
)


class Composite(msgspec.Struct):
    """See the module's head."""

    code: ClassVar[int] = 0
    name: ClassVar[str] = ""
    wire: ClassVar[str] = ""


C = TypeVar("C", bound=Composite)


class _Field(NamedTuple):
    name: str
    type: str
    mandatory: bool
    several: bool


def _number(kind: type[int], maximum: int) -> tuple[Callable[[Value], bool], Callable[[Value], Value]]:
    def fits(value: Value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= maximum

    return fits, kind


def _is_text(value: Value) -> bool:
    return isinstance(value, str)


def _is_id(value: Value) -> bool:
    return isinstance(value, (ULong, UUID, bytes, str))


def _same(value: Value) -> Value:
    return value


# type → is it one, and how it is written. Widths of numbers are not insisted on, nor is string against symbol: what is
# meant is clear, and some clients write the one for the other.
_TYPES: dict[str, tuple[Callable[[Value], bool], Callable[[Value], Value]]] = {
    "boolean": (lambda value: isinstance(value, bool), _same),
    "ubyte": _number(UByte, 0xFF), "ushort": _number(UShort, 0xFFFF), "uint": _number(UInt, 0xFFFFFFFF),
    "ulong": _number(ULong, (1 << 64) - 1),
    "timestamp": (lambda value: isinstance(value, int) and not isinstance(value, bool), Timestamp),
    "string": (_is_text, str), "symbol": (_is_text, Symbol),
    "binary": (lambda value: isinstance(value, bytes), _same),
    "fields": (lambda value: isinstance(value, dict), _same),
    "id": (_is_id, _same), "any": (lambda value: True, _same),
    "address": (lambda value: isinstance(value, (str, bytes)), _same),
    "composite": (lambda value: isinstance(value, (Composite, Described)), _same),
}
_tables: dict[type[Composite], list[_Field]] = {}
_by_descriptor: dict[Value, type[Composite]] = {}


def register(kinds: Iterable[type[Composite]]) -> None:
    """Called once for each module of composites, at its end."""
    for kind in kinds:
        words = kind.wire.split()
        assert len(words) == len(kind.__struct_fields__), kind
        _tables[kind] = [
            _Field(name, word.rstrip("!*"), "!" in word, "*" in word)
            for name, word in zip(kind.__struct_fields__, words)]
        _by_descriptor[ULong(kind.code)] = _by_descriptor[Symbol(kind.name)] = kind


def composed(value: Value) -> Value:
    """A described value as the struct that it is; what is no composite of ours stays as it is. Raises DecodeFault."""
    if not isinstance(value, Described):
        return value
    try:
        kind = _by_descriptor.get(value.descriptor)
    except TypeError:                                   # a list as descriptor
        kind = None
    if kind is None:
        return value
    if not isinstance(value.value, list):
        raise DecodeFault(f"{kind.name} is no list")
    return build(kind, value.value)


def kind_of(descriptor: Value) -> type[Composite] | None:
    """The composite that a descriptor (ULong or Symbol) stands for."""
    try:
        return _by_descriptor.get(descriptor)
    except TypeError:
        return None


def build(kind: type[C], values: list[Value]) -> C:
    """Raises DecodeFault: a field that must be there is not, is of another type, or is one too many."""
    table = _tables[kind]
    if len(values) > len(table):
        raise DecodeFault(f"{kind.name} has {len(values)} fields, {len(table)} are known")
    found: dict[str, Any] = {}
    for field, value in zip(table, values):
        if value is None:
            continue
        found[field.name] = _several(kind, field, value) if field.several else _one(kind, field, value)
    for field in table:
        if field.mandatory and field.name not in found:
            raise DecodeFault(f"{kind.name} without {field.name}")
    return kind(**found)


def _one(kind: type[Composite], field: _Field, value: Value) -> Value:
    if isinstance(value, Described):
        value = composed(value)
    if not _TYPES[field.type][0](value):
        raise DecodeFault(f"{field.name} of {kind.name} is no {field.type}")
    return value


def _several(kind: type[Composite], field: _Field, value: Value) -> tuple[Value, ...]:
    items = value.items if isinstance(value, Array) else value if isinstance(value, list) else [value]
    return tuple(_one(kind, field, item) for item in items)


def encode_composite(value: Composite, *, full: bool = False) -> bytes:
    """With its descriptor; what is None or the default at the end is left out. full: it is not, here and within."""
    table = _tables[type(value)]
    items: list[bytes] = []
    kept = 0
    for field in table:
        item = getattr(value, field.name)
        items.append(_encoded(field, item, full))
        if full or (item is not None and item != ()):
            kept = len(items)
    head = b"\x00\x53" + bytes((value.code,)) if value.code < 256 else b"\x00\x80" + value.code.to_bytes(8, "big")
    return head + (counted(0xC0, kept, b"".join(items[:kept])) if kept else b"\x45")


def _encoded(field: _Field, item: Value, full: bool) -> bytes:
    if item is None:
        return b"\x40"
    if isinstance(item, Composite):
        return encode_composite(item, full=full)
    if field.several:
        if not item:
            return b"\x40"
        code = SYMBOL_8 if all(len(one) < 256 for one in item) else SYMBOL_32
        return encode(Array(code, [Symbol(one) for one in item]))
    return encode(plain(_TYPES[field.type][1](item)))


def plain(value: Value) -> Value:
    """Composites within maps and lists as described values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Composite):
        table = _tables[type(value)]
        return Described(ULong(value.code), [
            _field_value(field, getattr(value, field.name)) for field in table])
    return value


def _field_value(field: _Field, item: Value) -> Value:
    if item is None or item == ():
        return None
    if field.several:
        return Array(SYMBOL_32, [Symbol(one) for one in item])
    return plain(_TYPES[field.type][1](item)) if not isinstance(item, Composite) else plain(item)
