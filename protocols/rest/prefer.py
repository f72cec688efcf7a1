"""The Prefer field of a request: respond-async and wait=<seconds>; all else is ignored.            Source: RFC 7240"""
from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Preferences(msgspec.Struct, frozen=True):
    """What of it concerns us."""

    respond_async: bool = False         # §4.1: 202 at once
    wait_s: int | None = None           # §4.3


NONE = Preferences()


def preferences(members: Iterable[str]) -> Preferences:
    """members: those of all Prefer fields. The first of two equal preferences counts (§2)."""
    found: dict[str, str] = {}
    for member in members:
        name, _, rest = member.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), rest.strip().strip('"'))
    if not found:
        return NONE
    wait = found.get("wait", "")
    seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) <= 6 else None
    return Preferences("respond-async" in found, seconds)
