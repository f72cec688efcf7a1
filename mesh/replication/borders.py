"""Borders: what may pass by a link, asked of whole filters. Used where more than single events is at stake."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from routing.topic import filter_covers

if TYPE_CHECKING:
    from mesh.link.protocol.neighbour import Neighbour

EVERYTHING: Final = "#"
NOTHING: Final = ("$",)         # no topic that may leave its node begins like this


def exports_of(edge: Neighbour | None) -> tuple[str, ...]:
    """Filters of what may leave by a link. Empty: everything; without a link nothing."""
    return bounds_of(edge.exports) if edge is not None else NOTHING


def bounds_of(borders: Sequence[str]) -> tuple[str, ...]:
    """Filters of what may pass. Empty: everything. Borders without a filter let nothing pass: so they are written, or
    links on a way have nothing in common.
    """
    return () if EVERYTHING in borders else tuple(borders) or NOTHING


def may_leave(edge: Neighbour | None, patterns: Iterable[str]) -> bool:
    """May all events of these filters leave by this link?"""
    return edge is not None and all(any(filter_covers(one, pattern) for one in edge.exports) for pattern in patterns)


def may_enter(edge: Neighbour | None, patterns: Iterable[str]) -> bool:
    """The same for coming in. The filters are as they are written here, with the prefix of the link."""
    if edge is None:
        return False
    prefix = f"{edge.prefix.rstrip('/')}/" if edge.prefix else ""
    return all(any(filter_covers(prefix + one, pattern) for one in edge.imports) for pattern in patterns)
