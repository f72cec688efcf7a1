"""How far back a filter is wanted: from now on, from the beginning, from a time on."""
from __future__ import annotations

from mesh.replication.messages import BY_TIME, EARLIEST, TIME_MAX_MS, Want

Needs = dict[str, Want]         # filter → where its history must begin: EARLIEST, BY_TIME or an offset


def latest(pattern: str) -> Want:
    return Want(pattern)


def earliest(pattern: str) -> Want:
    return Want(pattern, EARLIEST)


def by_time(pattern: str, since_ms: int) -> Want:
    return Want(pattern, BY_TIME, since_ms=min(max(0, since_ms), TIME_MAX_MS))
