"""A set of topic filters in which none covers another, and how to make a set smaller by making filters wider."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.topology.linkstate.nodestate import FILTER_CHARACTERS_MAX


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

    The parent with the most children goes first, of those the deepest, and the root last: so a branch with thousands
    of reply topics does not widen the others. Nothing that was wanted gets lost. Topics with $ stay as they are.
    """
    if len(covering) > filters_max:
        for parent in _by_children(covering.filters):
            if len(covering) <= filters_max:
                break
            covering.add(f"{parent}/#" if parent else "#")
    if covering.levels > levels_max:
        for pattern in sorted(covering.filters, key=lambda one: -one.count("/")):
            if covering.levels <= levels_max:
                break
            levels = pattern.split("/")
            covering.add("/".join([*levels[:len(levels) // 4], "#"]))
    if covering.levels > levels_max:
        covering.add("#")


def _by_children(filters: Iterable[str]) -> list[str]:
    """Parents with at least two children each, in the order of joining; at last the root."""
    children: dict[str, set[str]] = {}
    for pattern in filters:
        levels = pattern.split("/")
        parent = levels[0]
        for level in levels[1:]:
            children.setdefault(parent, set()).add(level)
            parent = f"{parent}/{level}"
    wide = [parent for parent, below in children.items() if len(below) > 1]
    wide.sort(key=lambda parent: (-len(children[parent]), -parent.count("/"), parent))
    return [*wide, ""]
