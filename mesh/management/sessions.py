"""Sessions of people in a browser: a login once, then a cookie. Kept in memory: a restart asks for the password again.

The cookie holds 256 random bits; the table keeps their SHA-256 only. It ends after session_idle_s of
[console] without a request or an open stream, after session_s anyway, at logout, when somebody ends it, and when the
login behind it does not hold any more. The token of a terminal opens the listeners of clients, too (by_secret): what
was opened by it ends with it.
"""
from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from mesh.configuration.settings import ConsoleSettings
from mesh.identity.renewal import LOGIN
from mesh.identity.tokens import TokenUser
from mesh.identity.users import AUTHENTICATED
from routing.rights.policy import Identity

SESSIONS_MAX: Final = 1_000             # of a node; then the one that was longest unused ends
SESSIONS_OF_USER_MAX: Final = 20
COOKIE: Final = "meshgate-session"
SECURE_COOKIE: Final = "__Host-meshgate-session"
BROWSER, TERMINAL = "browser", "terminal"       # where somebody has logged in


class LoginSession(msgspec.Struct):
    """id: for lists and logout from elsewhere; not the secret."""

    id: str
    identity: Identity
    kind: str
    since_ms: int
    made_s: float
    seen_s: float


class Sessions:
    """One per node. Loop thread only."""

    def __init__(self, clock_s: Callable[[], float], clock_ms: Callable[[], int], settings: ConsoleSettings) -> None:
        """settings.base_path: two nodes behind one proxy are one host to a browser, each with its own cookie."""
        self._suffix = settings.base_path.replace("/", "-")
        self.settings = settings
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._by_hash: dict[bytes, LoginSession] = {}
        self._by_id: dict[str, LoginSession] = {}
        self.on_open: list[Callable[[Identity, str], None]] = []        # told of who has logged in, and where
        self.on_end: list[Callable[[str], None]] = []                   # told of the proof that counts no more
        self.renew: Callable[[Identity], Identity] = _as_it_is          # who somebody is now, who has logged in once
        self.is_held: Callable[[str], bool] = _never                    # is something open by this proof?

    def cookie(self, secure: bool) -> str:
        """The name of the cookie; __Host- wants TLS.               Source: RFC 6265bis §4.1.3.2"""
        return (SECURE_COOKIE if secure else COOKIE) + self._suffix

    def open(self, identity: Identity, kind: str) -> str:
        """Returns the secret for the cookie."""
        secret = secrets.token_urlsafe(32)
        now_s = self._clock_s()
        self._expire(now_s)
        mine = [key for key, session in self._by_hash.items() if session.identity.user == identity.user]
        for key in sorted(mine, key=lambda one: self._by_hash[one].seen_s)[:len(mine) - SESSIONS_OF_USER_MAX + 1]:
            self._remove(key)
        if len(self._by_hash) >= SESSIONS_MAX:
            self._remove(min(self._by_hash, key=lambda one: self._by_hash[one].seen_s))
        session = LoginSession(secrets.token_hex(8), identity, kind, self._clock_ms(), now_s, now_s)
        self._by_hash[_hash(secret)] = self._by_id[session.id] = session
        for told in self.on_open:
            told(identity, kind)
        return secret

    def find(self, secret: str, *, touch: bool = True) -> LoginSession | None:
        session = self._by_hash.get(_hash(secret))
        if session is None:
            return None
        now_s = self._clock_s()
        if self._over(session, now_s):
            self._remove(_hash(secret))
            return None
        if touch:
            session.seen_s = now_s
        return session

    def identity(self, secret: str) -> Identity | None:
        """Who it belongs to now. None: it has ended, or its login does not hold any more, which ends it."""
        session = self.find(secret)
        if session is None:
            return None
        session.identity = self.renew(session.identity)
        if session.identity.revoked:
            self.close(secret)
            return None
        return session.identity

    # -- a terminal's token at the listeners of clients: LoginBook of mesh/identity/tokens.py ---------------------

    def by_secret(self, secret: str) -> TokenUser | None:
        identity = self.identity(secret)
        session = self._by_hash.get(_hash(secret))
        if identity is None or session is None or session.kind != TERMINAL:
            return None
        ends_ms = session.since_ms + round(self.settings.session_s * 1000)
        if identity.expires_ms is not None:
            ends_ms = min(ends_ms, identity.expires_ms)
        roles = tuple(role for role in identity.roles if role != AUTHENTICATED)
        return TokenUser(identity.user, roles, ends_ms, LOGIN + session.id)

    def identity_of(self, login_id: str) -> Identity | None:
        session = self._by_id.get(login_id)
        return session.identity if session is not None else None

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, secret: str) -> None:
        self._remove(_hash(secret))

    def end(self, chosen: Callable[[LoginSession], bool]) -> int:
        """End those that are chosen. Returns how many."""
        gone = [key for key, session in self._by_hash.items() if chosen(session)]
        for key in gone:
            self._remove(key)
        return len(gone)

    def _remove(self, key: bytes) -> None:
        session = self._by_hash.pop(key, None)
        if session is not None:
            del self._by_id[session.id]
            for told in self.on_end:
                told(LOGIN + session.id)

    def row(self, session: LoginSession) -> dict[str, Any]:
        """For lists: nothing in it lets anybody in."""
        return {"id": session.id, "user": session.identity.user, "roles": list(session.identity.roles),
                "address": session.identity.address, "kind": session.kind, "since_ms": session.since_ms,
                "idle_s": round(self._clock_s() - session.seen_s, 1)}

    def __iter__(self) -> Iterator[LoginSession]:
        self._expire(self._clock_s())
        return iter(list(self._by_hash.values()))

    def _over(self, session: LoginSession, now_s: float) -> bool:
        expires_ms = session.identity.expires_ms
        if now_s - session.seen_s > self.settings.session_idle_s and self.is_held(LOGIN + session.id):
            session.seen_s = now_s                  # who reads a stream does not ask, and is there
        return (now_s - session.seen_s > self.settings.session_idle_s
                or now_s - session.made_s > self.settings.session_s
                or (expires_ms is not None and expires_ms <= self._clock_ms()))

    def _expire(self, now_s: float) -> None:
        for key in [key for key, session in self._by_hash.items() if self._over(session, now_s)]:
            self._remove(key)


def _as_it_is(identity: Identity) -> Identity:
    return identity


def _never(proof: str) -> bool:
    return False


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
