"""The pieces that the OpenAPI document is put together from: operations, parameters, answers, problems. No I/O."""
from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from protocols.rest.problem_types import BY_KIND, title_of

Part: TypeAlias = dict[str, Any]
Paths: TypeAlias = dict[str, dict[str, Part]]       # path → method in lower case → operation

# What any request may be answered, whatever it asks for: guard.py, entry.py, auth.py.
ANY = ("malformed-request", "foreign-origin", "foreign-host", "request-timeout", "uri-too-long", "head-too-large",
       "rate-limited", "internal-error", "shutting-down")
LOGIN = ("bad-credentials", "not-authorized", "locked-out", "busy", "quota-exceeded")
BODY = ("payload-too-large", "encoding-unsupported", "body-invalid", "expectation-failed", "overloaded")
STORE = ("storage-full", "storage-failed", "outcome-unknown")
JSON = "application/json"


def ref(name: str) -> Part:
    """A schema of components."""
    return {"$ref": f"#/components/schemas/{name}"}


def operation(
    name: str, tag: str, summary: str, answers: Part, problems: Iterable[str] = (), *, parameters: Iterable[Part] = (),
    body: Part | None = None, login: bool = True, text: str = "",
) -> Part:
    """name: operationId. problems: kinds beside ANY and, where a login is asked for, LOGIN."""
    kinds = [*ANY, *(LOGIN if login else ()), *(BODY if body is not None else ()), *problems]
    made: Part = {"operationId": name, "tags": [tag], "summary": summary}
    if text:
        made["description"] = text
    found = list(parameters)
    if found:
        made["parameters"] = found
    if body is not None:
        made["requestBody"] = body
    made["responses"] = {**answers, **problem_answers(kinds)}
    if not login:
        made["security"] = []
    return made


def problem_answers(kinds: Iterable[str]) -> Part:
    """Status → answer, for all kinds with that status."""
    by_status: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(BY_KIND[kind].status, []).append(kind)
    return {str(status): _problem_answer(status, found) for status, found in sorted(by_status.items())}


def _problem_answer(status: int, kinds: list[str]) -> Part:
    answer: Part = {
        "description": "; ".join(f"{title_of(kind)}: {BY_KIND[kind].advice}" for kind in kinds),
        "content": {"application/problem+json": {"schema": {
            "allOf": [ref("Problem"), {"properties": {"type": {"enum": [f"/problems/{kind}" for kind in kinds]}}}]}}},
    }
    if status in (429, 503, 507):
        answer["headers"] = {"Retry-After": header("seconds to wait", {"type": "string", "pattern": "^[0-9]+$"})}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": header("the ways to log in", {"type": "string"})}
    if status == 405:
        answer["headers"] = {"Allow": header("the methods of this path", {"type": "string"})}
    return answer


def header(text: str, schema: Part) -> Part:
    return {"description": text, "schema": schema}


def json_answer(schema: Part, text: str, status: int = 200) -> Part:
    return {str(status): {"description": text, "content": {JSON: {"schema": schema}}}}


def no_answer(status: int, text: str = "") -> Part:
    return {str(status): {"description": text or HTTPStatus(status).phrase}}


def json_body(schema: Part, *, required: bool = True) -> Part:
    return {"required": required, "content": {JSON: {"schema": schema}}}


def query(name: str, text: str, schema: Part, *, required: bool = False) -> Part:
    made = {"name": name, "in": "query", "description": text, "required": required, "schema": schema}
    if schema.get("type") == "array":
        made |= {"style": "form", "explode": True}
    return made


def path(name: str, text: str, schema: Part | None = None) -> Part:
    return {"name": name, "in": "path", "required": True, "description": text,
            "schema": schema or {"type": "string", "minLength": 1}}


def field(name: str, text: str, schema: Part | None = None) -> Part:
    return {"name": name, "in": "header", "description": text, "required": False, "schema": schema or TEXT}


def obj(required: Part, optional: Part | None = None, text: str = "") -> Part:
    """An object schema; further members may come in later versions."""
    made: Part = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return {**made, "description": text} if text else made


def array(items: Part) -> Part:
    return {"type": "array", "items": items}


def nullable(kind: str) -> Part:
    return {"type": [kind, "null"]}


TEXT: Part = {"type": "string"}
INTEGER: Part = {"type": "integer"}
NUMBER: Part = {"type": "number"}
BOOLEAN: Part = {"type": "boolean"}
