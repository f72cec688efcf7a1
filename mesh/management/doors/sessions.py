"""Sessions of people in a browser: a login once, then a cookie. Kept in memory: a restart asks for the password again.

The cookie holds 256 random bits; the table keeps their SHA-256 only. It ends after session_idle_s of
[console] without a request, after session_s anyway, at logout, when somebody ends it, and when the login behind it
does not hold any more.
"""
from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from mesh.configuration.settings import ConsoleSettings
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
        self.on_open: list[Callable[[Identity, str], None]] = []        # told of who has logged in, and where

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
            del self._by_hash[key]
        if len(self._by_hash) >= SESSIONS_MAX:
            del self._by_hash[min(self._by_hash, key=lambda one: self._by_hash[one].seen_s)]
        self._by_hash[_hash(secret)] = LoginSession(
            secrets.token_hex(8), identity, kind, self._clock_ms(), now_s, now_s)
        for told in self.on_open:
            told(identity, kind)
        return secret

    def find(self, secret: str, *, touch: bool = True) -> LoginSession | None:
        session = self._by_hash.get(_hash(secret))
        if session is None:
            return None
        now_s = self._clock_s()
        if self._over(session, now_s):
            del self._by_hash[_hash(secret)]
            return None
        if touch:
            session.seen_s = now_s
        return session

    def close(self, secret: str) -> None:
        self._by_hash.pop(_hash(secret), None)

    def end(self, chosen: Callable[[LoginSession], bool]) -> int:
        """End those that are chosen. Returns how many."""
        gone = [key for key, session in self._by_hash.items() if chosen(session)]
        for key in gone:
            del self._by_hash[key]
        return len(gone)

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
        return (now_s - session.seen_s > self.settings.session_idle_s
                or now_s - session.made_s > self.settings.session_s
                or (expires_ms is not None and expires_ms <= self._clock_ms()))

    def _expire(self, now_s: float) -> None:
        for key in [key for key, session in self._by_hash.items() if self._over(session, now_s)]:
            del self._by_hash[key]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
