"""Settings of what lets somebody in: users and how passwords are checked, API keys and JSON Web Tokens.

Config has them as [[users]], [logins], [[api_keys]] and [[jwt]]; docs/security.md explains them by commands.
"""
from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from mesh.values.address import is_loopback

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
              "HS256", "HS384", "HS512")
USER_BYTES_MAX = 255            # of a user's name; AMQP short strings hold no more
HASH_PREFIX = "sha256:"


class LoginSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How passwords are checked: what may wait for it, and what is remembered of it."""

    waiting_max: int = 2_000                # verifications that are due; beyond it the longest address is told "busy"
    waiting_s: float = 8.0                  # then "busy": below the 10 s after which a client that says nothing goes
    threads: int = 0                        # that verify; 0: all cores but one, and that one, too, while 50 wait
    remember_s: float = 7 * 86_400.0        # how long a password that was right needs no check; 0: an hour, in memory
    remembered_max: int = 32_768            # users or devices; some 250 bytes of memory each, 80 on disk


class UserSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may connect. Without a password_hash: by client certificate only."""

    name: str
    password_hash: str | None = None        # argon2id, or "file:PATH" or "env:NAME" that hold one
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:              # a hash never gets into a log by way of a struct
        return f"UserSettings(name={self.name!r}, roles={self.roles!r})"


class ApiKeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that a program sends instead of a password."""

    name: str                               # for operators: it stands in logs, the key itself nowhere
    key_hash: str                           # "sha256:…" of `meshgate apikey`, or "file:PATH", "env:NAME"
    user: str = ""                          # who the program is; "": the name of the key
    roles: tuple[str, ...] = ()
    expires: datetime | None = None         # with a zone; None: never

    def __repr__(self) -> str:              # a hash never gets into a log by way of a struct
        return f"ApiKeySettings(name={self.name!r})"


class JwtSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer whose tokens are taken (RFC 7519), and what is in them."""

    issuer: str                             # the claim iss, character by character
    audience: tuple[str, ...]               # one of them must stand in the claim aud
    jwks: str                               # where its keys are: "https://…", or "file:PATH" (RFC 7517)
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")     # never "none"; HS only with a file
    user_claim: str = "sub"
    roles_claim: str = "roles"              # dots go into objects: "realm_access.roles"; a list, or words in a text
    role_prefix: str = ""                   # put before each role, so that an issuer cannot name our own
    leeway_s: float = 30.0                  # for clocks that differ
    refresh_s: float = 600.0                # keys older than this are fetched again, in the background
    stale_s: float = 86_400.0               # while the issuer cannot be reached: how long its keys still count
    timeout_s: float = 5.0                  # of one fetch; who logs in meanwhile waits for it


class OidcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Login to the console by OpenID Connect, at an issuer that [[jwt]] has, too."""

    issuer: str                             # as in [[jwt]], which says how its tokens become users and roles
    client_id: str                          # of the console at the issuer; in the audience of [[jwt]]
    redirect: str                           # https://CONSOLE/login/oidc/back, as it is registered there
    client_secret: str = ""                 # or "file:PATH" or "env:NAME"; "": a public client, by PKCE alone
    scopes: tuple[str, ...] = ("openid", "profile")
    name: str = "single sign-on"            # of the link on the login page
    timeout_s: float = 5.0                  # of one question to the issuer

    def __repr__(self) -> str:              # a secret never gets into a log by way of a struct
        return f"OidcSettings(issuer={self.issuer!r})"


def check_oidc(oidc: OidcSettings | None, issuers: tuple[JwtSettings, ...]) -> Iterator[str]:
    if oidc is None:
        return
    known = next((jwt for jwt in issuers if jwt.issuer == oidc.issuer), None)
    if known is None:
        yield f"oidc.issuer: no [[jwt]] has the issuer {oidc.issuer}"
    elif oidc.client_id not in known.audience:
        yield f"oidc.client_id: {oidc.client_id} must stand in the audience of that [[jwt]]"
    for name in ("issuer", "redirect"):
        problem = jwks_problem(getattr(oidc, name)) if not getattr(oidc, name).startswith("file:") else "not a URL"
        if problem is not None:
            yield f"oidc.{name}: expected https://…, or http:// to this machine"
    if not oidc.redirect.endswith("/login/oidc/back"):
        yield "oidc.redirect: ends with /login/oidc/back"
    if "openid" not in oidc.scopes:
        yield "oidc.scopes: must hold openid"
    if not 0.1 <= oidc.timeout_s <= 60:
        yield "oidc.timeout_s: expected 0.1 to 60 seconds"


def check_api_keys(keys: tuple[ApiKeySettings, ...]) -> Iterator[str]:
    """Problems, each one line that begins with the path of the setting."""
    names: set[str] = set()
    for index, key in enumerate(keys):
        path = f"api_keys[{index}]"
        if not key.name or len(key.name.encode()) > USER_BYTES_MAX or not key.name.isprintable():
            yield f"{path}.name: expected 1 to {USER_BYTES_MAX} bytes of printable text"
        if key.name in names:
            yield f"{path}.name: {key.name} is there twice"
        names.add(key.name)
        problem = user_problem(key.user or key.name)
        if problem is not None:
            yield f"{path}.user: {problem}"
        if not key.key_hash.startswith(("file:", "env:")) and not is_key_hash(key.key_hash):
            yield f"{path}.key_hash: not a hash of an API key; make one with `meshgate apikey`"
        if key.expires is not None and key.expires.tzinfo is None:
            yield f"{path}.expires: a time with a zone, such as 2027-01-01T00:00:00Z"


def check_jwt(issuers: tuple[JwtSettings, ...]) -> Iterator[str]:
    names: set[str] = set()
    for index, jwt in enumerate(issuers):
        path = f"jwt[{index}]"
        if not jwt.issuer:
            yield f"{path}.issuer: must not be empty"
        if jwt.issuer in names:
            yield f"{path}.issuer: {jwt.issuer} is there twice"
        names.add(jwt.issuer)
        if not jwt.audience or "" in jwt.audience:
            yield f"{path}.audience: at least one, such as [\"meshgate\"]; tokens for others must not count here"
        problem = jwks_problem(jwt.jwks)
        if problem is not None:
            yield f"{path}.jwks: {problem}"
        for number, name in enumerate(jwt.algorithms):
            if name not in ALGORITHMS:
                yield f"{path}.algorithms[{number}]: expected one of {', '.join(ALGORITHMS)}, got {name!r}"
            elif name.startswith("HS") and not jwt.jwks.startswith("file:"):
                yield f"{path}.algorithms[{number}]: {name} needs a shared secret, which only a file may hold"
        if not jwt.algorithms:
            yield f"{path}.algorithms: at least one"
        for name in ("user_claim", "roles_claim"):
            if not getattr(jwt, name):
                yield f"{path}.{name}: must not be empty"
        yield from _check_times(path, jwt)


def _check_times(path: str, jwt: JwtSettings) -> Iterator[str]:
    for name, least, most in (("leeway_s", 0, 300), ("refresh_s", 10, 86_400), ("stale_s", 0, 30 * 86_400),
                              ("timeout_s", 0.1, 60)):
        if not least <= getattr(jwt, name) <= most:
            yield f"{path}.{name}: expected {least} to {most} seconds"
    if jwt.stale_s < jwt.refresh_s:
        yield f"{path}.stale_s: expected at least refresh_s"


def jwks_problem(text: str) -> str | None:
    """Why this is not a place for keys that can be trusted, or None."""
    if text.startswith("file:"):
        return None if text[5:] else "file: needs a name behind it"
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        _ = url.port
    except ValueError:
        return "not a URL"
    if url.scheme == "https" and host and url.username is None:
        return None
    if url.scheme == "http" and is_loopback(host) and url.username is None:
        return None
    return "expected https://…, http:// to this machine, or file:PATH: who can change the keys can log in as anybody"


def is_key_hash(text: str) -> bool:
    digest = text.removeprefix(HASH_PREFIX)
    return digest != text and len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def user_problem(user: str) -> str | None:
    """Why nobody may have this name, or None. The same for [[users]], keys and tokens."""
    if not user or len(user.encode("utf-8", "replace")) > USER_BYTES_MAX or not user.isprintable():
        return f"expected 1 to {USER_BYTES_MAX} bytes of printable text"
    if user == "anonymous" or user.startswith("$"):
        return f"{user} is a name that the node uses itself"
    return None
