"""Secrets by reference: "file:PATH" and "env:NAME". Called by checks.py, identity.py and the links."""
from __future__ import annotations

import os
from pathlib import Path

from routing.errors import ConfigError

SECRET_BYTES_MAX = 64 * 1024        # a token or a key in PEM


def resolve_secret(value: str) -> str:
    """The secret behind "file:PATH" or "env:NAME"; anything else stands for itself. Raises ConfigError, without it."""
    if value.startswith("env:"):
        found = os.environ.get(value[4:])
        if not found:
            raise ConfigError(f"the environment has no {value[4:]}")
        return found.strip()
    if value.startswith("file:"):
        try:
            with Path(value[5:]).open("rb") as file:
                return file.read(SECRET_BYTES_MAX).decode().strip()
        except OSError as error:
            raise ConfigError(f"{value[5:]}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{value[5:]}: not a text") from error
    return value
