"""GET /api/v1/openapi.json: the contract of the management API as OpenAPI 3.1, made from the list of what it serves."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mesh.management.acts.call import TEXT, Endpoint, Param, Values
from mesh.management.tables.resources import Resource

PROBLEMS: Final = {
    400: "The request is not as it should be; the text says what is expected.", 401: "Log in.",
    403: "No rule allows it; the text names the rule that decided.", 404: "There is no such thing.",
    405: "See Allow.", 409: "Something is under way that stands in its way.", 413: "The body is too large.",
    414: "The address is too long.", 429: "Too many logins have failed, or too many requests came.",
    431: "Fewer or shorter fields.",
    503: "The node is busy, or could not write down what was to be done.",
    504: "The other node did not answer in time.", 507: "The disk is full: what cannot be written down is not done.",
}
WHERE: Final = Param("node", "Ask this node of the mesh, and answer for it.", {"type": "string", "maxLength": 64})
TABLE: Final = (
    Param("filter", "Terms, as docs/console.md has them."), Param("sort", "Columns; a minus sorts downwards."),
    Param("limit", "Rows of a page.", {"type": "integer", "minimum": 1, "maximum": 10_000}),
    Param("after", "`next` of the page before."), Param("fields", "Columns to show."),
    Param("name", "Rows whose key has this piece in it."), Param("id", "The row with this key."),
    Param("format", "Instead of Accept.", {"type": "string", "enum": ["json", "csv", "ndjson"]}),
    Param("scope", "mesh: the rows of all nodes.", {"type": "string", "enum": ["mesh"]}), WHERE,
)
DRY_RUN: Final = Param("dry_run", "1: say what it would touch, and do nothing.",
                       {"type": "string", "enum": ["0", "1", "false", "true"]})
OBJECT: Final[Values] = {"type": "object"}


def document(version: str, resources: Iterable[Resource], endpoints: Iterable[Endpoint], prefix: str) -> Values:
    paths: dict[str, Values] = {}
    for resource in resources:
        paths[f"{prefix}/{resource.name}"] = {"get": _table(resource)}
    for endpoint in endpoints:
        paths.setdefault(f"{prefix}/{endpoint.path}", {})[endpoint.method.lower()] = _operation(endpoint)
    for name, about, params in (
        ("stream", "Figures and states, live.", (Param("topics", "overview, topology, links, streams, consumers"),)),
        ("tail", "Events as they are stored, live.", (
            Param("filter", "a topic filter"), Param("match", "a piece of the topic or the content"))),
    ):
        paths[f"{prefix}/{name}"] = {"get": {
            "operationId": name, "summary": about, "tags": ["live"], "parameters": _params(params), "responses": {
                "200": {"description": "Server-sent events.", "content": {"text/event-stream": {}}}, **_problems()}}}
    paths[f"{prefix}/openapi.json"] = {"get": {
        "operationId": "openapi", "summary": "This document.", "tags": ["contract"],
        "responses": {"200": _answer(OBJECT), **_problems()}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Meshgate management", "version": version,
                 "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "What the web console and the terminal dashboard see of a node and of its mesh."},
        "servers": [{"url": "/"}], "security": [{}, {"basic": []}, {"bearer": []}, {"apiKey": []}],
        "tags": [{"name": name} for name in ("tables", "reads", "acts", "live", "contract")],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Problem": {
                "type": "object", "required": ["type", "title", "status"], "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                    "detail": {"type": "string"}}}},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"}, "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}},
    }


def _table(resource: Resource) -> Values:
    own = tuple(Param(name, about) for name, about in resource.own_params)
    rows = {"type": "object", "required": [resource.name, "total", "matched", "next"], "properties": {
        resource.name: {"type": "array", "items": OBJECT}, "total": {"type": "integer", "minimum": 0},
        "matched": {"type": "integer", "minimum": 0}, "next": {"type": ["string", "null"]},
        "age_s": {"type": "number"}}}
    answer = _answer(rows)
    answer["content"]["text/csv"] = {}
    answer["content"]["application/x-ndjson"] = {}
    answer["headers"] = {"X-Total-Count": {"schema": {"type": "string"}}, "X-Next": {"schema": {"type": "string"}}}
    return {"operationId": resource.name, "summary": resource.about, "tags": ["tables"],
            "description": f"Needs the right to {resource.action.value}.", "parameters": _params((*TABLE, *own)),
            "responses": {"200": answer, **_problems()}}


def _operation(endpoint: Endpoint) -> Values:
    names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    found: Values = {
        "operationId": f"{endpoint.method.lower()}-{endpoint.path.replace('/', '-').replace('{', '').replace('}', '')}",
        "summary": endpoint.about, "tags": ["acts" if endpoint.is_act else "reads"],
        "description": f"Needs the right to {endpoint.action.value}.",
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
              for name in names),
            *_params((*endpoint.params, WHERE, *((DRY_RUN,) if endpoint.is_act else ())))],
        "responses": {"200": _answer(OBJECT), **_problems()},
    }
    if endpoint.is_act:
        found["parameters"].append({"name": "Idempotency-Key", "in": "header", "description": "Done once for each key.",
                                    "schema": {"type": "string", "maxLength": 200, "pattern": "^[!-~]*$"}})
    if endpoint.body is not None:
        own: Values = {"dry_run": {"type": "boolean"}, "reason": {"type": "string", "maxLength": 500}}
        schema = {"type": "object", "properties": {**endpoint.body, **(own if endpoint.is_act else {})}}
        found["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    return found


def _params(params: Iterable[Param]) -> list[Any]:
    return [{"name": param.name, "in": "query", "description": param.about, "schema": param.schema or TEXT}
            for param in params]


def _answer(schema: Values) -> Values:
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _problems() -> Values:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"description": text, "content": content} for status, text in PROBLEMS.items()}
