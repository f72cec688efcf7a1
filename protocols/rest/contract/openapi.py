"""GET /v1/openapi.json: the contract of the HTTP listener as OpenAPI 3.1. Open to everybody, as it tells no secret.

The document holds the routes that this listener has, and no other: tests fail for a route that is not described
(openapi_events.py, openapi_consumers.py) and for a type of problem that no answer names.
"""
from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from protocols.rest.contract.openapi_consumers import consumer_paths
from protocols.rest.contract.openapi_events import event_paths, other_paths
from protocols.rest.contract.openapi_parts import Part, Paths, problem_answers
from protocols.rest.contract.openapi_schemas import schemas
from protocols.rest.problems import SERVER

FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-cache", "Server": SERVER}
# Answers below aiohttp's routing, which belong to no operation.
CONNECTION_PROBLEMS = ("too-many-connections", "method-not-allowed", "expectation-failed")


def described() -> Paths:
    """Every path that is described, whether this listener has it or not."""
    return {**event_paths(), **consumer_paths(), **other_paths()}


def document(version: str, routes: Iterable[tuple[str, str]]) -> Part:
    """routes: (method, path) of the listener. Those that are not described are left out; a test looks for them."""
    known = described()
    paths: Paths = {}
    for method, path in routes:
        operation = known.get(path, {}).get(method.lower())
        if operation is not None:
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meshgate", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Publish events, read them live or from any place of the log, and consume them durably. "
                           "Refusals are RFC 9457 problems with stable types."},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in ("events", "streams", "consumers", "websocket", "contract")],
        "security": [{}, {"basic": []}, {"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": {f"Status{status}": answer for status, answer in problem_answers(CONNECTION_PROBLEMS).items()},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "A JSON Web Token or an API key."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def routes_of(app: web.Application) -> list[tuple[str, str]]:
    """(method, path) of everything that is served."""
    return [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None]


class OpenApiEndpoint:
    """The handler. The document is made once, when somebody asks for the first time."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._body = b""

    async def get(self, request: web.Request) -> web.StreamResponse:
        if not self._body:
            self._body = msgspec.json.encode(document(self._version, routes_of(request.app)))
        return web.Response(body=self._body, headers=FIELDS)
