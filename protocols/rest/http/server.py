"""aiohttp's server and runner with guarded connections (guard.py), paced handlers and no access log."""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import _RequestHandler
from aiohttp.web_request import BaseRequest

from protocols.rest.counters import RestCounters
from protocols.rest.http.clients import Clients
from protocols.rest.http.guard import GuardedHandler, TakesRequests
from protocols.rest.settings import RestSettings
from routing.fairness.turns import Turns

CYCLE_S = 0.0002        # what aiohttp does around a handler, which nobody measures


class GuardedServer(web.Server):
    """Makes a GuardedHandler for each accepted connection."""

    def __init__(
        self, inner: web.Server, limits: RestSettings, counters: RestCounters, express: TakesRequests | None,
        turns: Turns,
    ) -> None:
        options = {
            **inner._kwargs,
            "keepalive_timeout": limits.idle_timeout_s,
            "lingering_time": limits.linger_s,
            "max_line_size": limits.head_line_bytes_max,
            "max_field_size": limits.head_line_bytes_max,
            "max_headers": limits.head_fields_max,
            "auto_decompress": False,           # content codings are refused by publish.py, so there is no bomb
        }
        super().__init__(
            inner.request_handler, request_factory=inner.request_factory, handler_cancellation=True, **options,
        )
        self.limits = limits
        self.counters = counters
        self.express = express
        self.turns = turns
        self.clients = Clients()

    def __call__(self) -> GuardedHandler:
        return GuardedHandler(self, loop=self._loop, **self._kwargs)


# A function that an application may carry: it answers the requests that are many, past the application's routing and
# middleware (15 µs of 65 for a POST), and gives None for every other request.
Shortcut = Callable[[web.Request], Awaitable[web.StreamResponse] | None]
SHORTCUT: web.AppKey[Shortcut] = web.AppKey("shortcut", Callable)   # type: ignore[arg-type]  # for its name only
EXPRESS: web.AppKey[TakesRequests] = web.AppKey("express", object)     # type: ignore[arg-type]


class GuardedRunner(web.AppRunner):
    """An AppRunner whose connections are guarded; no access log."""

    __slots__ = ("_counters", "_limits", "_turns")

    def __init__(self, app: web.Application, limits: RestSettings, counters: RestCounters, turns: Turns) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=5.0)
        self._limits = limits
        self._counters = counters
        self._turns = turns

    async def _make_server(self) -> web.Server:
        express = self.app.get(EXPRESS)
        server = GuardedServer(await super()._make_server(), self._limits, self._counters, express, self._turns)
        shortcut = self.app.get(SHORTCUT)
        if shortcut is not None:
            server.request_handler = _shortened(shortcut, server.request_handler)
        server.request_handler = _paced(server.request_handler)
        return server


def _shortened(shortcut: Shortcut, handler: _RequestHandler) -> _RequestHandler:
    def handle(request: BaseRequest) -> Awaitable[web.StreamResponse]:
        return shortcut(cast(web.Request, request)) or handler(request)
    return handle


def _paced(handler: _RequestHandler) -> _RequestHandler:
    async def handle(request: BaseRequest) -> web.StreamResponse:
        pace = cast(GuardedHandler, request.protocol).pace
        await pace.admitted()
        pace.charge(CYCLE_S)
        return await pace.run(cast("Coroutine[Any, Any, web.StreamResponse]", handler(request)))
    return handle
