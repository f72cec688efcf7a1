"""Messages → bytes: writers compiled from fields for one version. Used by schema.py.

A struct is a dict of its fields. What is missing in it is written as the field's default, an empty array, or null;
what the version does not have is left out. So a handler answers once for all versions.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from protocols.kafka.codec.fields import Field
from protocols.kafka.codec.read import FIXED

Out: TypeAlias = list[bytes]
Write: TypeAlias = Callable[[Out, Any], None]
WriteSteps: TypeAlias = Callable[[Out, Any], Iterator[None]]    # a step is an element of an array of structs
_Step: TypeAlias = tuple[Write | None, Callable[..., bytes] | None, tuple[tuple[str, Any], ...]]

_INT16, _INT32 = struct.Struct(">h").pack, struct.Struct(">i").pack
_SMALL = tuple(bytes((value,)) for value in range(0x80))


def varint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _compact_length(length: int) -> bytes:
    return varint(length + 1)


def _text(pack_length: Callable[[int], bytes], nullable: bool) -> Write:
    def write(out: Out, value: str | None) -> None:
        if value is None:
            if nullable:
                out.append(pack_length(-1))
                return
            value = ""
        data = value.encode()
        out.append(pack_length(len(data)))
        out.append(data)

    return write


def _bytes(pack_length: Callable[[int], bytes], nullable: bool) -> Write:
    def write(out: Out, value: bytes | None) -> None:
        if value is None:
            if nullable:
                out.append(pack_length(-1))
                return
            value = b""
        out.append(pack_length(len(value)))
        out.append(value)

    return write


def _uuid(out: Out, value: bytes) -> None:
    assert len(value) == 16
    out.append(value)


def _fixed(kind: str) -> Write:
    pack = struct.Struct(">" + FIXED[kind]).pack

    def write(out: Out, value: Any) -> None:
        out.append(pack(value))

    return write


def _array(pack_length: Callable[[int], bytes], element: Write, nullable: bool) -> Write:
    def write(out: Out, values: Any) -> None:
        if values is None:
            out.append(pack_length(-1 if nullable else 0))
            return
        out.append(pack_length(len(values)))
        for value in values:
            element(out, value)

    return write


def _nullable_struct(write_struct: Write) -> Write:
    def write(out: Out, value: Any) -> None:
        if value is None:
            out.append(b"\xff")
        else:
            out.append(b"\x01")
            write_struct(out, value)

    return write


def writer_of(field: Field, version: int, *, flexible: bool) -> Write:
    """The writer of one field, array or not."""
    nullable = field.null_since <= version
    if field.type in FIXED:
        one = _fixed(field.type)
    elif field.type == "uuid":
        one = _uuid
    elif field.type == "string":
        one = _text(_compact_length if flexible else _INT16, nullable and not field.is_array)
    elif field.type == "bytes":
        one = _bytes(_compact_length if flexible else _INT32, nullable and not field.is_array)
    else:
        one = struct_writer(field.fields, version, flexible=flexible)
        if nullable and not field.is_array:
            one = _nullable_struct(one)
    return _array(_compact_length if flexible else _INT32, one, nullable) if field.is_array else one


def _missing(field: Field) -> Any:
    if field.is_array:
        return None if field.default is None and field.null_since <= field.first and field.type == "" else []
    if field.type == "" and field.null_since > field.last:
        return {}
    return field.default


def _plan(fields: tuple[Field, ...], version: int, *, flexible: bool
          ) -> tuple[list[_Step], list[tuple[int, Field, Write]]]:
    """How a struct is written: neighbours of fixed size are packed at once. And its tagged fields."""
    steps: list[_Step] = []
    run: list[Field] = []

    def end_run() -> None:
        if run:
            pack = struct.Struct(">" + "".join(FIXED[field.type] for field in run)).pack
            steps.append((None, pack, tuple((field.name, field.default) for field in run)))
            run.clear()

    tagged: list[tuple[int, Field, Write]] = []
    for field in fields:
        if not field.is_in(version):
            continue
        if field.tag is not None:
            tagged.append((field.tag, field, writer_of(field, version, flexible=flexible)))
        elif field.type in FIXED and not field.is_array:
            run.append(field)
        else:
            end_run()
            steps.append((writer_of(field, version, flexible=flexible), None, ((field.name, _missing(field)),)))
    end_run()
    tagged.sort(key=lambda entry: entry[0])
    return steps, tagged


def struct_writer(fields: tuple[Field, ...], version: int, *, flexible: bool) -> Write:
    """The writer of a struct."""
    steps, tagged = _plan(fields, version, flexible=flexible)

    def write(out: Out, values: Mapping[str, Any]) -> None:
        get = values.get
        for write_one, pack, names in steps:
            if pack is not None:
                out.append(pack(*[get(name, default) for name, default in names]))
            elif write_one is not None:
                name, default = names[0]
                write_one(out, get(name, default))
        if flexible:
            _write_tags(out, tagged, values)

    return write


def step_writer(fields: tuple[Field, ...], version: int, *, flexible: bool) -> WriteSteps:
    """The same in steps, for messages that are long: nobody has to write all of it in one turn of the loop."""
    steps, tagged = _plan(fields, version, flexible=flexible)
    inner = {field.name: step_writer(field.fields, version, flexible=flexible) for field in fields
             if field.is_array and not field.type and field.tag is None and field.is_in(version)}
    pack_length = _compact_length if flexible else _INT32

    def write(out: Out, values: Mapping[str, Any]) -> Iterator[None]:
        get = values.get
        for write_one, pack, names in steps:
            name, default = names[0]
            elements = get(name, default) if name in inner else None
            if elements:
                out.append(pack_length(len(elements)))
                write_element = inner[name]
                for element in elements:
                    yield from write_element(out, element)
                    yield
            elif pack is not None:
                out.append(pack(*[get(name, default) for name, default in names]))
            elif write_one is not None:
                write_one(out, get(name, default))
        if flexible:
            _write_tags(out, tagged, values)

    return write


def _write_tags(out: Out, tagged: list[tuple[int, Field, Write]], values: Mapping[str, Any]) -> None:
    """In the order of their numbers; those that are not set, or are their default, are left out."""
    pieces: list[tuple[int, bytes]] = []
    for tag, field, write_one in tagged:
        value = values.get(field.name)
        if value is None or value == field.default or (field.is_array and not value):
            continue
        part: Out = []
        write_one(part, value)
        pieces.append((tag, b"".join(part)))
    out.append(varint(len(pieces)))
    for tag, data in pieces:
        out += [varint(tag), varint(len(data)), data]
