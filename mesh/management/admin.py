"""The console listener: probes, metrics, the management API. aiohttp, guarded like the REST listener.

    /healthz /readyz       open to everybody: a probe has no password, and they say little
    /metrics               Prometheus text
    /api/v1/…              api.py
    /…                     the pages of the console

Each of them also below [console] base_path, for a reverse proxy that does not take its prefix away.

With users, all but the probes needs a login and a right (doors.py). Without users the listener is on loopback only, and
requests must name this machine in Host and come from no foreign page (Origin): a web page elsewhere could otherwise
reach a node on the visitor's machine, by DNS rebinding or by a form.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from console.app import Console
from mesh.management.acts.audit import Audit
from mesh.management.api import PREFIX, Api
from mesh.management.doors.answering import Answering
from mesh.management.doors.guard import Guard, Rights
from mesh.management.doors.inside import Inside
from mesh.management.doors.logins import Logins
from mesh.management.doors.oidc import OidcLogin
from mesh.management.figures.live import Live
from mesh.management.figures.metrics import Metrics
from mesh.management.figures.sampler import Sampler
from mesh.management.security.trail import Trail
from mesh.management.sessions import Sessions
from mesh.values.secret import resolve_secret
from protocols.rest.auth import Doorkeeper
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node

BODY_BYTES_MAX = 64 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Management:
    """What the console listener serves, and what works for it in the background."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.audit = Audit(node.router, node.clock_ms, node.key, node.name)
        self.sampler = Sampler(node)
        self.sessions = Sessions(node.router.clock_s, node.clock_ms, node.config.console)
        self.sessions.renew = node.router.logins.renew
        self.sessions.is_held = node.router.logins.holds
        self.sessions.on_end.append(node.router.logins.ended)
        node.authenticator.tokens.logins = self.sessions
        self.live = Live(node, self.sampler)
        self._trail = Trail(self.audit, node, self.sessions)
        self.api = Api(node, self.sampler, self.audit, self.live, self.sessions, self._trail.viewed)
        node.policies.open(self.audit, self.api.security_changed)
        self.rights = Rights()
        self._sampling: asyncio.Task[None] | None = None

    def make_app(self) -> web.Application:
        node = self._node
        keeper = Doorkeeper(node.router, node.authenticator)
        inside = Inside(node, self.api, keeper, self.sessions)
        base = node.config.console.base_path
        console = Console(inside, base)
        answering = Answering(BODY_BYTES_MAX, console.refused)
        guard = Guard(node, keeper, self.sessions, self.rights, self.api.acts, base)

        @web.middleware
        async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await answering.answer(request, handler)

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await guard.check(request, handler)

        app = web.Application(
            client_max_size=BODY_BYTES_MAX, middlewares=[cast(Middleware, answer_problems), cast(Middleware, check)])
        probes, metrics = Probes(node), Metrics(node, lambda: self.live.viewers)
        logins = Logins(keeper, self.sessions, node.http_places)
        oidc = None
        if node.config.oidc is not None:
            oidc = OidcLogin(node.config.oidc, resolve_secret(node.config.oidc.client_secret), keeper, self.sessions,
                             inside.cookie, console.target)

        def add(method: str, path: str, handler: Handler, action: Action | None) -> None:
            if method == "GET":
                app.router.add_get(path, handler)           # and HEAD
            else:
                app.router.add_route(method, path, handler)
            self.rights.set(method, path, action)

        for prefix in dict.fromkeys((base, "")):        # a proxy sends its prefix or keeps it; programs here have none
            add("GET", f"{prefix}/healthz", probes.healthz, None)
            add("GET", f"{prefix}/readyz", probes.readyz, None)
            add("GET", f"{prefix}/metrics", metrics.answer, Action.VIEW)
            self.api.add_routes(app.router, self.rights, guard, prefix)
            add("POST", f"{prefix}{PREFIX}/login", logins.login, None)
            add("POST", f"{prefix}{PREFIX}/logout", logins.logout, None)
            if oidc is not None:
                add("GET", f"{prefix}/login/oidc", oidc.begin, None)
                add("GET", f"{prefix}/login/oidc/back", oidc.back, None)
            console.add_routes(
                app.router, lambda method, path: self.rights.set(method, path, None),
                lambda method, path: self.rights.set(method, path, Action.VIEW), prefix)
        return app

    def start(self) -> None:
        self._sampling = asyncio.get_running_loop().create_task(self.sampler.run())
        self.sampler.on_sample.append(self.audit.heads.tick)
        self.sampler.on_sample.append(lambda: self.api.tables.tidy(self._node.router.clock_s()))

    async def close(self) -> None:
        self.audit.heads.stop()
        if self._sampling is not None:
            self._sampling.cancel()
        self.api.close()


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
