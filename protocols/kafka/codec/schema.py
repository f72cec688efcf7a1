"""Schema: one API of Kafka, its key, its versions and its two messages. Readers and writers are made when first used.

Used by the files in apis/, and by tests for the other direction (a request written, a response read).
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from protocols.kafka.codec.fields import LAST, Field, parse
from protocols.kafka.codec.read import Message, Read, decode, struct_reader
from protocols.kafka.codec.write import Out, Write, WriteSteps, step_writer, struct_writer

ITEMS_MAX = 10_000          # array elements of one request, unless the settings say otherwise


class Schema:
    """Loop thread only, as it compiles what is first asked for."""

    def __init__(self, key: int, name: str, first: int, last: int, flexible: int | None, request: str,
                 response: str, listed_from: int | None = None) -> None:
        """first, last: versions served.  flexible: the first version with compact lengths and tags; None: no version.

        listed_from: the lowest version that ApiVersions lists, where clients want a lower one than is served.
        """
        self.key = key
        self.name = name
        self.first = first
        self.last = last
        self.listed_from = first if listed_from is None else listed_from
        self._flexible = LAST + 1 if flexible is None else flexible
        self.request: tuple[Field, ...] = parse(request)
        self.response: tuple[Field, ...] = parse(response)
        self._readers: dict[tuple[bool, int], Read] = {}
        self._writers: dict[tuple[bool, int], Write] = {}
        self._step_writers: dict[int, WriteSteps] = {}          # of responses

    def serves(self, version: int) -> bool:
        return self.first <= version <= self.last

    def is_flexible(self, version: int) -> bool:
        return version >= self._flexible

    def _read(self, is_request: bool, version: int) -> Read:
        found = self._readers.get((is_request, version))
        if found is None:
            fields = self.request if is_request else self.response
            found = self._readers[is_request, version] = struct_reader(
                fields, version, flexible=self.is_flexible(version))
        return found

    def _write(self, is_request: bool, version: int) -> Write:
        found = self._writers.get((is_request, version))
        if found is None:
            fields = self.request if is_request else self.response
            found = self._writers[is_request, version] = struct_writer(
                fields, version, flexible=self.is_flexible(version))
        return found

    def decode_request(self, data: bytes, at: int, version: int, items_max: int = ITEMS_MAX) -> Message:
        """The body that begins at at. Raises MalformedRequest."""
        return decode(self._read(True, version), data, at, items_max)

    def encode_response(self, out: Out, values: Mapping[str, Any], version: int) -> None:
        self._write(False, version)(out, values)

    def encode_steps(self, out: Out, values: Mapping[str, Any], version: int) -> Iterator[None]:
        """A response that is long, a row at a time."""
        found = self._step_writers.get(version)
        if found is None:
            found = self._step_writers[version] = step_writer(
                self.response, version, flexible=self.is_flexible(version))
        return found(out, values)

    def encode_request(self, out: Out, values: Mapping[str, Any], version: int) -> None:
        """For tests and tools that speak as a client."""
        self._write(True, version)(out, values)

    def decode_response(self, data: bytes, at: int, version: int) -> Message:
        """For tests and tools that speak as a client."""
        return decode(self._read(False, version), data, at, 1 << 24)
