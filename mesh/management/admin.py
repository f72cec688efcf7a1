"""The console listener: health, metrics and the management API. aiohttp, guarded like the REST listener.

    /healthz /readyz                  open to everybody: a probe has no password, and they say little
    /metrics                          Prometheus text
    /api/v1/status  streams  consumers  clients  denials  ledger  policies
    POST   /api/v1/consumers/{name}/seek | pause | resume        DELETE /api/v1/consumers/{name}
    POST   /api/v1/clients/{client id}/kick

Everything but the probes needs the action `manage` (HTTP Basic). Without users the listener is on loopback only, and
requests must name this machine in Host and come from no foreign page (Origin): a web page elsewhere could otherwise
reach a node on the visitor's machine, by DNS rebinding or by a form.
"""
from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from mesh.configuration.address import is_loopback
from mesh.management.api import AdminApi
from mesh.management.metrics import Metrics
from protocols.fields import FieldRepeated, one_of
from protocols.origin import origin_allowed
from protocols.rest.auth import Doorkeeper
from protocols.rest.problems import Problem, problem_of, problem_response
from routing.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node

logger = logging.getLogger(__name__)

BODY_BYTES_MAX = 64 * 1024
OPEN_PATHS = frozenset(("/healthz", "/readyz"))
SAFE_METHODS = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS))
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "meshgate",           # not which library and version
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_admin_app(node: Node) -> web.Application:
    """The aiohttp application of the console listener."""
    keeper = Doorkeeper(node.router, node.authenticator)
    app = web.Application(
        client_max_size=BODY_BYTES_MAX, middlewares=[answer_problems, cast(Middleware, _guard(node, keeper))])
    probes = Probes(node)
    app.router.add_get("/healthz", probes.healthz)
    app.router.add_get("/readyz", probes.readyz)
    app.router.add_get("/metrics", Metrics(node).answer)
    AdminApi(node).add_routes(app.router)
    return app


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Problems and aiohttp's own errors as problem+json; security headers on every answer."""
    try:
        response = await handler(request)
    except Problem as problem:
        response = problem_response(problem)
    except FieldRepeated as error:
        response = problem_response(Problem(400, "header-invalid", str(error)))
    except web.HTTPException as error:
        response = problem_response(_problem_of_http(request, error))
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    response.headers.update(SECURITY_HEADERS)
    return response


def _problem_of_http(request: web.Request, error: web.HTTPException) -> Problem:
    if error.status == 404:
        return Problem(404, "not-found", f"there is no {request.path[:200]}")
    if error.status == 405:
        return Problem(405, "method-not-allowed", f"{request.method[:20]} is not possible here")
    if error.status == 413:
        return Problem(413, "payload-too-large", f"a request body has at most {BODY_BYTES_MAX} bytes")
    return Problem(error.status, "http-error", error.reason)


def _guard(node: Node, keeper: Doorkeeper) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if node.authenticator.open and not is_local_host(one_of(request.headers, hdrs.HOST) or ""):
            raise Problem(403, "foreign-host", "without users this listener answers to localhost only")
        if request.method not in SAFE_METHODS:
            check_origin(request)
        session = await keeper.session(request)
        refusal = node.router.policy.refuse(session.identity, Action.MANAGE, "", node.clock_ms())
        if refusal is not None:
            raise problem_of(refusal)
        if request.method not in SAFE_METHODS:
            logger.info("%s %s by user %s from %s", request.method, request.path, session.identity.user,
                        session.identity.address)
        return await handler(request)
    return guard


def is_local_host(host: str) -> bool:
    """True when a Host header names this machine."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return is_loopback(name.strip("[]"))


def check_origin(request: web.Request) -> None:
    """Refuse what a page of another site sends.                              Source: RFC 6454 §7; hostile.md row 83"""
    origin = one_of(request.headers, hdrs.ORIGIN)
    if origin is not None and not origin_allowed(origin, one_of(request.headers, hdrs.HOST) or "", ()):
        raise Problem(403, "foreign-origin", "requests from pages of other sites are refused")


class Probes:
    """Is the process well, and should it get traffic?"""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def healthz(self, request: web.Request) -> web.Response:
        """503 once a part of the log has failed: the node goes on with the rest, but somebody must look."""
        problems = self._node.problems()
        body = {"status": "failing" if problems else "ok", "problems": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def readyz(self, request: web.Request) -> web.Response:
        ready = self._node.ready
        return web.json_response({"ready": ready, "state": self._node.state}, status=200 if ready else 503)
