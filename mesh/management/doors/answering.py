"""What goes out of the console listener: a "no" as problem+json or as a page, and the headers that every answer has."""
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from console.management import Refused
from mesh.management.doors.guard import wants_page
from protocols.rest.problems import Problem, problem_response
from protocols.web.fields import FieldRepeated, has

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "meshgate",           # not which library and version
}
OWN_WORD: Final = frozenset(("Content-Security-Policy", "Cache-Control"))   # pages and files of the console have theirs
KINDS: Final = {400: "query-invalid", 401: "bad-credentials", 403: "not-authorized", 404: "not-found"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answering:
    """The outer middleware."""

    def __init__(self, body_bytes_max: int, page: Callable[[Refused], web.Response]) -> None:
        """page: draws a refusal for somebody in a browser."""
        self._body_bytes_max = body_bytes_max
        self._page = page

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        problem: Problem | None = None
        headers: dict[str, str] = {}
        try:
            response = await handler(request)
        except Problem as error:
            problem = error
        except Refused as error:
            problem = Problem(error.status, KINDS.get(error.status, "refused"), error.text)
        except FieldRepeated as error:
            problem = Problem(400, "header-invalid", str(error))
        except web.HTTPException as error:
            problem = self._of_http(request, error)
            if hdrs.ALLOW in error.headers:
                headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        if problem is not None:
            response = self._refused(request, problem)
        response.headers.update(headers)
        if response.prepared:
            return response
        for name, value in SECURITY_HEADERS.items():
            if name not in OWN_WORD or name not in response.headers:
                response.headers[name] = value
        return response

    def _refused(self, request: web.Request, problem: Problem) -> web.Response:
        """In a browser a page, with the status; "/api/" answers programs whatever they accept."""
        if wants_page(request) and "/api/" not in request.path and request.method in ("GET", "HEAD"):
            return self._page(Refused(problem.status, problem.detail))
        response = problem_response(problem)
        if has(request.headers, "Sec-Fetch-Mode"):
            response.headers.popall(hdrs.WWW_AUTHENTICATE, None)    # or the browser opens a box for a password
        return response

    def _of_http(self, request: web.Request, error: web.HTTPException) -> Problem:
        if error.status == 404:
            return Problem(404, "not-found", f"there is no {request.path[:200]}")
        if error.status == 405:
            return Problem(405, "method-not-allowed", f"{request.method[:20]} is not possible here")
        if error.status == 413:
            return Problem(413, "payload-too-large", f"a request body has at most {self._body_bytes_max} bytes")
        return Problem(error.status, "http-error", error.reason)
