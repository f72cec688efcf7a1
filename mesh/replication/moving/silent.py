"""Silent nodes: asked for a consumer, they have not answered in time, and hold up the next one for a moment only.

A node that is cut off stays in sight until its links say so. Were each new consumer to wait for it all that time, every
session that opens meanwhile would begin seconds late.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

SILENT_S: Final = 60.0          # so long it is one: a node that has nothing to say is not heard either


class Silent:
    """Loop thread only."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._until_s: dict[str, float] = {}

    def add(self, nodes: Iterable[str]) -> None:
        self._until_s.update(dict.fromkeys(nodes, self._clock_s() + SILENT_S))

    def heard(self, node: str) -> None:
        """It answers, or asks itself."""
        self._until_s.pop(node, None)

    def __contains__(self, node: str) -> bool:
        until_s = self._until_s.get(node)
        if until_s is None:
            return False
        if until_s <= self._clock_s():
            del self._until_s[node]
            return False
        return True
