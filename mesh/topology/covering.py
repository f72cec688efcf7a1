"""A set of topic filters in which none covers another, and how to make a set smaller by making filters wider."""
from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from mesh.topology.nodestate import FILTER_CHARACTERS_MAX


class _Node:
    __slots__ = ("children", "end")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.end = False


class Covering:
    """Filters as a tree of levels. covers() visits at most two branches per level."""

    def __init__(self, filters: Iterable[str] = ()) -> None:
        self._root = _Node()
        self.filters: dict[str, None] = {}
        self.levels = 0                         # of all filters together
        for pattern in filters:
            self.add(pattern)

    def __len__(self) -> int:
        return len(self.filters)

    def __contains__(self, pattern: str) -> bool:
        return pattern in self.filters

    def covers(self, pattern: str) -> bool:
        """True when one filter of the set matches everything that pattern matches."""
        if pattern in self.filters:
            return True
        nodes = [self._root]
        wild = pattern[:1] != "$"                               # [MQTT-4.7.2-1]
        for level in pattern.split("/"):
            below: list[_Node] = []
            for node in nodes:
                children = node.children
                if wild:
                    rest = children.get("#")
                    if rest is not None and rest.end:
                        return True
                    if level != "#" and level != "+" and "+" in children:
                        below.append(children["+"])
                exact = children.get(level)
                if exact is not None:
                    below.append(exact)
            wild = True
            nodes = below
            if not nodes:
                return False
        return any(node.end or ("#" in node.children and node.children["#"].end) for node in nodes)

    def add(self, pattern: str) -> list[str]:
        """Put a filter in unless it is covered; those that it covers go. Returns the ones that went."""
        if self.covers(pattern):
            return []
        gone = list(self._below(pattern))
        for other in gone:
            self.discard(other)
        node = self._root
        for level in pattern.split("/"):
            node = node.children.setdefault(level, _Node())
        node.end = True
        self.filters[pattern] = None
        self.levels += pattern.count("/") + 1
        return gone

    def discard(self, pattern: str) -> None:
        if pattern not in self.filters:
            return
        del self.filters[pattern]
        self.levels -= pattern.count("/") + 1
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in pattern.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.end = False
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.end or child.children:
                break
            del parent.children[level]

    def _below(self, pattern: str) -> Iterator[str]:
        """Filters of the set that pattern covers."""
        found: list[tuple[_Node, str]] = [(self._root, "")]
        first = True
        for level in pattern.split("/"):
            if level == "#":
                for node, text in found:
                    if node.end:
                        yield text
                    yield from self._all(node, text, first)
                return
            found = [
                (child, name if first else f"{text}/{name}")
                for node, text in found for name, child in node.children.items()
                if name == level or (level == "+" and name != "#" and not (first and name[:1] == "$"))
            ]
            first = False
        yield from (text for node, text in found if node.end)

    def _all(self, top: _Node, text: str, first: bool) -> Iterator[str]:
        todo = [(top, text, first)]
        while todo:
            node, text, first = todo.pop()
            for name, child in node.children.items():
                if first and name[:1] == "$":
                    continue
                path = name if first else f"{text}/{name}"
                if child.end:
                    yield path
                todo.append((child, path, False))


def shorten(pattern: str) -> str:
    """A filter that is not longer than FILTER_CHARACTERS_MAX and covers pattern."""
    if len(pattern) <= FILTER_CHARACTERS_MAX:
        return pattern
    cut = pattern.rfind("/", 0, FILTER_CHARACTERS_MAX - 1)
    return f"{pattern[:cut]}/#" if cut >= 0 else "#"


def widen(covering: Covering, filters_max: int, levels_max: int) -> None:
    """Join filters below a common parent into `parent/#` until there are at most filters_max, levels_max in all.

    The fullest parents go first, so that one noisy branch does not widen the others. Nothing that was wanted gets lost.
    """
    groups: dict[str, int] = {}
    for pattern in covering.filters:
        parent = _parent(pattern)
        groups[parent] = groups.get(parent, 0) + 1
    heap = [_rank(parent, count) for parent, count in groups.items()]
    heapq.heapify(heap)
    while heap and (len(covering) > filters_max or covering.levels > levels_max):
        entry = heapq.heappop(heap)
        parent = entry[-1]
        count = groups.get(parent, 0)
        if not count:
            continue
        if entry != _rank(parent, count):
            heapq.heappush(heap, _rank(parent, count))
            continue
        wide = f"{parent}/#" if parent else "#"
        for pattern in covering.add(wide):
            groups[_parent(pattern)] -= 1
        above = _parent(wide)
        groups[above] = groups.get(above, 0) + 1
        heapq.heappush(heap, _rank(above, groups[above]))


def _parent(pattern: str) -> str:
    """What stands before the last level, where "#" is no level of its own. "" for a filter of one level."""
    return pattern.removesuffix("/#").rpartition("/")[0]


def _rank(parent: str, count: int) -> tuple[bool, int, int, str]:
    """Order of joining: the root last, the fullest first, of those the deepest first."""
    return not parent, -count, -parent.count("/"), parent
