"""Who sends a request: HTTP Basic (RFC 7617), Bearer (RFC 6750), X-API-Key by the node's authenticator, or nobody.

A Bearer token and an API key are a password without a user name; the authenticator knows them by their form. The answer
is kept on the connection for SESSION_S, so that a kept-alive client does not log in for each request.
"""
from __future__ import annotations

import asyncio
import binascii
from collections.abc import Callable

from aiohttp import hdrs, web

from protocols.authentication.authenticator import Authenticator
from protocols.rest.http.guard import GuardedHandler
from protocols.rest.problems import Problem, problem_of
from protocols.transport.network import network_of
from protocols.web.fields import one_of
from routing.errors import Reason, Refusal
from routing.publishing.publisher import Publisher
from routing.rights.policy import ANONYMOUS, Action, Identity
from routing.router import Router

PROTOCOL = "http"
API_KEY = "X-API-Key"
SESSION_S = 60.0        # after it the next request logs in again; after a reload it does so anyway


class Session:
    """One authenticated client on one connection."""

    __slots__ = ("api_key", "authorization", "expires_s", "generation", "identity", "owner", "publisher")

    def __init__(
        self, authorization: str | None, api_key: str | None, identity: Identity, publisher: Publisher,
        expires_s: float, owner: str, generation: int,
    ) -> None:
        """owner: who takes from what all share (routing/fairness/shares.py).

        generation: of routing/logins.py. When it is another one the login may not hold any more.
        """
        self.authorization = authorization
        self.api_key = api_key
        self.identity = identity
        self.publisher = publisher
        self.expires_s = expires_s
        self.owner = owner
        self.generation = generation


class Doorkeeper:
    """Turns a request into a Session."""

    def __init__(
        self, router: Router, authenticator: Authenticator,
        count: Callable[[web.Request, Identity], None] = lambda request, identity: None,
    ) -> None:
        """count: called for every request that has logged in; may raise Problem (429)."""
        self._router = router
        self._count = count
        self._authenticator = authenticator

    async def session(self, request: web.Request) -> Session:
        """Raises Problem (401, 403, 429) when the client is refused."""
        authorization, api_key = one_of(request.headers, hdrs.AUTHORIZATION), one_of(request.headers, API_KEY)
        connection = request.protocol
        now_s = asyncio.get_running_loop().time()
        kept = connection.session if isinstance(connection, GuardedHandler) else None
        if (isinstance(kept, Session) and kept.authorization == authorization and kept.api_key == api_key
                and kept.expires_s > now_s and kept.generation == self._router.logins.generation):
            self._count(request, kept.identity)
            return kept
        username, password = credentials(authorization, api_key)
        generation = self._router.logins.generation     # before the login: what changes meanwhile counts
        answer = await self._ask(username, password, address_of(request), certificate_name_of(request))
        if isinstance(answer, Refusal):
            raise problem_of(answer)
        good_s = SESSION_S
        if answer.expires_ms is not None:
            good_s = min(good_s, (answer.expires_ms - self._router.clock_ms()) / 1000)
        owner = answer.user
        if owner == ANONYMOUS and not self._authenticator.open:         # beside users: each address for itself
            owner = network_of(address_of(request))
        publisher = self._router.publisher(answer)
        session = Session(authorization, api_key, answer, publisher, now_s + good_s, owner, generation)
        if isinstance(connection, GuardedHandler):
            connection.session = session
        self._count(request, answer)
        return session

    def check_publish(self, session: Session, topic: str | None) -> None:
        """For before a body is read: may this client publish to the topic; None: to any? Raises Problem (403)."""
        if topic is not None:
            refusal = self._router.refuse_publish(topic, session.publisher)
            if refusal is not None:
                raise problem_of(refusal)
        else:
            self._check_some(session, Action.PUBLISH)

    def check_subscribe(self, session: Session) -> None:
        """May this client read anything at all? Raises Problem (403)."""
        self._check_some(session, Action.SUBSCRIBE)

    def _check_some(self, session: Session, action: Action) -> None:
        policy, identity = self._router.policy, session.identity
        if not policy.permissions(identity).allows_some(action):
            rule = "no rule allows it for any topic"
            policy.record_denial(identity, action, "", rule, self._router.clock_ms())
            raise problem_of(Refusal(Reason.NOT_AUTHORIZED, f"user {identity.user} may not {action.value}: {rule}"))

    async def login(self, request: web.Request, username: str | None, password: bytes) -> Identity:
        """A name and a password from a form; without a name a token. Raises Problem (401, 403, 429, 503): refused."""
        answer = await self._ask(username, password, address_of(request), None)
        if isinstance(answer, Refusal):
            raise problem_of(answer)
        return answer

    async def _ask(
        self, username: str | None, password: bytes | None, address: str, certificate_name: str | None,
    ) -> Identity | Refusal:
        answers: list[Identity | Refusal] = []
        waiting: list[asyncio.Future[None]] = []

        def done(answer: Identity | Refusal) -> None:
            answers.append(answer)
            if waiting and not waiting[0].done():
                waiting[0].set_result(None)

        cancel = self._authenticator.authenticate(username, password, PROTOCOL, "", address, done, certificate_name)
        if not answers:
            waiting.append(asyncio.get_running_loop().create_future())
            try:
                await waiting[0]
            except asyncio.CancelledError:              # the client has gone: it gives up its place
                if cancel is not None:
                    cancel()
                raise
        return answers[0]


def credentials(authorization: str | None, api_key: str | None) -> tuple[str | None, bytes | None]:
    """User name and password or token of a request. Raises Problem (401) when they are broken or two of them."""
    if api_key is not None:
        if authorization is not None:
            raise Problem(401, "bad-credentials", f"send either Authorization or {API_KEY}")
        return None, _token(api_key)
    if authorization is None:
        return None, None
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return None, _token(encoded.strip())
    if scheme.lower() == "basic":
        return _basic(encoded)
    raise Problem(401, "bad-credentials", "this node understands Authorization: Basic and Bearer")


def _token(text: str) -> bytes:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise Problem(401, "bad-credentials", "the token is empty, or has characters that no token has")
    return text.encode()


def _basic(encoded: str) -> tuple[str, bytes]:
    try:
        user, colon, password = binascii.a2b_base64(encoded.strip().encode("ascii"), strict_mode=True).partition(b":")
        if not colon:
            raise ValueError("no colon")
        name = user.decode()
    except ValueError:      # binascii.Error and UnicodeError are ValueErrors
        raise Problem(401, "bad-credentials", "the Basic credentials are not base64 of user:password") from None
    if not name or "\0" in name:
        raise Problem(401, "bad-credentials", "the user name is empty or has a NUL in it")
    return name, password


def certificate_name_of(request: web.Request) -> str | None:
    """Common name of the client certificate that TLS has verified; None without one."""
    certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
    if not isinstance(certificate, dict):
        return None
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return str(names[0]) if names else None


def address_of(request: web.Request) -> str:
    """The peer as "host:port"; "" when the connection is gone."""
    peer = request.protocol.peername
    if not isinstance(peer, tuple):
        return ""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
