"""The public keys of a token issuer: a JSON Web Key Set (RFC 7517) from a file or a URL, cached and refreshed.

    find(kid, alg) ── there? ── yes ▸ key           older than refresh_s: fetched again behind the scenes
                         └─ no ▸ refresh(then)      a new key after a rotation: one fetch, for all who wait,
                                                    at most every COOLDOWN_S, whatever key ids strangers make up
    then: still not there? ── the fetch went well ▸ there is no such key
                         └─ it did not, or was not due ▸ busy(): "come back", since nobody knows

A key fits an algorithm by what it is, never by what a token says (RFC 8725 §3.1): an RSA key never checks an HMAC.
A set that cannot be had or read changes nothing; the keys from before count until stale_s.
"""
from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from mesh.identity.auth_settings import JwtSettings
from mesh.system.names.names import Names
from mesh.system.names.resolver import NamesResolver
from mesh.system.tls import system_trust
from routing.errors import ConfigError, Reason, Refusal

logger = logging.getLogger(__name__)

SET_BYTES_MAX = 256 * 1024      # of the largest issuers: some 10 KiB
KEYS_MAX = 64
COOLDOWN_S = 10.0               # between two fetches
WAITING_MAX = 2_000             # logins that wait for one fetch; what is beyond is refused

Fetch = Callable[[], Awaitable[bytes]]


class KeySetError(ValueError):
    """No key set, or none that can be used. The text is for the log."""


class Key(msgspec.Struct, frozen=True):
    """One key, with the algorithms that it may check."""

    kid: str | None
    key: Any
    algorithms: frozenset[str]

    def __repr__(self) -> str:
        return f"Key({self.kid!r})"


def parse_keys(raw: bytes, allowed: tuple[str, ...]) -> list[Key]:
    """The usable keys of a set. allowed: algorithms of the configuration. Raises KeySetError: no set, no such key."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KeySetError(f"not JSON: {error}") from None
    members = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(members, list) or len(members) > KEYS_MAX:
        raise KeySetError(f"expected an object with a list \"keys\" of at most {KEYS_MAX}")
    keys = [key for key in (_parse_key(member, allowed) for member in members) if key is not None]
    if not keys:
        raise KeySetError(f"none of its {len(members)} keys is for {', '.join(allowed)}")
    return keys


def _parse_key(member: object, allowed: tuple[str, ...]) -> Key | None:
    """None for a key that we have no use for: another type, for encryption, too weak, broken."""
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    kid = member.get("kid")
    if kid is not None and not isinstance(kid, str):
        return None
    from mesh.identity.jwk import load_key  # late: most nodes have no issuer

    key, fitting = load_key(member)
    named = member.get("alg")
    algorithms = frozenset(name for name in fitting if name in allowed and named in (None, name))
    return Key(kid, key, algorithms) if algorithms else None


class KeySource:
    """The keys of one issuer. Loop thread only."""

    def __init__(self, settings: JwtSettings, fetch: Fetch, now_s: Callable[[], float]) -> None:
        self.settings = settings
        self.failure = ""                           # why the last fetch gave nothing; "" when it did
        self.generation = 0                         # rises with every set taken
        self._fetch = fetch
        self._now_s = now_s
        self._keys: list[Key] = []
        self._taken_s = -1e9
        self._tried_s = -1e9
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[Callable[[], None], None] = {}

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key for a token. Without a key id only where there is no choice."""
        age_s = self._now_s() - self._taken_s
        if age_s > self.settings.refresh_s:
            self.refresh(None)
        if age_s > self.settings.stale_s:
            return None
        fitting = [key for key in self._keys if algorithm in key.algorithms and kid in (None, key.kid)]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    def age_s(self) -> float | None:
        """Of the keys; None before the first fetch."""
        return self._now_s() - self._taken_s if self._keys else None

    def refresh(self, then: Callable[[], None] | None) -> bool:
        """Fetch the set, unless that was tried just now. then: called at its end. False: it will not be called."""
        if self._task is None:
            if self._now_s() - self._tried_s < COOLDOWN_S:
                return False
            self._tried_s = self._now_s()
            self._task = asyncio.get_running_loop().create_task(self._run())
        if then is not None:
            if len(self._waiting) >= WAITING_MAX:
                return False
            self._waiting[then] = None
        return True

    def forget(self, then: Callable[[], None]) -> None:
        """Nobody waits for that any more."""
        self._waiting.pop(then, None)

    @property
    def is_fresh(self) -> bool:
        """The newest fetch gave a set, and it is that one that find() looks at."""
        return bool(self._keys) and not self.failure

    def busy(self) -> Refusal:
        """The answer for who cannot be judged by the keys that are here."""
        left_s = math.ceil(max(self._tried_s + COOLDOWN_S - self._now_s(), 1.0))
        return Refusal(Reason.BUSY, f"the keys of the token's issuer are not there yet, try again in {left_s}s", left_s)

    def take(self, raw: bytes) -> None:
        """Use this set from now on. Raises KeySetError and changes nothing when there is nothing in it."""
        self._keys = parse_keys(raw, self.settings.algorithms)
        self._taken_s = self._now_s()
        self.generation += 1

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                raw = await self._fetch()
            self.take(raw)
            self.failure = ""
        except (KeySetError, OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            self.failure = str(error) or type(error).__name__
            logger.warning("no keys from %s: %s", self.settings.jwks, self.failure[:200])
        finally:
            self._task = None
            waiting, self._waiting = self._waiting, {}
            for then in waiting:
                then()


def fetch_of(settings: JwtSettings, names: Names) -> Fetch:
    """How to get the set of an issuer. names: of the hosts of all issuers."""
    if settings.jwks.startswith("file:"):
        path = Path(settings.jwks[5:])

        async def read() -> bytes:
            return read_file(path)
        return read

    async def get() -> bytes:
        return await _get(settings.jwks, settings.timeout_s, names)
    return get


def read_file(path: Path) -> bytes:
    """Raises OSError, KeySetError."""
    with path.open("rb") as file:
        raw = file.read(SET_BYTES_MAX + 1)
    if len(raw) > SET_BYTES_MAX:
        raise KeySetError(f"larger than {SET_BYTES_MAX} bytes")
    return raw


def check_file(path: str, settings: JwtSettings) -> None:
    """Raise ConfigError unless the file of an issuer, if it has one, can be used. path: of the setting."""
    if not settings.jwks.startswith("file:"):
        return
    try:
        parse_keys(read_file(Path(settings.jwks[5:])), settings.algorithms)
    except OSError as error:
        raise ConfigError(f"{path}: {settings.jwks[5:]}: {error.strerror}") from error
    except KeySetError as error:
        raise ConfigError(f"{path}: {settings.jwks[5:]}: {error}") from error


async def _get(url: str, timeout_s: float, names: Names) -> bytes:
    """One GET on one socket: no redirect, no proxy of the environment, no more than SET_BYTES_MAX of it."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    trust = await asyncio.to_thread(system_trust)
    connector = aiohttp.TCPConnector(resolver=NamesResolver(names), use_dns_cache=False, limit=1, ssl=trust)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False, auto_decompress=False) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
    ):
        if response.status != 200:
            raise KeySetError(f"HTTP {response.status}")
        raw = bytearray()
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) > SET_BYTES_MAX:
                raise KeySetError(f"larger than {SET_BYTES_MAX} bytes")
        return bytes(raw)
