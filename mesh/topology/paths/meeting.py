"""What two lists of topic filters have in common, as a list of filters. Pure.

    a/#, b/+   and   a/b/#, +/c        have        a/b/#, a/c, b/c

Two filters have one filter in common, or nothing. Lists are bounded: what is beyond is left out, so never too much.
"""
from __future__ import annotations

from typing import Final

from mesh.link.settings import EVERYTHING
from routing.topic import filter_covers

COMMON_MAX: Final = 1_024


def meeting(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if one == EVERYTHING:
        return other
    if other == EVERYTHING or one == other:
        return one
    found: dict[str, None] = {}
    for left in one:
        for right in other:
            common = common_filter(left, right)
            if common is not None:
                found[common] = None
                if len(found) >= COMMON_MAX:
                    return tuple(found)
    return tuple(sorted(pattern for pattern in found
                        if not any(wide != pattern and filter_covers(wide, pattern) for wide in found)))


def common_filter(one: str, other: str) -> str | None:
    """The filter of all topics that both match; None: there are none."""
    left, right = one.split("/"), other.split("/")
    if _is_of_the_node(left) != _is_of_the_node(right):             # no wildcard matches that level [MQTT-4.7.2-1]
        return None
    levels: list[str] = []
    for at in range(max(len(left), len(right))):
        mine, theirs = (levels_of[at] if at < len(levels_of) else "" for levels_of in (left, right))
        if mine == "#" and at < len(left):
            return "/".join([*levels, *right[at:]])
        if theirs == "#" and at < len(right):
            return "/".join([*levels, *left[at:]])
        if at == len(left):
            return "/".join(levels) if right[at:] == ["#"] else None
        if at == len(right):
            return "/".join(levels) if left[at:] == ["#"] else None
        if mine == "+":
            levels.append(theirs)
        elif theirs in ("+", mine):
            levels.append(mine)
        else:
            return None
    return "/".join(levels)


def _is_of_the_node(levels: list[str]) -> bool:
    return levels[0][:1] == "$"
