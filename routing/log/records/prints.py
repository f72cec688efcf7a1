"""Prints: what topics a block of the log may hold, in 4 bytes for each topic and each beginning of one.

A print is the CRC-32 of a topic, or of a beginning of it with the slash: "a/b/c" leaves those of "a/", "a/b/" and
"a/b/c". A filter probes for its topic, or for the levels before its first wildcard. A hit may be wrong, one in four
billion per print; a miss never is. Sorted numbers instead of a Bloom filter: a block is written once, on the loop, and
sorting costs a fifth of setting four bits per topic.
"""
from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from zlib import crc32

PROBED_MAX = 64             # filters that are probed for; who has more of them reads

Probes: TypeAlias = Sequence[tuple[int, ...]]      # of each filter: any of these prints


def add_prints(prints: set[int], topics: Iterable[str]) -> None:
    """Add those of these topics."""
    for topic in topics:
        whole = crc32(topic.encode())
        if whole in prints:
            continue
        prints.add(whole)
        digest = 0
        for level in topic.split("/")[:-1]:
            digest = crc32(level.encode() + b"/", digest)
            prints.add(digest)


def probes_of(patterns: Iterable[str]) -> Probes | None:
    """What the filters probe for. None: one of them may match anything, or there are too many."""
    probes: list[tuple[int, ...]] = []
    for pattern in patterns:
        if len(probes) >= PROBED_MAX:
            return None
        levels = pattern.split("/")
        literal = next((number for number, level in enumerate(levels) if level in ("+", "#")), None)
        if literal is None:
            probes.append((crc32(pattern.encode()),))
        elif not literal:
            return None
        else:
            start = "/".join(levels[:literal])
            below = crc32((start + "/").encode())
            probes.append((below, crc32(start.encode())) if levels[literal] == "#" else (below,))   # "a/#" is "a" too
    return probes


def may_hold(prints: set[int] | array[int], probes: Probes | None) -> bool:
    """False when nothing that was probed for is there."""
    if probes is None:
        return True
    if isinstance(prints, set):
        return any(probe in prints for alternatives in probes for probe in alternatives)
    return any(_is_in(prints, probe) for alternatives in probes for probe in alternatives)


def _is_in(prints: array[int], probe: int) -> bool:
    place = bisect_left(prints, probe)
    return place < len(prints) and prints[place] == probe
