"""Users and their password hashes: argon2id, made by `meshgate passwd`, read from the configuration. No state.

Sources: RFC 9106 (argon2), OWASP Password Storage (19 MiB, 2 passes).
"""
from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable

import argon2
import msgspec
from argon2.exceptions import Argon2Error, InvalidHashError

from mesh.identity.auth_settings import UserSettings
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

# 25 ms and 19 MiB per login: OWASP's choice, and a plant of 1,000 devices is back half a minute after a power cut,
# also when nothing of it is remembered (remembered.py).
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
AUTHENTICATED = "authenticated"         # a role that everybody has who logged in; policies may name it


class User(msgspec.Struct, frozen=True):
    """A user whose secret has been resolved."""

    name: str
    roles: tuple[str, ...]
    password_hash: str | None

    def __repr__(self) -> str:
        return f"User({self.name!r})"


def check_password_hash(text: str) -> str | None:
    """Why text is not an argon2id hash, or None. The text itself is never shown."""
    try:
        parameters = argon2.extract_parameters(text)
    except InvalidHashError:
        return "not an argon2id hash; make one with `meshgate passwd`"
    if parameters.type is not argon2.Type.ID:
        return "argon2i and argon2d are not accepted; make an argon2id hash with `meshgate passwd`"
    if parameters.memory_cost > 1024 * 1024 or parameters.time_cost > 64:
        return "costs more than 1 GiB or 64 passes; make a cheaper one with `meshgate passwd`"
    return None


def hash_password(password: str) -> str:
    """An argon2id hash for the configuration file. Takes some 25 ms."""
    return HASHER.hash(password)


def verify_password(stored: str, password: bytes) -> bool:
    """The slow comparison. It releases the interpreter while it works."""
    try:
        return HASHER.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False


def cost_of(stored: str) -> tuple[int, int, int]:
    parameters = argon2.extract_parameters(stored)
    return parameters.time_cost, parameters.memory_cost, parameters.parallelism


def decoy_like(stored: str | None) -> str:
    """The hash of no password, without computing one, that costs as much to verify as the stored one."""
    time_cost, memory_cost, parallelism = (
        (HASHER.time_cost, HASHER.memory_cost, HASHER.parallelism) if stored is None else cost_of(stored))
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"$argon2id$v=19$m={memory_cost},t={time_cost},p={parallelism}${salt}${digest}"


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
