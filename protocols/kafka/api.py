"""An API of Kafka and its handler: what a file in apis/ makes, and how all of them are found.

    API = Api(SCHEMA, handle)           in apis/…/heartbeat.py: that alone serves it, and lists it in ApiVersions
"""
from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from protocols.kafka.codec.header import Header, response_frame
from protocols.kafka.codec.read import Message as Message
from protocols.kafka.codec.schema import Schema
from protocols.kafka.codec.write import Out
from protocols.kafka.runtime.call import Call as Call

API_VERSIONS = 18
LONG_ROWS = 500             # a response with more is written in steps: some milliseconds
ROWS_PER_REST = 16
Values: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[Call, Message], Coroutine[Any, Any, Values | None]]
Awaited: TypeAlias = Awaitable[Values | None]


class Api:
    """One API that is served. handle(call, request) gives the response, None for no answer at all."""

    __slots__ = ("before_login", "handle", "schema")

    def __init__(self, schema: Schema, handle: Handler, *, before_login: bool = False) -> None:
        self.schema = schema
        self.handle = handle
        self.before_login = before_login

    def encoded(self, header: Header, values: Values | None) -> bytes:
        """The frame of a response; without values there is none."""
        if values is None:
            return b""
        body: Out = []
        self.schema.encode_response(body, values, header.version)
        return self._framed(header, body)

    async def encoded_in_steps(self, header: Header, values: Values, rest: Callable[[], Awaitable[None]]) -> bytes:
        """The same of a response that is long: others have the loop in between."""
        body: Out = []
        for number, _ in enumerate(self.schema.encode_steps(body, values, header.version)):
            if number % ROWS_PER_REST == 0:
                await rest()
        return self._framed(header, body)

    def _framed(self, header: Header, body: Out) -> bytes:
        return response_frame(header.correlation_id, body,
                              tags=header.api_key != API_VERSIONS and self.schema.is_flexible(header.version))


def is_long(values: Values) -> bool:
    """Rows, and rows of rows: so many that they are not to be written at once."""
    rows = 0
    for value in values.values():
        if type(value) is list:
            rows += len(value)
            for row in value if rows <= LONG_ROWS else ():
                if type(row) is dict:
                    rows += sum(len(inner) for inner in row.values() if type(inner) is list)
                if rows > LONG_ROWS:
                    break
    return rows > LONG_ROWS


def find_apis() -> dict[int, Api]:
    """Every API that a file in apis/ serves, by its key. Two for one key are a mistake of ours."""
    package = importlib.import_module("protocols.kafka.apis")
    found: dict[int, Api] = {}
    for entry in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        api = getattr(importlib.import_module(entry.name), "API", None)
        if api is not None:
            assert isinstance(api, Api) and api.schema.key not in found, entry.name
            found[api.schema.key] = api
    return dict(sorted(found.items()))
