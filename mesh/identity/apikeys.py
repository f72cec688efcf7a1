"""API keys: "mgk_" and 43 characters that hold 256 random bits. Sans-IO.

The configuration has the SHA-256 of each. A slow hash, as passwords need, would protect nothing here: nobody guesses
256 bits. Found by its hash in a dict, so the time tells nothing about other keys.
"""
from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

import msgspec

from mesh.identity.auth_settings import HASH_PREFIX, ApiKeySettings, is_key_hash
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

KEY_PREFIX = "mgk_"             # so that a scanner for leaked secrets can know one
KEY_BYTES = 32


class ApiKey(msgspec.Struct, frozen=True):
    """A key whose hash has been resolved."""

    name: str
    user: str
    roles: tuple[str, ...]
    expires_ms: int | None


def make_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_key(key: str) -> str:
    """What the configuration has of a key."""
    return HASH_PREFIX + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def is_key(credential: bytes) -> bool:
    return credential.startswith(KEY_PREFIX.encode())


def resolve_api_keys(keys: Iterable[ApiKeySettings]) -> dict[str, ApiKey]:
    """Hash → key, with file: and env: references read. Raises ConfigError with the path of the setting."""
    found: dict[str, ApiKey] = {}
    for index, key in enumerate(keys):
        try:
            key_hash = resolve_secret(key.key_hash)
        except ConfigError as error:
            raise ConfigError(f"api_keys[{index}].key_hash: {error}") from error
        if not is_key_hash(key_hash):
            raise ConfigError(f"api_keys[{index}].key_hash: not a hash of an API key; make one with `meshgate apikey`")
        if key_hash in found:
            raise ConfigError(f"api_keys[{index}].key_hash: the same key as {found[key_hash].name}")
        expires_ms = None if key.expires is None else int(key.expires.timestamp() * 1000)
        found[key_hash] = ApiKey(key.name, key.user or key.name, key.roles, expires_ms)
    return found
