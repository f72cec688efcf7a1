"""Logging in from a terminal: a password once, then a token that lives like a session in a browser.

    POST /api/v1/login {"user", "password"}     → {"token", "user", "idle_s", "life_s", "http"}
    POST /api/v1/logout                         Authorization: Bearer TOKEN

The token is the secret of a session (sessions.py) with a prefix, so that nobody takes it for an API key. It ends after
half an hour without a request, after twelve hours anyway, at logout, and when the node restarts. It is a proof at the
listeners of clients, too: "http" says where `meshgate pub` and `sub` go, on the host that was asked.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import hdrs, web

from mesh.identity.tokens import LOGIN_PREFIX
from mesh.management.answers import json_answer
from mesh.management.sessions import TERMINAL, Sessions
from protocols.rest.problems import Problem
from protocols.web.fields import one_of

if TYPE_CHECKING:
    from protocols.rest.auth import Doorkeeper

TOKEN_PREFIX: Final = LOGIN_PREFIX.decode()


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a terminal sends."""

    user: str
    password: str


def token_of(request: web.Request) -> str:
    """The secret of a session that came as a bearer token; "" when there is none."""
    scheme, _, token = (one_of(request.headers, hdrs.AUTHORIZATION) or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token.startswith(TOKEN_PREFIX):
        return ""
    return token.removeprefix(TOKEN_PREFIX)


class Logins:
    """The two handlers."""

    def __init__(self, keeper: Doorkeeper, sessions: Sessions, http: Callable[[], list[dict[str, Any]]]) -> None:
        """http: the ports of the HTTP listener, and which of them have TLS."""
        self._keeper = keeper
        self._sessions = sessions
        self._http = http

    async def login(self, request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read(), type=LoginBody)
        except (msgspec.MsgspecError, RecursionError):
            raise Problem(400, "body-invalid", 'the body is {"user": "…", "password": "…"}') from None
        if not body.user:
            raise Problem(400, "body-invalid", "a login needs the name of a user")
        identity = await self._keeper.login(request, body.user, body.password.encode("utf-8", "surrogatepass"))
        secret = self._sessions.open(identity, TERMINAL)
        return json_answer({"token": TOKEN_PREFIX + secret, "user": identity.user, "roles": list(identity.roles),
                            "idle_s": self._sessions.settings.session_idle_s,
                            "life_s": self._sessions.settings.session_s, "http": self._http()})

    async def logout(self, request: web.Request) -> web.Response:
        """Also of a session that has ended already."""
        secret = token_of(request)
        if not secret:
            raise Problem(400, "header-invalid", f"logout needs Authorization: Bearer {TOKEN_PREFIX}…")
        self._sessions.close(secret)
        return json_answer({"ended": True})
