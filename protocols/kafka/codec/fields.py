"""The fields of Kafka's messages, by version: a small notation and its parser. Used by schema.py.

    name   type        versions  other                 A line is a field; { … } encloses the fields of a struct.

    session_id int32 7+ = -1         from version 7 on; before, and where nobody sets it, it is -1
    metadata string?                 may be null; string?2+ may be null from version 2 on
    topics []string                  an array; []?1+ one that may be null
    partitions [] 2-5 {              an array of structs
        index int32
    }
    rack string 9+ tag=0             a tagged field, which is written only when it is not its default

Names and types are those of Apache Kafka's message definitions.                                       Source: KIP-482
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

LAST = 32_767               # a version that is never reached

_LINE = re.compile(
    r"(?P<name>\w+)\s*(?P<array>\[\])?(?P<type>[a-z]\w*)?\s*(?P<null>\?(?P<since>\d+)?\+?)?"
    r"(?:\s+(?P<low>\d+)(?P<more>\+|-(?P<high>\d+))?)?(?:\s+tag=(?P<tag>\d+))?(?:\s+=\s*(?P<default>\S+))?"
    r"\s*(?P<open>\{)?")

TYPES = frozenset({"bool", "int8", "int16", "int32", "int64", "float64", "string", "bytes", "uuid"})
ZERO_UUID = bytes(16)
_EMPTY: dict[str, Any] = {"bool": False, "float64": 0.0, "string": "", "bytes": b"", "uuid": ZERO_UUID}


class Field(msgspec.Struct):
    """One field. type is one of TYPES, or "" for a struct, whose fields stand in fields."""

    name: str
    type: str
    is_array: bool
    null_since: int             # the first version in which it may be null
    first: int
    last: int
    tag: int | None
    default: Any                # of a value that is not an array nor a struct
    fields: tuple[Field, ...]

    def is_in(self, version: int) -> bool:
        return self.first <= version <= self.last

    def absent(self) -> Any:
        """The value of the field in a version that does not have it."""
        if self.is_array:
            return None if self.null_since == self.first else []
        return self.default


def parse(text: str) -> tuple[Field, ...]:
    """The fields of one message. Raises ValueError for what the notation does not know."""
    lines = iter([line.strip() for line in text.splitlines() if line.strip()])
    return tuple(_fields(lines, ends=False))


def _fields(lines: Iterator[str], *, ends: bool) -> Iterator[Field]:
    """ends: of a struct within, up to its }."""
    for line in lines:
        if line == "}" and ends:
            return
        found = _LINE.fullmatch(line)
        if found is None or (found["type"] is None) == (found["open"] is None):
            raise ValueError(f"not a field: {line}")
        if found["type"] is not None and found["type"] not in TYPES:
            raise ValueError(f"not a type: {line}")
        yield _field(found, tuple(_fields(lines, ends=True)) if found["open"] else ())
    if ends:
        raise ValueError("a } is missing")


def _field(found: re.Match[str], inner: tuple[Field, ...]) -> Field:
    low = int(found["low"] or 0)
    high = LAST if found["low"] is None or found["more"] == "+" else int(found["high"] or low)
    null_since = LAST + 1 if found["null"] is None else int(found["since"] or low)
    return Field(
        found["name"], found["type"] or "", found["array"] is not None, null_since, low, high,
        None if found["tag"] is None else int(found["tag"]),
        _default(found["type"] or "", found["default"], nullable=found["null"] is not None), inner)


def _default(type: str, text: str | None, *, nullable: bool) -> Any:
    if text == "null" or (text is None and nullable):
        return None
    if text is None:
        return _EMPTY.get(type, 0) if type else None
    return text == "true" if type == "bool" else int(text)
