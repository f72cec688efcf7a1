"""Bytes → messages: readers compiled from fields for one version. Used by schema.py.

Every length and count is checked against the bytes that are there before anything is made of it, and the elements of
all arrays of a message together against a bound: what a message costs to read grows with its bytes, and not with what
it claims.                                                    Sources: Kafka documentation, "Protocol"; KIP-482
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias

from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.fields import Field

Message: TypeAlias = SimpleNamespace        # a decoded struct: every field of the schema, whatever the version has

FIXED = {"bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "float64": "d"}
_INT16, _INT32 = struct.Struct(">h"), struct.Struct(">i")
_VARINT_BITS = 32


class Input:
    """The bytes of a message, a place in them, and how many array elements may still come."""

    __slots__ = ("at", "data", "items_left")

    def __init__(self, data: bytes, at: int, items_max: int) -> None:
        self.data = data
        self.at = at
        self.items_left = items_max

    def take(self, size: int) -> bytes:
        """The next size bytes."""
        start = self.at
        end = start + size
        if size < 0 or end > len(self.data):
            raise MalformedRequest("a length goes past the end of the request")
        self.at = end
        return self.data[start:end]

    def varint(self) -> int:
        """An unsigned varint of at most 32 bits."""
        data, at = self.data, self.at
        byte = data[at]
        if byte < 0x80:
            self.at = at + 1
            return byte
        value, shift = byte & 0x7F, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > _VARINT_BITS:
                raise MalformedRequest("a varint is too long")
        if value >> _VARINT_BITS:
            raise MalformedRequest("a varint is too large")
        self.at = at + 1
        return value

    def count(self, count: int) -> int:
        """So many elements follow, each of which has a byte at least."""
        if count > len(self.data) - self.at:
            raise MalformedRequest("an array claims more elements than the request has bytes")
        self.items_left -= count
        if self.items_left < 0:
            raise MalformedRequest("the request has too many array elements")
        return count


Read: TypeAlias = Callable[[Input], Any]


# -- lengths: -1 is null -----------------------------------------------------------------------------------------

def _length16(source: Input) -> int:
    source.at += 2
    length: int = _INT16.unpack_from(source.data, source.at - 2)[0]
    return length


def _length32(source: Input) -> int:
    source.at += 4
    length: int = _INT32.unpack_from(source.data, source.at - 4)[0]
    return length


def _compact_length(source: Input) -> int:
    return source.varint() - 1


# -- fields ------------------------------------------------------------------------------------------------------

def _text(length_of: Callable[[Input], int], nullable: bool) -> Read:
    def read(source: Input) -> str | None:
        length = length_of(source)
        if length == -1 and nullable:
            return None
        return source.take(length).decode()

    return read


def _bytes(length_of: Callable[[Input], int], nullable: bool) -> Read:
    def read(source: Input) -> bytes | None:
        length = length_of(source)
        if length == -1 and nullable:
            return None
        return source.take(length)

    return read


def _uuid(source: Input) -> bytes:
    return source.take(16)


def _fixed(kind: str) -> Read:
    layout = struct.Struct(">" + FIXED[kind])
    size = layout.size

    def read(source: Input) -> Any:
        source.at += size
        return layout.unpack_from(source.data, source.at - size)[0]

    return read


def _array(length_of: Callable[[Input], int], element: Read, nullable: bool) -> Read:
    def read(source: Input) -> list[Any] | None:
        length = length_of(source)
        if length < 0:
            if length == -1 and nullable:
                return None
            raise MalformedRequest("an array has a negative length")
        return [element(source) for _ in range(source.count(length))]

    return read


def _nullable_struct(read_struct: Read) -> Read:
    """A byte tells whether it is there.                                                       Source: KIP-893"""
    def read(source: Input) -> Message | None:
        return read_struct(source) if source.take(1) == b"\x01" else None

    return read


def reader_of(field: Field, version: int, *, flexible: bool) -> Read:
    """The reader of one field, array or not."""
    nullable = field.null_since <= version
    if field.type in FIXED:
        one = _fixed(field.type)
    elif field.type == "uuid":
        one = _uuid
    elif field.type == "string":
        one = _text(_compact_length if flexible else _length16, nullable and not field.is_array)
    elif field.type == "bytes":
        one = _bytes(_compact_length if flexible else _length32, nullable and not field.is_array)
    else:
        one = struct_reader(field.fields, version, flexible=flexible)
        if nullable and not field.is_array:
            one = _nullable_struct(one)
    return _array(_compact_length if flexible else _length32, one, nullable) if field.is_array else one


def struct_reader(fields: tuple[Field, ...], version: int, *, flexible: bool) -> Read:
    """The reader of a struct: neighbours of fixed size are unpacked at once."""
    steps: list[tuple[Read | struct.Struct, tuple[str, ...]]] = []
    run: list[Field] = []

    def end_run() -> None:
        if run:
            layout = struct.Struct(">" + "".join(FIXED[field.type] for field in run))
            steps.append((layout, tuple(field.name for field in run)))
            run.clear()

    tagged: dict[int, tuple[str, Read]] = {}
    for field in fields:
        if not field.is_in(version):
            continue
        if field.tag is not None:
            tagged[field.tag] = field.name, reader_of(field, version, flexible=flexible)
        elif field.type in FIXED and not field.is_array:
            run.append(field)
        else:
            end_run()
            steps.append((reader_of(field, version, flexible=flexible), (field.name,)))
    end_run()
    absent = [field for field in fields if not field.is_in(version) or field.tag is not None]

    def read(source: Input) -> Message:
        values: dict[str, Any] = {field.name: field.absent() for field in absent} if absent else {}
        for step, names in steps:
            if isinstance(step, struct.Struct):
                values.update(zip(names, step.unpack_from(source.data, source.at)))
                source.at += step.size
            else:
                values[names[0]] = step(source)
        if flexible:
            _read_tags(source, tagged, values)
        return SimpleNamespace(**values)

    return read


def _read_tags(source: Input, tagged: dict[int, tuple[str, Read]], values: dict[str, Any]) -> None:
    """Known ones must have the size that they say; unknown ones are passed over."""
    for _ in range(source.count(source.varint())):
        tag, size = source.varint(), source.varint()
        end = source.at + size
        if end > len(source.data):
            raise MalformedRequest("a tagged field goes past the end of the request")
        known = tagged.get(tag)
        if known is not None:
            values[known[0]] = known[1](source)
            if source.at != end:
                raise MalformedRequest(f"tagged field {tag} does not have the size that it says")
        source.at = end


def decode(read: Read, data: bytes, at: int, items_max: int) -> Message:
    """Read one message. Raises MalformedRequest and nothing else."""
    try:
        message: Message = read(Input(data, at, items_max))
    except (struct.error, IndexError) as error:
        raise MalformedRequest("the request ends too early") from error
    except UnicodeDecodeError as error:
        raise MalformedRequest("a text is not UTF-8") from error
    return message
