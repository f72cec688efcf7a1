"""Who a token stands for: an API key, a login from a terminal, or a JSON Web Token of a configured issuer. The same on
every protocol.

    key "mgk_…"   hash ▸ [[api_keys]] ▸ user, roles
    login "mgs_…" the session of `meshgate login` (mesh/management/sessions.py) ▸ user; renewal.py knows the roles
    JWT           algorithm allowed, nothing critical ▸ issuer ▸ key by kid ▸ signature ▸ iss aud exp nbf ▸ user, roles

Called by identity.py only. Nothing in a token is believed before its signature is; of its header only "alg" and "kid"
are looked at, so jku, x5u and jwk in it mean nothing. Sources: RFC 7519 §4.1 and §7.2, RFC 8725 (best practices).
"""
from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import msgspec

from mesh.identity.apikeys import ApiKey, hash_key, is_key
from mesh.identity.auth_settings import JwtSettings, user_problem
from mesh.identity.jwks import Fetch, Key, KeySource, fetch_of
from mesh.system.names.names import Names
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

TOKEN_BYTES_MAX = 8_192         # a header field of the HTTP listener holds as much
ROLES_MAX = 128
PROVEN_MAX = 4_096              # tokens whose signature was checked; a check costs 35 to 150 µs
NAME_THREADS = 2                # for the hosts of issuers: of their own, whatever webhooks and links wait for
TIME_MAX = 2**40                # seconds; beyond it is no date
LOGIN_PREFIX = b"mgs_"          # so that nobody takes it for an API key
LOGIN_BYTES = len(LOGIN_PREFIX) + 43


class TokenUser(msgspec.Struct, frozen=True):
    """The one whom a token stands for."""

    user: str
    roles: tuple[str, ...]
    expires_ms: int | None = None       # wall clock
    proof: str = ""                     # see renewal.py


Done = Callable[[TokenUser | Refusal], None]
Cancel = Callable[[], None]


class LoginBook(Protocol):
    """The logins from terminals that go on."""

    def by_secret(self, secret: str) -> TokenUser | None:
        """Whose this is; that counts as a use of it."""

    def identity_of(self, login_id: str) -> Identity | None:
        """Who logged in then. None: that login has ended."""


class _Issuer:
    """A configured issuer with its keys."""

    __slots__ = ("settings", "source")

    def __init__(self, settings: JwtSettings, source: KeySource) -> None:
        self.settings = settings
        self.source = source


class Tokens:
    """All keys and issuers of the node. Loop thread only."""

    def __init__(self, keys: Mapping[str, ApiKey], issuers: Iterable[JwtSettings], *, clock_ms: Callable[[], int],
                 now_s: Callable[[], float], fetch: Callable[[JwtSettings], Fetch] | None = None) -> None:
        self._clock_ms = clock_ms
        self._now_s = now_s
        self._fetch = fetch or partial(fetch_of, names=Names(NAME_THREADS, now_s))
        self.logins: LoginBook | None = None        # set by mesh/management
        self._keys: Mapping[str, ApiKey] = {}
        self._issuers: dict[str, _Issuer] = {}
        # digest of a token → (issuer, generation of its keys, who it is)
        self._proven: OrderedDict[bytes, tuple[_Issuer, int, TokenUser]] = OrderedDict()
        self.replace(keys, issuers)

    @property
    def configured(self) -> bool:
        return bool(self._keys or self._issuers)

    def replace(self, keys: Mapping[str, ApiKey], issuers: Iterable[JwtSettings]) -> None:
        """Take those of a new configuration. Key sets of issuers that did not change stay."""
        self._keys = keys
        before, self._issuers = self._issuers, {}
        if issuers := tuple(issuers):
            import_module("mesh.identity.jws")      # now, so that the first login does not wait for it
            import_module("mesh.identity.jwk")
        for settings in issuers:
            kept = before.get(settings.issuer)
            if kept is not None and kept.settings == settings:
                self._issuers[settings.issuer] = before.pop(settings.issuer)
            else:
                source = KeySource(settings, self._fetch(settings), self._now_s)
                self._issuers[settings.issuer] = _Issuer(settings, source)
        for gone in before.values():
            gone.source.close()
        self._proven.clear()

    def prefetch(self) -> None:
        """Get the keys of every issuer, so that the first login need not wait. Needs a running loop."""
        for issuer in self._issuers.values():
            issuer.source.refresh(None)

    def close(self) -> None:
        for issuer in self._issuers.values():
            issuer.source.close()

    def key_sets(self) -> list[tuple[str, float | None, bool]]:
        """(issuer, age of its keys in seconds or None without any, whether the last fetch failed)."""
        return [(name, issuer.source.age_s(), bool(issuer.source.failure)) for name, issuer in self._issuers.items()]

    def key(self, key_hash: str) -> ApiKey | None:
        """The key with this hash, while it is good."""
        found = self._keys.get(key_hash)
        over = found is not None and found.expires_ms is not None and found.expires_ms <= self._clock_ms()
        return None if over else found

    def key_of(self, user: str) -> ApiKey | None:
        """A key that is good for this user."""
        return next((found for key_hash, found in self._keys.items()
                     if found.user == user and self.key(key_hash) is not None), None)

    def login(self, login_id: str) -> Identity | None:
        """Who logged in from a terminal then, while that login goes on."""
        return self.logins.identity_of(login_id) if self.logins is not None else None

    def trusts(self, issuer: str) -> bool:
        return issuer in self._issuers

    def is_token(self, credential: bytes) -> bool:
        """True for what has the form of a token of ours. Everything else is a password."""
        if is_key(credential):
            return bool(self._keys)
        if is_login(credential):
            return self.logins is not None
        return bool(self._issuers) and credential.startswith(b"ey") and credential.count(b".") == 2

    def identify(self, credential: bytes, done: Done) -> Cancel | None:
        """Tell done whose token this is, or why it does not count; later, when its key has to be fetched.

        Returns what to call when nobody waits for the answer any more; None: it was given.
        """
        if len(credential) > TOKEN_BYTES_MAX:
            done(_bad(f"a token has at most {TOKEN_BYTES_MAX} bytes"))
        elif is_key(credential):
            done(self._by_key(credential))
        elif is_login(credential):
            done(self._by_login(credential))
        else:
            return self._by_jwt(credential, done, again=False)
        return None

    def _by_key(self, credential: bytes) -> TokenUser | Refusal:
        key_hash = hash_key(credential.decode("utf-8", "replace"))
        found = self._keys.get(key_hash)
        if found is None:
            return _bad("the API key is not known")
        if found.expires_ms is not None and found.expires_ms <= self._clock_ms():
            return _bad("the API key has expired")
        return TokenUser(found.user, found.roles, found.expires_ms, f"key:{key_hash}")

    def _by_login(self, credential: bytes) -> TokenUser | Refusal:
        secret = credential.removeprefix(LOGIN_PREFIX).decode("utf-8", "replace")
        found = self.logins.by_secret(secret) if self.logins is not None else None
        return found if found is not None else _bad("the login has ended: log in again")

    # -- JWT ----------------------------------------------------------------------------------------------------

    def _by_jwt(self, token: bytes, done: Done, *, again: bool) -> Cancel | None:
        """again: the keys have just been fetched for this token, or that was tried."""
        digest = hashlib.sha256(token).digest()
        proven = self._proven.get(digest)
        if proven is not None and proven[1] == proven[0].source.generation and not self._is_over(proven[2]):
            self._proven.move_to_end(digest)
            done(proven[2])
            return None
        from mesh.identity import jws  # late: most nodes have no issuer; see replace()

        try:
            header = jws.unverified_header(token)
            issuer, algorithm, kid, issued_s = self._whose(header, token)
        except _Bad as error:
            done(_bad(str(error)))
            return None
        except jws.NotAToken:
            done(_bad("not a JSON Web Token"))
            return None
        source = issuer.source
        key = source.find(kid, algorithm)
        if key is None:
            def then() -> None:
                self._by_jwt(token, done, again=True)

            if not again and source.refresh(then):
                return lambda: source.forget(then)
            if source.is_fresh and (again or self._is_older(issued_s, issuer)):         # there is no such key
                done(_bad("the key of the token is not known to this node"))
                return None
            done(source.busy())                         # nobody knows whether the token is good
            return None
        answer = self._verify(token, issuer.settings, key, algorithm)
        if isinstance(answer, TokenUser):
            self._proven[digest] = (issuer, issuer.source.generation, answer)
            while len(self._proven) > PROVEN_MAX:
                self._proven.popitem(last=False)
        done(answer)
        return None

    def _is_over(self, user: TokenUser) -> bool:
        return user.expires_ms is not None and user.expires_ms <= self._clock_ms()

    def _is_older(self, issued_s: object, issuer: _Issuer) -> bool:
        """Was the token issued before the keys were fetched? What it says itself decides only what it is told."""
        if not isinstance(issued_s, int):
            return True
        age_s = issuer.source.age_s()
        return age_s is not None and self._clock_ms() / 1000 - issued_s > age_s + issuer.settings.leeway_s

    def _whose(self, header: dict[str, Any], token: bytes) -> tuple[_Issuer, str, str | None, object]:
        """Issuer, algorithm, key id and time of issue that a token names; nothing of it is proven yet."""
        if "crit" in header or header.get("b64", True) is not True:             # RFC 7515 §4.1.11
            raise _Bad("the token wants extensions that are not spoken here")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or (kid is not None and not isinstance(kid, str)):
            raise _Bad("not a JSON Web Token")
        from mesh.identity import jws

        claims = _claims(jws.unverified_payload(token))
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise _Bad("the issuer of the token is not trusted here")
        if algorithm not in issuer.settings.algorithms:
            raise _Bad("the algorithm of the token is not allowed")
        return issuer, algorithm, kid, claims.get("iat")

    def _verify(self, token: bytes, settings: JwtSettings, key: Key, algorithm: str) -> TokenUser | Refusal:
        from mesh.identity import jws

        try:
            claims = _claims(jws.verified_payload(token, key.key, algorithm))
            return _user(claims, settings, self._clock_ms() / 1000)
        except _Bad as error:
            return _bad(str(error))
        except jws.NotAToken:
            return _bad("the signature of the token is wrong")


def is_login(credential: bytes) -> bool:
    """True for what has the form of the token of a login from a terminal."""
    return credential.startswith(LOGIN_PREFIX) and len(credential) == LOGIN_BYTES


class _Bad(ValueError):
    """Why a token does not count. Safe to show."""


def _bad(text: str) -> Refusal:
    return Refusal(Reason.BAD_CREDENTIALS, text)


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _Bad("the claims of the token are not JSON") from None
    if not isinstance(claims, dict):
        raise _Bad("the claims of the token are not an object")
    return claims


def _user(claims: dict[str, Any], settings: JwtSettings, now_s: float) -> TokenUser:
    """Check the claims of a token whose signature is right.                                Source: RFC 7519 §4.1"""
    if claims.get("iss") != settings.issuer:
        raise _Bad("the issuer of the token is not trusted here")
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in settings.audience for name in names):
        raise _Bad("the token is for another audience")
    expires_s = _time(claims, "exp", required=True)
    assert expires_s is not None
    if expires_s + settings.leeway_s <= now_s:
        raise _Bad("the token has expired")
    not_before_s = _time(claims, "nbf", required=False)
    if not_before_s is not None and not_before_s - settings.leeway_s > now_s:
        raise _Bad("the token is not valid yet")
    issued_s = _time(claims, "iat", required=False)
    if issued_s is not None and issued_s - settings.leeway_s > now_s:
        raise _Bad("the token was issued in the future")
    user = claims.get(settings.user_claim)
    if not isinstance(user, str) or user_problem(user) is not None:
        raise _Bad(f"the claim {settings.user_claim} of the token names no user")
    ends_ms = int((expires_s + settings.leeway_s) * 1000)
    return TokenUser(user, _roles(claims, settings), ends_ms, f"jwt:{settings.issuer}")


def _time(claims: dict[str, Any], name: str, *, required: bool) -> int | None:
    """Whole seconds since 1970. A fraction or a text is refused: implementations differ in what they make of it."""
    found = claims.get(name)
    if found is None and not required:
        return None
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= TIME_MAX:
        raise _Bad(f"the token needs a claim {name} in whole seconds since 1970")
    return found


def _roles(claims: dict[str, Any], settings: JwtSettings) -> tuple[str, ...]:
    """The roles of a token; a claim that is not there means none."""
    found: Any = claims.get(settings.roles_claim)           # a claim with dots in its name, such as a URL, counts first
    if found is None:
        found = claims
        for step in settings.roles_claim.split("."):
            found = found.get(step) if isinstance(found, dict) else None
    if found is None:
        return ()
    names = found.split() if isinstance(found, str) else found
    if not isinstance(names, list) or len(names) > ROLES_MAX or not all(
            isinstance(name, str) and user_problem(name) is None for name in names):
        raise _Bad(f"the claim {settings.roles_claim} of the token is no list of roles")
    return tuple(dict.fromkeys(settings.role_prefix + name for name in names))
