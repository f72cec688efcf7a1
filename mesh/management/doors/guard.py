"""Who may come in at the console listener, and to what: one guard for the API and for the pages.

    path open to all? ▸ host and origin ▸ who (cookie, Basic, Bearer, certificate) ▸ right of the route ▸ handler

A route without an entry in its table of rights cannot be reached (fail closed); a test walks all of them.
"""
from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import hdrs, web

from mesh.management.acts.call import IDENTITY
from mesh.management.doors.local import local_identity
from mesh.management.doors.logins import token_of
from mesh.management.doors.prefix import outer_path
from mesh.management.sessions import Sessions
from mesh.values.address import is_loopback
from protocols.rest.auth import API_KEY, Doorkeeper
from protocols.rest.problems import Problem, problem_of
from protocols.web.fields import cookie_of, has, one_of, tokens_of
from protocols.web.origin import origin_allowed
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from mesh.management.acts.act import Acts
    from mesh.node import Node

logger = logging.getLogger(__name__)

SAFE_METHODS = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rights:
    """Which right each route needs: (method, path as it was added) → action, or None: open to everybody."""

    def __init__(self) -> None:
        self._by_route: dict[tuple[str, str], Action | None] = {}

    def set(self, method: str, path: str, action: Action | None) -> None:
        self._by_route[method, path] = action

    def of(self, request: web.Request) -> Action | None:
        """MANAGE for a route that nobody gave a right to. A path that there is not needs VIEW, to be told so."""
        resource = request.match_info.route.resource
        if resource is None:
            return Action.VIEW
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        return self._by_route.get((method, resource.canonical), Action.MANAGE)

    def known(self, method: str, path: str) -> bool:
        return (method, path) in self._by_route


class Guard:
    """The middleware."""

    def __init__(self, node: Node, keeper: Doorkeeper, sessions: Sessions, rights: Rights, acts: Acts,
                 base_path: str) -> None:
        self._node = node
        self._keeper = keeper
        self._sessions = sessions
        self._rights = rights
        self._acts = acts
        self._base_path = base_path

    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        action = self._rights.of(request)
        local = is_local_host(one_of(request.headers, hdrs.HOST) or "")
        if self._node.authenticator.open and action is not None and not local:
            raise Problem(403, "foreign-host", "without users this listener answers to localhost only")
        if request.method not in SAFE_METHODS:
            check_origin(request)
        if action is None:
            return await handler(request)
        identity = await self.identity(request)
        if identity is None:
            return self._to_login(request)
        request[IDENTITY] = identity
        refusal = self._node.router.policy.refuse(identity, action, "", self._node.clock_ms())
        if refusal is not None:
            if request.method not in SAFE_METHODS:
                await self._acts.refused(identity, f"{request.method} {request.path}", refusal.text)
            raise problem_of(refusal)
        if request.method not in SAFE_METHODS:
            logger.info("%s %s by user %s from %s", request.method, request.path, identity.user, identity.address)
        return await handler(request)

    async def identity(self, request: web.Request) -> Identity | None:
        """None: a person in a browser who has to log in. Raises Problem for a program that may not come in."""
        login = self._local(request) or self._token_identity(request) or self.session_identity(request)
        if login is not None:
            return login
        if not self._node.authenticator.open and wants_page(request) and not has_credentials(request):
            return None
        return (await self._keeper.session(request)).identity

    def _local(self, request: web.Request) -> Identity | None:
        """Who runs the node, at its Unix socket; he may as well log in as somebody else."""
        if self._node.authenticator.open or has_login_field(request) or request.transport is None:
            return None
        return local_identity(request.transport.get_extra_info("socket"))

    def _token_identity(self, request: web.Request) -> Identity | None:
        """Of the token of a login from a terminal. Raises Problem (401) once that has ended."""
        secret = token_of(request)
        if not secret:
            return None
        identity = self._sessions.identity(secret)
        if identity is None:
            raise Problem(401, "bad-credentials", "the login has ended: log in again")
        return identity

    def session_identity(self, request: web.Request) -> Identity | None:
        """Of the cookie. An act by cookie alone must come from our own page, and the browser must say so."""
        if has_login_field(request):
            return None
        secret = secret_of(request, self._sessions)
        if not secret or self._sessions.find(secret) is None:
            return None
        if request.method not in SAFE_METHODS and not says_own_page(request):
            raise Problem(403, "foreign-origin", "a browser must say from which page a request comes; programs log in "
                                                 "with Authorization")
        return self._sessions.identity(secret)

    def alive(self, request: web.Request) -> Callable[[], bool]:
        """For an answer that goes on: does the login behind it still hold, with the right that it needs?"""
        identity = request[IDENTITY]
        secret = token_of(request)
        by_session = bool(secret)
        if not by_session:
            secret = secret_of(request, self._sessions)
            by_session = bool(secret) and self.session_identity(request) is not None

        def holds() -> bool:
            if by_session and self._sessions.find(secret, touch=False) is None:
                return False
            now = self._node.router.logins.renew(identity)
            return self._node.router.policy.decide(now, Action.VIEW).allowed
        return holds

    def _to_login(self, request: web.Request) -> web.StreamResponse:
        if has(request.headers, "HX-Request"):
            raise Problem(401, "bad-credentials", "the session has ended: log in again")
        target = f"{self._base_path}/login?to={quote(outer_path(request, self._base_path), safe='/')}"
        return web.Response(status=303, headers={"Location": target})


def secret_of(request: web.Request, sessions: Sessions) -> str:
    """The secret of a session in a browser, "" without one."""
    return cookie_of(request.headers, sessions.cookie(request.secure))


def wants_page(request: web.Request) -> bool:
    accepted = (kind.partition(";")[0].strip() for kind in tokens_of(request.headers, hdrs.ACCEPT))
    return "text/html" in accepted or has(request.headers, "HX-Request")


def has_credentials(request: web.Request) -> bool:
    transport = request.transport
    return has_login_field(request) or (transport is not None and bool(transport.get_extra_info("peercert")))


def has_login_field(request: web.Request) -> bool:
    return has(request.headers, hdrs.AUTHORIZATION) or has(request.headers, API_KEY)


def is_local_host(host: str) -> bool:
    """True when a Host header names this machine."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return is_loopback(name.strip("[]"))


def says_own_page(request: web.Request) -> bool:
    """The browser itself says that the request comes from a page of this listener.

    Source: Fetch Metadata Request Headers §2.1; RFC 6454 §7
    """
    site = one_of(request.headers, "Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = one_of(request.headers, hdrs.ORIGIN)
    return origin is not None and origin_allowed(origin, one_of(request.headers, hdrs.HOST) or "", ())


def check_origin(request: web.Request) -> None:
    """Refuse what a page of another site sends.                              Source: RFC 6454 §7"""
    says = has(request.headers, hdrs.ORIGIN) or has(request.headers, "Sec-Fetch-Site")
    if says and not says_own_page(request):
        raise Problem(403, "foreign-origin", "requests from pages of other sites are refused")


