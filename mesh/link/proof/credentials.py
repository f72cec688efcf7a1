"""May this node link? Shared secrets, JWT and client certificates, against the [[link_peers]] of the configuration.

    certificate shown     its common name must be the node's name, whatever else is asked for
    token in the entry    the Hello must have it; compared in constant time
    jwt_key in the entry  the Hello must have a JWT for this node ("sub"), good now, signed with that key
    neither               the certificate is the proof; without one nobody comes in

An entry that names the node decides alone; only without one do the entries for "*" count, so that a secret that many
share cannot be used to pose as a node that has its own. Every no has the same text: it tells a stranger nothing.
Sources: RFC 7519 §4.1, RFC 8725 §3.1 (the key decides the algorithm, never the token).
"""
from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable

import msgspec

from mesh.link.settings import EVERY_NODE, LinkPeerTable
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

logger = logging.getLogger(__name__)

TOKEN_CHARACTERS_MIN = 16       # 64 bits and more where it was made by a machine
JWT_SECRET_BYTES_MIN = 32       # RFC 7518 §3.2
LEEWAY_S = 60                   # clocks of sites that nobody looks after


class PeerEntry(msgspec.Struct, frozen=True):
    """One [[link_peers]] table with its secrets resolved."""

    table: LinkPeerTable
    token_digest: bytes | None = None
    jwt_key: str | None = None
    jwt_algorithm: str = ""

    def __repr__(self) -> str:
        return f"PeerEntry({self.table.node!r})"


class Admission(msgspec.Struct, frozen=True):
    """A yes, with the rules that hold for this peer."""

    entry: PeerEntry
    expires_ms: int | None = None       # of the JWT: the connection ends then, the dialler comes back with a new one


def resolve_peers(peers: Iterable[LinkPeerTable]) -> list[PeerEntry]:
    """Entries with their secrets read. Raises ConfigError with the path of the setting, without the secret."""
    return [_resolve(index, table) for index, table in enumerate(peers)]


class Doorkeeper:
    """Answers for the accept side of all links."""

    def __init__(self, entries: list[PeerEntry], *, anonymous: bool) -> None:
        """anonymous: no users and no peers are configured, so programs on this machine may link without proof."""
        self.entries = entries
        self._anonymous = anonymous and not entries

    def check(
        self, node: str, token: str | None, certificate_name: str | None, *, loopback: bool, now_ms: int,
    ) -> Admission | None:
        """An Admission, or None for no; the reason goes to the log, not to the stranger."""
        found = self._check(node, token, certificate_name, loopback, now_ms)
        if isinstance(found, Admission):
            return found
        logger.warning("link from %s refused: %s", node, found)
        return None

    def _check(
        self, node: str, token: str | None, certificate_name: str | None, loopback: bool, now_ms: int,
    ) -> Admission | str:
        if certificate_name is not None and certificate_name != node:
            return f"its certificate is that of {certificate_name!r}"
        if self._anonymous:
            if loopback:
                return Admission(PeerEntry(LinkPeerTable(node)))
            return "it comes from another machine, and there are no [[link_peers]]"
        entries = [entry for entry in self.entries if entry.table.node == node]
        if not entries:
            entries = [entry for entry in self.entries if entry.table.node == EVERY_NODE]
        if not entries:
            return "no [[link_peers]] has that name"
        problems: list[str] = []
        for entry in entries:
            found = _prove(entry, node, token, certificate_name, now_ms)
            if isinstance(found, Admission):
                return found
            problems.append(found)
        return "; ".join(problems)


def _prove(
    entry: PeerEntry, node: str, token: str | None, certificate_name: str | None, now_ms: int,
) -> Admission | str:
    if entry.token_digest is not None:
        digest = hashlib.sha256((token or "").encode("utf-8", "replace")).digest()
        if hmac.compare_digest(digest, entry.token_digest):
            return Admission(entry)
        return "wrong token" if token else "no token"
    if entry.jwt_key is not None:
        return _prove_by_jwt(entry, entry.jwt_key, node, token, now_ms)
    return Admission(entry) if certificate_name is not None else "no certificate"


def _prove_by_jwt(entry: PeerEntry, key: str, node: str, token: str | None, now_ms: int) -> Admission | str:
    import jwt  # late: few links have a JWT; _algorithm() has loaded it before

    if not token:
        return "no JWT"
    table = entry.table
    try:
        claims = jwt.decode(
            token, key, algorithms=[entry.jwt_algorithm], audience=table.jwt_audience,
            issuer=table.jwt_issuer, options={
                "require": ["sub", "exp"], "verify_exp": False, "verify_nbf": False, "verify_iat": False,
                "verify_aud": table.jwt_audience is not None,
            })
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        return f"JWT: {type(error).__name__}"
    now_s = now_ms / 1000
    expires_s, from_s = claims["exp"], claims.get("nbf", 0)
    if not _is_time(expires_s) or not _is_time(from_s):
        return "JWT: exp and nbf must be numbers"
    if now_s > expires_s + LEEWAY_S:
        return "JWT: it has expired"
    if now_s < from_s - LEEWAY_S:
        return "JWT: it is not good yet"
    if claims["sub"] != node:
        return "JWT: it was given to another node"
    return Admission(entry, int((expires_s + LEEWAY_S) * 1000))


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**40


def _resolve(index: int, table: LinkPeerTable) -> PeerEntry:
    try:
        token = None if table.token is None else resolve_secret(table.token)
        if token is not None and len(token) < TOKEN_CHARACTERS_MIN:
            raise ConfigError(f"expected at least {TOKEN_CHARACTERS_MIN} characters")
    except ConfigError as error:
        raise ConfigError(f"link_peers[{index}].token: {error}") from error
    try:
        key = None if table.jwt_key is None else resolve_secret(table.jwt_key)
        algorithm = "" if key is None else _algorithm(key)
    except ConfigError as error:
        raise ConfigError(f"link_peers[{index}].jwt_key: {error}") from error
    digest = None if token is None else hashlib.sha256(token.encode()).digest()
    return PeerEntry(table, digest, key, algorithm)


def _algorithm(key: str) -> str:
    """What this key verifies. Raises ConfigError."""
    import jwt  # noqa: F401  # now, so that the first link does not wait for it
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if not key.startswith("-----BEGIN"):
        if len(key.encode()) < JWT_SECRET_BYTES_MIN:
            raise ConfigError(f"a shared secret needs at least {JWT_SECRET_BYTES_MIN} bytes")
        return "HS256"
    try:
        public = load_pem_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("not a public key in PEM") from error
    if isinstance(public, RSAPublicKey) and public.key_size >= 2048:
        return "RS256"
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return "ES256"
    raise ConfigError("expected an RSA key of at least 2048 bits or an EC key on P-256")
