"""Login by OpenID Connect: the code flow with PKCE, for people in a browser.

    GET /login/oidc?to=…       ──► 303 to the issuer, with state, nonce and challenge
    GET /login/oidc/back?code= ◄── from there; code ──► token endpoint ──► ID token ──► session

The ID token is checked as any other token of that issuer is ([[jwt]]: keys, audience, claims to user and roles), and
must hold the nonce of this login. state is bound to the browser by a cookie, so that nobody is logged in as somebody
else by a link. Sources: OpenID Connect Core 1.0 §3.1, RFC 7636 (PKCE), RFC 9700 §2.1.
"""
from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from aiohttp import web

from mesh.identity.auth_settings import OidcSettings
from mesh.management.sessions import BROWSER
from mesh.system.tls import system_trust
from protocols.rest.problems import Problem
from protocols.web.fields import cookie_of

if TYPE_CHECKING:
    from mesh.management.sessions import Sessions
    from protocols.rest.auth import Doorkeeper

logger = logging.getLogger(__name__)

PENDING_MAX: Final = 1_000              # logins that were sent to the issuer; the oldest goes
PENDING_S: Final = 600.0
DISCOVERY_S: Final = 600.0              # what the issuer says of itself is asked for again
ANSWER_BYTES_MAX: Final = 64 * 1024
TARGET_MAX: Final = 2_000
CODE_MAX: Final = 4_096
COOKIE: Final = "meshgate-login-state"


class Pending(msgspec.Struct, frozen=True):
    verifier: str
    nonce: str
    target: str
    made_s: float


class Places(msgspec.Struct):
    """Of the discovery document (OpenID Connect Discovery 1.0 §3), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str


class OidcLogin:
    """One per node. session_cookie: the name for a request; target: a page of ours, whatever was asked for."""

    def __init__(self, settings: OidcSettings, secret: str, keeper: Doorkeeper, sessions: Sessions,
                 session_cookie: Callable[[web.Request], str], target: Callable[[str], str]) -> None:
        self._settings = settings
        self._secret = secret
        self._keeper = keeper
        self._sessions = sessions
        self._cookie = session_cookie
        self._target = target
        self._pending: dict[str, Pending] = {}
        self._places: tuple[float, Places] | None = None

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Raises Problem (502, 504) when the issuer cannot be asked."""
        places = await self._discover()
        now_s = asyncio.get_running_loop().time()
        for state in [state for state, one in self._pending.items() if now_s - one.made_s > PENDING_S]:
            del self._pending[state]
        if len(self._pending) >= PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        target = self._target(request.query.get("to", "")[:TARGET_MAX])
        self._pending[state] = Pending(verifier, nonce, target, now_s)
        query = {"response_type": "code", "client_id": self._settings.client_id, "state": state, "nonce": nonce,
                 "redirect_uri": self._settings.redirect, "scope": " ".join(self._settings.scopes),
                 "code_challenge": challenge_of(verifier), "code_challenge_method": "S256"}
        sign = "&" if urlsplit(places.authorization_endpoint).query else "?"
        response = web.Response(status=303, headers={
            "Location": f"{places.authorization_endpoint}{sign}{urlencode(query)}"})
        response.set_cookie(COOKIE, state, path="/", httponly=True, samesite="Lax", secure=request.secure,
                            max_age=int(PENDING_S))
        return response

    async def back(self, request: web.Request) -> web.StreamResponse:
        """Raises Problem (400, 401, 403, 502, 504)."""
        state = request.query.get("state", "")
        pending = self._pending.pop(state, None) if state else None
        known = cookie_of(request.headers, COOKIE)
        now_s = asyncio.get_running_loop().time()
        if pending is None or not secrets.compare_digest(known.encode(), state.encode()) or (
                now_s - pending.made_s > PENDING_S):
            raise Problem(400, "query-invalid", "this login was not begun in this browser, or too long ago; try again")
        if "error" in request.query:
            raise Problem(401, "bad-credentials", f"the issuer refused: {request.query['error'][:200]}")
        code = request.query.get("code", "")
        if not code or len(code) > CODE_MAX:
            raise Problem(400, "query-invalid", "the issuer sent no code")
        token = await self._exchange(code, pending.verifier)
        identity = await self._keeper.login(request, None, token.encode())
        if claims_of(token).get("nonce") != pending.nonce:
            raise Problem(401, "bad-credentials", "the token is not of this login")
        logger.info("user %s logged in by %s from %s", identity.user, self._settings.issuer, identity.address)
        response = web.Response(status=303, headers={"Location": pending.target})
        response.set_cookie(self._cookie(request), self._sessions.open(identity, BROWSER), path="/",
                            httponly=True, samesite="Lax", secure=request.secure)
        response.del_cookie(COOKIE, path="/")
        return response

    async def _discover(self) -> Places:
        now_s = asyncio.get_running_loop().time()
        if self._places is not None and now_s - self._places[0] < DISCOVERY_S:
            return self._places[1]
        raw = await self._ask("GET", self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration", {})
        try:
            found = msgspec.json.decode(raw, type=Places)
        except msgspec.MsgspecError as error:
            raise Problem(502, "issuer-failed", "the issuer does not describe itself as OpenID Connect") from error
        if found.issuer != self._settings.issuer:           # Discovery 1.0 §4.3
            raise Problem(502, "issuer-failed", "the issuer describes itself as another one")
        self._places = now_s, found
        return found

    async def _exchange(self, code: str, verifier: str) -> str:
        places = await self._discover()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._settings.redirect,
                "client_id": self._settings.client_id, "code_verifier": verifier}
        if self._secret:
            form["client_secret"] = self._secret
        raw = await self._ask("POST", places.token_endpoint, form)
        try:
            token = msgspec.json.decode(raw, type=dict[str, Any]).get("id_token")
        except (msgspec.MsgspecError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii():
            raise Problem(502, "issuer-failed", "the issuer gave no ID token")
        return token

    async def _ask(self, method: str, url: str, form: dict[str, str]) -> bytes:
        """The body of a 200. Raises Problem."""
        limit = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        way = aiohttp.TCPConnector(ssl=await asyncio.to_thread(system_trust))
        try:
            async with aiohttp.ClientSession(timeout=limit, connector=way) as session, session.request(
                    method, url, data=form or None, allow_redirects=False,
                    headers={"Accept": "application/json"}) as answer:
                raw = await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status in (400, 401) and method == "POST":
                    raise Problem(401, "bad-credentials", "the issuer did not take the code")
                if answer.status != 200:
                    raise Problem(502, "issuer-failed", f"the issuer answered {answer.status}")
                while len(raw) < ANSWER_BYTES_MAX and (more := await answer.content.read(ANSWER_BYTES_MAX)):
                    raw += more
                return raw
        except TimeoutError:
            raise Problem(504, "no-answer", "the issuer did not answer in time") from None
        except aiohttp.ClientError as error:
            logger.warning("%s: %s", url, error)
            raise Problem(502, "issuer-failed", "the issuer cannot be reached") from error


def challenge_of(verifier: str) -> str:
    """Source: RFC 7636 §4.2"""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def claims_of(token: str) -> dict[str, Any]:
    """Of a token whose signature was checked; {} when it has none that can be read."""
    try:
        part = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])
    except (IndexError, ValueError, msgspec.MsgspecError, RecursionError):
        return {}
