"""Nodes that somebody works with, with their logins: `meshgate login`, `logout`, `contexts`, `--context NAME`.

    $XDG_CONFIG_HOME/meshgate/contexts.json     mode 0600, in a folder of mode 0700
    {"current": "graz", "contexts": {"graz": {"url": "https://…", "user": "ana", "token": "mgs_…", "ca": "…",
                                                   "http": "https://…"}}}

A file that others can read is refused: a token in it may be known to them already. Standard library only, so that the
commands start quickly.
"""
from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tui.api.errors import ApiError, Fault
from tui.api.target import Target

CONTEXTS_MAX = 1_000
NAME_CHARACTERS_MAX = 64
FILE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True)
class Context:
    """token: a session's (mgs_…), an API key or a JWT; "" for none.  http: the HTTP listener; "" when none is known."""

    url: str
    user: str = ""
    token: str = ""
    ca: str = ""
    http: str = ""

    def target(self, name: str) -> Target:
        authorization = f"Bearer {self.token}" if self.token else ""
        return Target(self.url, None, authorization, self.user, Path(self.ca) if self.ca else None, name)


@dataclass
class Contexts:
    """The file as it was read."""

    current: str = ""
    contexts: dict[str, Context] = field(default_factory=dict)

    def find(self, name: str) -> Context:
        """Raises ApiError."""
        if name not in self.contexts:
            known = ", ".join(sorted(self.contexts)[:20])
            raise ApiError(Fault.SETUP, f"there is no context {name[:100]}" + (f"; there are {known}" if known else
                           ": make one with `meshgate login URL`"))
        return self.contexts[name]

    def put(self, name: str, context: Context) -> None:
        """Raises ApiError."""
        check_name(name)
        if name not in self.contexts and len(self.contexts) >= CONTEXTS_MAX:
            raise ApiError(Fault.SETUP, f"there are {CONTEXTS_MAX} contexts already")
        self.contexts[name] = context
        self.current = name


def check_name(name: str) -> None:
    """Raises ApiError."""
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        raise ApiError(Fault.SETUP, f"the name of a context has 1 to {NAME_CHARACTERS_MAX} printable characters")


def path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".config"      # a relative one counts for nothing
    return root / "meshgate" / "contexts.json"


def load() -> Contexts:
    """Empty when there is no file. Raises ApiError."""
    file = path()
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise ApiError(Fault.SETUP, f"{file} can be read by others; log in anew where that matters, and "
                                            f"chmod 600 {file}")
            raw = opened.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise ApiError(Fault.SETUP, f"{file}: {error.strerror or error}") from error
    try:
        found = json.loads(raw)
        return Contexts(_text(found["current"]),
                        {_text(name): _context(entry) for name, entry in found["contexts"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ApiError(Fault.SETUP, f"{file} is damaged: remove it and log in again") from error


def _context(entry: dict[str, Any]) -> Context:
    return Context(_text(entry["url"]), _text(entry.get("user", "")), _text(entry.get("token", "")),
                   _text(entry.get("ca", "")), _text(entry.get("http", "")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def save(contexts: Contexts) -> None:
    """Whole or not at all. Raises ApiError."""
    file = path()
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    shown = {"current": contexts.current,
             "contexts": {name: asdict(context) for name, context in sorted(contexts.contexts.items())}}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump(shown, opened, indent=2)
            opened.write("\n")
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
    except OSError as error:
        raise ApiError(Fault.SETUP, f"{file}: {error.strerror or error}") from error
