"""Answers that say no: RFC 9457 problem+json with stable types. One table from Reason to status and type.

Types are relative URIs (RFC 9457 §3.1.1 allows them); problem_types.py lists them, docs/problems.md explains them.
Texts never hold a secret, and everything in them is JSON text in the body, never a header, so that no input can split
the response.
"""
from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from protocols.rest.problem_types import title_of
from routing.errors import Reason, Refusal

CONTENT_TYPE = "application/problem+json"
SERVER = "meshgate"             # instead of aiohttp's, which tells versions


class Problem(Exception):
    """Raised by a handler of this package, answered by the middleware in app.py."""

    def __init__(self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None,
                 members: dict[str, object] | None = None) -> None:
        """members: more of the answer than RFC 9457 has names for (§3.2)."""
        super().__init__(detail)
        self.status = status
        self.kind = kind            # last segment of the type URI
        self.detail = detail
        self.headers = headers
        self.members = members or {}


# Reason → status, last segment of the type URI. RFC 9110 §15, RFC 6585, RFC 4918 §11.5 (507).
REFUSALS: dict[Reason, tuple[int, str]] = {
    Reason.NOT_AUTHORIZED: (403, "not-authorized"),
    Reason.BAD_CREDENTIALS: (401, "bad-credentials"),
    Reason.LOCKED_OUT: (429, "locked-out"),
    Reason.BUSY: (503, "busy"),
    Reason.TOPIC_INVALID: (400, "topic-invalid"),
    Reason.FILTER_INVALID: (400, "filter-invalid"),
    Reason.PAYLOAD_TOO_LARGE: (413, "payload-too-large"),
    Reason.PAYLOAD_INVALID: (400, "payload-invalid"),
    Reason.QUOTA_EXCEEDED: (429, "quota-exceeded"),
    Reason.STORAGE_FULL: (507, "storage-full"),
    Reason.STORAGE_FAILED: (500, "storage-failed"),
    Reason.NOT_FOUND: (404, "not-found"),
    Reason.CONFLICT: (409, "conflict"),
    Reason.SHUTTING_DOWN: (503, "shutting-down"),
    Reason.TARGET_REFUSED: (422, "target-refused"),
}

_RETRY_AFTER_S = {429: "1", 503: "1", 507: "5"}       # RFC 9110 §10.2.3; a hint, storage is tried once a second
_CHALLENGE = 'Basic realm="meshgate", charset="UTF-8", Bearer realm="meshgate"'   # RFC 7617 §2.1, RFC 6750 §3


def problem_of(refusal: Refusal) -> Problem:
    """The Problem for an expected "no" of the router or the authenticator."""
    status, kind = REFUSALS.get(refusal.reason, (400, "refused"))
    retry_after_s = refusal.retry_after_s
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else None
    return Problem(status, kind, refusal.text, headers)


def problem_members(problem: Problem) -> dict[str, object]:
    """The members of RFC 9457 §3.1, for a problem that stands inside of an answer."""
    return _members(problem.status, problem.kind, problem.detail)


def _members(status: int, kind: str, detail: str) -> dict[str, object]:
    # A detail may quote what the client sent; undecodable bytes in it are shown as escapes.
    text = detail.encode("utf-8", "backslashreplace").decode()
    return {"type": f"/problems/{kind}", "title": title_of(kind), "status": status, "detail": text}


def problem_body(status: int, kind: str, detail: str) -> bytes:
    return msgspec.json.encode(_members(status, kind, detail))


def problem_headers(status: int) -> dict[str, str]:
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", "Server": SERVER}
    if status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    if status in _RETRY_AFTER_S:
        headers["Retry-After"] = _RETRY_AFTER_S[status]
    return headers


def problem_response(problem: Problem, *, close: bool = False) -> web.Response:
    """A response for aiohttp; close: the connection ends after it."""
    headers = problem_headers(problem.status)
    if problem.headers:
        headers.update(problem.headers)
    body = msgspec.json.encode({**problem.members, **_members(problem.status, problem.kind, problem.detail)})
    response = web.Response(status=problem.status, body=body, headers=headers)
    if close:
        response.force_close()
    return response


def raw_problem(status: int, kind: str, detail: str) -> bytes:
    """A whole HTTP/1.1 response that closes the connection, for answers below aiohttp's request cycle."""
    body = problem_body(status, kind, detail)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in problem_headers(status).items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii") + body
