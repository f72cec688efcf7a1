"""What happens to every request before its handler: web pages from elsewhere, CORS, rate limits; and the header fields
that these put on every answer, also on one that is a stream. Used by app.py.

A request carries the fields of its answer under EXTRA. Without CORS and rate limits configured there are none, and
nothing is done.
"""
from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import hdrs, web

from protocols.authentication.authenticator import Authenticator
from protocols.rest.auth import address_of
from protocols.rest.cors import Cors
from protocols.rest.http.answer import PreparedAnswer
from protocols.rest.problems import Problem
from protocols.rest.ratelimit import Per, RateLimits, Standing, fields_of
from protocols.rest.settings import RestSettings
from protocols.transport.network import network_of
from protocols.web.fields import one_of
from protocols.web.origin import names_this_machine, origin_allowed
from routing.rights.policy import ANONYMOUS, Identity

# aiohttp 3.14 wants typed keys and warns about others; those before do not have them.
_key: Any = getattr(web, "RequestKey", lambda name, kind: f"meshgate.{name}")
EXTRA = _key("extra", dict)
STANDINGS = _key("standings", list)


class Entry:
    """The rules of one listener."""

    def __init__(self, settings: RestSettings, authenticator: Authenticator) -> None:
        self.websocket_paths: frozenset[str] = frozenset()      # whose handshakes check Origin by a list of their own
        self.cors = Cors(settings.cors)
        self._limits = RateLimits(settings.rate_limits)
        self._authenticator = authenticator
        self.adds_fields = self.cors.configured or self._limits.configured

    def admit(self, request: web.Request) -> None:
        """Raises Problem (403, 429)."""
        host = one_of(request.headers, hdrs.HOST) or ""
        origin = one_of(request.headers, hdrs.ORIGIN)
        if self.adds_fields:
            request[EXTRA] = {"Vary": "Origin"} if self.cors.configured else {}
        if origin is not None and not self._is_handshake(request) and not origin_allowed(origin, host, ()):
            if not self.cors.allows(origin):
                raise Problem(403, "foreign-origin", "pages of this origin are not served; see http.cors.origins")
            request[EXTRA].update(self.cors.fields(origin))
        if self._authenticator.open and host and not names_this_machine(host):  # no browser leaves Host out
            raise Problem(403, "foreign-host", "without users this node serves requests to localhost only; "
                          "ask for it by that name, or configure users")
        if self._limits.configured:
            self._count(request, Per.ADDRESS, network_of(address_of(request)))

    def _is_handshake(self, request: web.Request) -> bool:
        """By where it goes, and by nothing that the request says of itself."""
        return request.method == "GET" and request.rel_url.raw_path in self.websocket_paths

    def count_user(self, request: web.Request, identity: Identity) -> None:
        """Called by the doorkeeper for every request that has logged in. Raises Problem (429)."""
        if self._limits.configured:
            anonymous = identity.user == ANONYMOUS
            self._count(request, Per.USER, network_of(address_of(request)) if anonymous else f"user {identity.user}")

    def _count(self, request: web.Request, per: Per, client: str) -> None:
        standings: list[Standing] = self._limits.take(per, client, asyncio.get_running_loop().time())
        if not standings:
            return
        known: list[Standing] = request.get(STANDINGS, [])
        request[STANDINGS] = known + standings
        request.setdefault(EXTRA, {}).update(fields_of(request[STANDINGS]))
        for standing in standings:
            if not standing.allowed:
                limit = standing.limit
                raise Problem(
                    429, "rate-limited", f"{limit.requests} requests in {limit.window_s:g} s are the limit "
                    f"{limit.name} of each {limit.per.value}", {"Retry-After": str(standing.retry_after_s)})

    async def add_fields(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal of the application: the head of an answer is about to be written."""
        extra = request.get(EXTRA)
        if extra:
            response.headers.update(extra)

    def finish(self, request: web.Request, response: web.StreamResponse) -> None:
        """The fields of an answer that has not begun, whichever way it takes."""
        extra = request.get(EXTRA)
        if not extra:
            return
        if isinstance(response, PreparedAnswer):
            response.extra = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
        elif not response.prepared:
            response.headers.update(extra)
