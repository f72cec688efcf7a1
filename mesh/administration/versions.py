"""Which of two versions of a document counts, and whether they were made at the same time. Pure.

The version with the higher rank counts, everywhere, so nodes that have seen the same versions agree, in whatever order
these came. `seen` only tells whether one author knew of the other's version: if not, the one that gave way is a
conflict, which people have to look at.
"""
from __future__ import annotations

import msgspec

from mesh.administration.documents import Body, Stored, digest_of


class Conflict(msgspec.Struct, frozen=True):
    """Two versions that were made without knowledge of each other. Both stand in it whole."""

    kept: Stored
    gave_way: Stored
    time_ms: int            # when it was noticed


def next_version(current: Stored | None, kind: str, name: str, body: Body | None, *, node: str, author: str,
                 time_ms: int, reason: str) -> Stored:
    """The version after the current one, made here."""
    number = current.number + 1 if current is not None else 1
    seen = {**(current.seen if current is not None else {}), node: number}
    return Stored(kind, name, body, number, node, seen, author, time_ms, reason)


def merged(mine: Stored | None, theirs: Stored, now_ms: int) -> tuple[Stored, Conflict | None]:
    """What counts from now on when another node's version comes."""
    if mine is None or mine.rank == theirs.rank:
        return (theirs, None) if mine is None else (mine, None)
    kept, other = (theirs, mine) if theirs.rank > mine.rank else (mine, theirs)
    if _has_seen(kept, other) or _has_seen(other, kept):
        return kept, None
    seen = {node: max(kept.seen.get(node, 0), other.seen.get(node, 0)) for node in {*kept.seen, *other.seen}}
    kept = msgspec.structs.replace(kept, seen=seen)
    same = digest_of(kept.body) == digest_of(other.body)
    return kept, None if same else Conflict(kept, other, now_ms)


def _has_seen(one: Stored, other: Stored) -> bool:
    return one.seen.get(other.node, 0) >= other.number
