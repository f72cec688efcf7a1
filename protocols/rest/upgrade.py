"""GET /v1/ws: the HTTP side of the JSON WebSocket: who knocks, and the page to try it with.

The conversation itself is in protocols/websocket, which comes in as an object, because protocols do not import each
other. Credentials come in the handshake as on any other request, or (browsers cannot set header fields) in the first
message; both go through the same Doorkeeper.
"""
from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from protocols.authentication.authenticator import Authenticator
from protocols.rest.auth import API_KEY, Doorkeeper, certificate_name_of
from protocols.rest.problems import REFUSALS, Problem
from protocols.web.fields import has
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

JSON_WEBSOCKET_PATH = "/v1/ws"
_REASONS = {kind: reason for reason, (_, kind) in REFUSALS.items()}


class LogsIn(Protocol):
    def __call__(self, authorization: str | None, api_key: str | None, request: web.Request,
                 protocol: str) -> Awaitable[Identity | Refusal]: ...


class JsonUpgrade(Protocol):
    """What protocols/websocket gives us."""

    async def handle(self, request: web.Request, *, has_credentials: bool, wait: bool,
                     log_in: LogsIn) -> web.StreamResponse: ...

    async def page(self, request: web.Request) -> web.StreamResponse: ...

    async def shutdown(self) -> None: ...


class WebSocketRoute:
    """Handlers for the routes of app.py."""

    def __init__(self, upgrade: JsonUpgrade, doorkeeper: Doorkeeper, authenticator: Authenticator) -> None:
        self._upgrade = upgrade
        self._doorkeeper = doorkeeper
        self._authenticator = authenticator

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(JSON_WEBSOCKET_PATH, self.get, allow_head=False)
        router.add_get("/v1/ws/example", self._upgrade.page, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        shown = (has(request.headers, hdrs.AUTHORIZATION) or has(request.headers, API_KEY)
                 or certificate_name_of(request))
        return await self._upgrade.handle(
            request, has_credentials=bool(shown), wait=not self._authenticator.open, log_in=self._log_in)

    async def _log_in(self, authorization: str | None, api_key: str | None, request: web.Request,
                      protocol: str) -> Identity | Refusal:
        """As if the credentials had stood in a request; None, None: those that the handshake had."""
        asked = request
        if authorization is not None or api_key is not None:
            headers = request.headers.copy()
            for name, value in ((hdrs.AUTHORIZATION, authorization), (API_KEY, api_key)):
                headers.popall(name, None)
                if value is not None:
                    headers[name] = value
            asked = request.clone(headers=headers)
        try:
            session = await self._doorkeeper.session(asked)
        except Problem as problem:
            fallback = {429: Reason.QUOTA_EXCEEDED, 503: Reason.BUSY}.get(problem.status, Reason.BAD_CREDENTIALS)
            return Refusal(_REASONS.get(problem.kind, fallback), problem.detail)
        return msgspec.structs.replace(session.identity, protocol=protocol)
