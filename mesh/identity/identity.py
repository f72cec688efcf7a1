"""Who is there: password, token, client certificate, or nobody. Called by every adapter when a client connects.

    authenticate ── locked out? ── seen before (cache)? ── argon2 in a worker thread ── policy: connect? ── done(...)
              └──── token (API key, JWT: tokens.py) ─────────────────────────────────────────┘

A token comes as a password, on every protocol: as HTTP's Bearer without a user name, as MQTT's password with the name
of the token's user, with BEARER, or without one.
The answer for an unknown user takes the same time and the same words as that for a wrong password.
Sources: RFC 9106 (argon2), OWASP Password Storage (19 MiB, 2 passes), hostile.md rows 29 and 85.
"""
from __future__ import annotations

import hashlib
import logging
import math
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import argon2
import msgspec
from argon2.exceptions import Argon2Error, InvalidHashError

from mesh.configuration.address import is_loopback
from mesh.configuration.checks import check_password_hash, resolve_secret
from mesh.configuration.settings import UserSettings
from mesh.configuration.units import format_duration
from mesh.identity.auth_settings import USER_BYTES_MAX
from mesh.identity.lockout import Lockout, network_of
from mesh.identity.tokens import Tokens, TokenUser
from routing.errors import ConfigError, Reason, Refusal
from routing.policy import ANONYMOUS, Action, Identity, Policy

logger = logging.getLogger(__name__)

# 25 ms and 19 MiB per login: OWASP's choice, and a plant of 1,000 devices is back half a minute after a power cut.
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
AUTHENTICATED = "authenticated"         # a role that everybody has who logged in; policies may name it
PROVEN_MAX = 4_096                      # logins remembered, so that a reconnect costs microseconds
PROVEN_FOR_S = 3_600.0
LOGINS_WAITING_MAX = 2_000              # for the worker; what is beyond is refused, not queued
WAITING_MAX_S = 10.0                    # a client that waited longer has been closed by its connect timeout
PASSWORD_BYTES_MAX = 4_096
BEARER = "bearer"                       # user name of clients that must send one and have only a token

Done = Callable[[Identity | Refusal], None]
_BAD = Refusal(Reason.BAD_CREDENTIALS, "user name or password is wrong")
_GUESSES = Refusal(Reason.LOCKED_OUT, "too many logins of this user are under way, try again in a second", 1)
_BUSY = Refusal(Reason.QUOTA_EXCEEDED, "too many logins at once, try again in a few seconds", 3)
_NOBODY = Refusal(Reason.BAD_CREDENTIALS, "this node wants a user name and a password")


class User(msgspec.Struct, frozen=True):
    """A user whose secret has been resolved."""

    name: str
    roles: tuple[str, ...]
    password_hash: str | None

    def __repr__(self) -> str:
        return f"User({self.name!r})"


class _Attempt:
    """One verification under way, with everybody who waits for the same answer."""

    __slots__ = ("deadline_s", "user", "waiting")

    def __init__(self, user: User | None, deadline_s: float) -> None:
        self.user = user
        self.deadline_s = deadline_s
        self.waiting: list[tuple[Identity, Done]] = []


def hash_password(password: str) -> str:
    """An argon2id hash for the configuration file. Takes some 25 ms."""
    return HASHER.hash(password)


def resolve_users(users: Iterable[UserSettings]) -> list[User]:
    """Users with their hashes read from file: and env: references. Raises ConfigError with the path of the setting."""
    resolved = []
    for index, user in enumerate(users):
        password_hash = user.password_hash
        if password_hash is not None:
            try:
                password_hash = resolve_secret(password_hash)
            except ConfigError as error:
                raise ConfigError(f"users[{index}].password_hash: {error}") from error
            problem = check_password_hash(password_hash)
            if problem is not None:
                raise ConfigError(f"users[{index}].password_hash: {problem}")
        resolved.append(User(user.name, user.roles, password_hash))
    return resolved


class Authenticator:
    """Answers on the event loop, at once when it can. Loop thread only, but for the worker's verification."""

    def __init__(
        self, users: Iterable[User], policy: Policy, *, call_on_loop: Callable[[Callable[[], None]], object],
        clock_ms: Callable[[], int], now_s: Callable[[], float], tokens: Tokens | None = None,
    ) -> None:
        self.tokens = tokens if tokens is not None else Tokens({}, (), clock_ms=clock_ms, now_s=now_s)
        self._policy = policy
        self._call_on_loop = call_on_loop
        self._clock_ms = clock_ms
        self._now_s = now_s
        self._lockout = Lockout()
        self._proven: OrderedDict[bytes, float] = OrderedDict()     # keyed hash of user, password, hash → good until
        self._key = secrets.token_bytes(32)                         # so that the cache gives nothing away
        self._attempts: dict[bytes, _Attempt] = {}
        self._worker = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), thread_name_prefix="login")
        self.outcomes: Counter[tuple[str, str]] = Counter()         # (protocol, "ok" | reason) → logins
        self._users: dict[str, User] = {}
        self._decoy = HASHER.hash(secrets.token_hex(16))
        self.replace(users)

    @property
    def open(self) -> bool:
        """True when no users, keys or issuers are configured: everybody is anonymous, from this machine only."""
        return not self._users and not self.tokens.configured

    @property
    def locked_count(self) -> int:
        return self._lockout.locked_count(self._now_s())

    def replace(self, users: Iterable[User]) -> None:
        """Take the users of a new configuration. Logins of connected clients stay."""
        self._users = {user.name: user for user in users}
        hashes = [user.password_hash for user in self._users.values() if user.password_hash is not None]
        if hashes and _cost(hashes[0]) != _cost(self._decoy):
            self._decoy = _like(hashes[0])      # an unknown user must cost what a known one does

    def authenticate(
        self, username: str | None, password: bytes | None, protocol: str, client_id: str, address: str, done: Done,
        certificate_name: str | None = None,
    ) -> None:
        """Tell done who this is, or why not.

        username, password: as they came; a token is a password.  address: "host:port" of the peer.
        certificate_name: common name of a client certificate that TLS has verified; it decides alone, and a user name
        beside it must be the same.
        """
        name = username or ""
        identity = Identity(name, (), protocol=protocol, client_id=client_id, address=address)
        if certificate_name is not None:
            self._by_certificate(identity, certificate_name, done)
        elif password is not None and not self.open and self.tokens.is_token(password):
            self._by_token(identity, password, done)
        elif self.open or (not name and password is None):
            self._nobody(msgspec.structs.replace(identity, user=ANONYMOUS), done)
        elif not name or password is None or len(password) > PASSWORD_BYTES_MAX or len(name) > USER_BYTES_MAX:
            self._refuse(identity, _BAD, done)
        else:
            self._by_password(identity, password, done)

    def close(self) -> None:
        self.tokens.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _by_certificate(self, identity: Identity, certificate_name: str, done: Done) -> None:
        own = certificate_name == ANONYMOUS or certificate_name.startswith("$")     # names that the node uses itself
        if own or not certificate_name or identity.user not in ("", certificate_name):
            self._refuse(identity, _BAD, done)
            return
        user = self._users.get(certificate_name, User(certificate_name, (), None))
        self._admit(msgspec.structs.replace(identity, user=certificate_name), user.roles, done)

    def _nobody(self, identity: Identity, done: Done) -> None:
        """Nobody logged in: allowed from this machine when there are no users, or where a policy says so."""
        host = identity.address.rpartition(":")[0].strip("[]")
        if self.open and host and not is_loopback(host):
            self._refuse(identity, _NOBODY, done)
        elif self._policy.decide(identity, Action.CONNECT).allowed:
            self._count(identity, "ok")
            done(identity)
        else:
            self._refuse(identity, _NOBODY, done)

    def _by_token(self, identity: Identity, token: bytes, done: Done) -> None:
        """No lock-out: nobody guesses a token, and who shares an address with an expired one must not suffer for it."""
        def answered(found: TokenUser | Refusal) -> None:
            if isinstance(found, Refusal):
                self._refuse(identity, found, done)
            elif identity.user not in ("", BEARER, found.user):
                self._refuse(identity, _BAD, done)
            else:
                known = msgspec.structs.replace(identity, user=found.user, expires_ms=found.expires_ms)
                self._admit(known, found.roles, done)

        self.tokens.identify(token, answered)

    def _by_password(self, identity: Identity, password: bytes, done: Done) -> None:
        now_s = self._now_s()
        locked_s = math.ceil(self._lockout.locked_s(identity.user, network_of(identity.address), now_s))
        if locked_s:
            text = f"too many failed logins, try again in {format_duration(locked_s)}"
            self._refuse(identity, Refusal(Reason.LOCKED_OUT, text, locked_s), done)
            return
        user = self._users.get(identity.user)
        key = self._cache_key(identity.user, password, user)
        if user is not None and self._proven.get(key, 0.0) > now_s:
            self._proven.move_to_end(key)
            self._admit(identity, user.roles, done)
            return
        attempt = self._attempts.get(key)
        if attempt is None:
            if not self._lockout.may_try(identity.user, network_of(identity.address), now_s):
                self._refuse(identity, _GUESSES, done)
                return
            if len(self._attempts) >= LOGINS_WAITING_MAX:
                self._refuse(identity, _BUSY, done)
                return
            attempt = self._attempts[key] = _Attempt(user, now_s + WAITING_MAX_S)
            self._lockout.begin(identity.user, network_of(identity.address), now_s)
            self._worker.submit(self._verify, key, attempt, password)
        attempt.waiting.append((identity, done))

    def _verify(self, key: bytes, attempt: _Attempt, password: bytes) -> None:
        """On the worker: the slow comparison."""
        user = attempt.user
        stored = user.password_hash if user is not None and user.password_hash is not None else self._decoy
        good = False
        if self._now_s() <= attempt.deadline_s:
            try:
                good = HASHER.verify(stored, password) and stored is not self._decoy
            except (Argon2Error, InvalidHashError):
                good = False
        try:
            self._call_on_loop(lambda: self._finish(key, good))
        except RuntimeError:        # the loop is gone: the node stopped meanwhile
            logger.debug("= a login outlived the node")

    def _finish(self, key: bytes, good: bool) -> None:
        """Back on the loop: tell everybody who waited for this answer."""
        attempt = self._attempts.pop(key)
        now_s = self._now_s()
        first = attempt.waiting[0][0]
        self._lockout.end(first.user, network_of(first.address))
        user = attempt.user
        if good and user is not None and self._users.get(user.name) == user:        # not changed by a reload meanwhile
            self._proven[key] = now_s + PROVEN_FOR_S
            while len(self._proven) > PROVEN_MAX:
                self._proven.popitem(last=False)
            for identity, done in attempt.waiting:
                self._lockout.forget(identity.user, network_of(identity.address))
                self._admit(identity, user.roles, done)
            return
        for identity, done in attempt.waiting:
            if self._lockout.fail(identity.user, network_of(identity.address), now_s):
                logger.warning("user %r from %s is locked out after repeated failures", identity.user, identity.address)
            self._refuse(identity, _BAD, done)

    def _admit(self, identity: Identity, roles: tuple[str, ...], done: Done) -> None:
        known = msgspec.structs.replace(identity, roles=(*roles, AUTHENTICATED))
        refusal = self._policy.refuse(known, Action.CONNECT, "", self._clock_ms())
        self._count(known, "ok" if refusal is None else refusal.reason.value)
        done(known if refusal is None else refusal)

    def _refuse(self, identity: Identity, refusal: Refusal, done: Done) -> None:
        shown = msgspec.structs.replace(identity, user=identity.user[:USER_BYTES_MAX])
        self._policy.record_denial(shown, Action.CONNECT, "", refusal.reason.value, self._clock_ms())
        self._count(identity, refusal.reason.value)
        done(refusal)

    def _count(self, identity: Identity, outcome: str) -> None:
        self.outcomes[identity.protocol, outcome] += 1

    def _cache_key(self, name: str, password: bytes, user: User | None) -> bytes:
        stored = user.password_hash if user is not None and user.password_hash is not None else ""
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in (name.encode("utf-8", "replace"), password, stored.encode()):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return digest.digest()


def _cost(stored: str) -> tuple[int, int, int]:
    parameters = argon2.extract_parameters(stored)
    return parameters.time_cost, parameters.memory_cost, parameters.parallelism


def _like(stored: str) -> str:
    """A hash of nothing in particular that costs as much to verify as the stored one."""
    time_cost, memory_cost, parallelism = _cost(stored)
    hasher = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)
    return hasher.hash(secrets.token_hex(16))
