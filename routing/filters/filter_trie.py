"""FilterTrie: topic filters → what stands under them, found by topic.

In the router's it is direct Subscriptions and Consumers, in the mesh's the names of nodes, in an MQTT session's its
subscriptions. A way down without a branch is one node, however many levels it has:

    a/+/c → x                 root ── "a/+/c" [x]
    a/+/c → x, a/+/d/# → y    root ── "a/+" ─┬─ "c" [x]
                                             └─ "d" ── "#" [y]

so n filters are at most 3n + 1 nodes and their text, and a topic visits no more of them than there are.
"""
from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any


def _nothing(levels: list[str]) -> None:
    """What a text has of exact levels that has none."""


class _Node:
    """text: the levels from the node above down to this one. "#" is always a node of its own."""

    __slots__ = ("children", "entries", "levels", "pick", "text")

    def __init__(self, text: str) -> None:
        self.children: dict[str, _Node] | None = None       # by the first level of their text
        self.entries: dict[Any, None] | None = None
        self.take(text)

    def take(self, text: str) -> None:
        self.text = text
        self.levels = text.count("/") + 1
        self.pick: Callable[[list[str]], Any] | None = None     # the levels that are no "+", if there is a "+"
        if "+" in text and self.levels > 1:
            exact = [index for index, level in enumerate(text.split("/")) if level != "+"]
            self.pick = itemgetter(*exact) if exact else _nothing

    def put(self, child: _Node) -> None:
        if self.children is None:
            self.children = {}
        self.children[child.text.partition("/")[0]] = child


class FilterTrie:
    """See the module's head. Entries are told apart by equality and need a hash; one under one filter stands once."""

    def __init__(self) -> None:
        self._root = _Node("")
        self.count = 0
        self.wanted: dict[str, int] = {}        # filter → entries that stand under it
        self.on_wanted: list[Callable[[str, bool], None]] = []      # told of filters that appear (True) and go (False)

    # -- entries ----------------------------------------------------------------------------------------------

    def add(self, pattern: str, entry: Any) -> None:
        node = self._root
        body, rest = _parts(pattern)
        if body is not None:
            node = _reach(node, body)
        if rest:
            node = _reach(node, "#")
        if node.entries is None:
            node.entries = {}
        elif entry in node.entries:
            return
        node.entries[entry] = None
        self.count += 1
        known = self.wanted.get(pattern, 0)
        self.wanted[pattern] = known + 1
        if not known:
            self._tell(pattern, True)

    def remove(self, pattern: str, entry: Any) -> bool:
        """False when the entry was not there."""
        body, rest = _parts(pattern)
        path = [self._root]
        if (body is not None and not _follow(path, body)) or (rest and not _follow(path, "#")):
            return False
        node = path[-1]
        if node.entries is None or entry not in node.entries:
            return False
        del node.entries[entry]
        self.count -= 1
        left = self.wanted[pattern] - 1
        if left:
            self.wanted[pattern] = left
        else:
            del self.wanted[pattern]
            self._tell(pattern, False)
        if not node.entries:
            node.entries = None
            _prune(path)
        return True

    def _tell(self, pattern: str, appeared: bool) -> None:
        for callback in self.on_wanted:
            callback(pattern, appeared)

    # -- match ------------------------------------------------------------------------------------------------

    def match(self, topic: str) -> list[Any]:
        """Entries whose filter matches the topic; one that stands under several filters comes several times."""
        found: list[Any] = []
        levels = topic.split("/")
        count = len(levels)
        below = [self._root]
        depths = [0]
        while below:
            node = below.pop()
            depth = depths.pop()
            children = node.children
            if depth == count:
                if node.entries is not None:
                    found.extend(node.entries)
                if children is not None:
                    rest = children.get("#")                    # "a/#" matches "a" too
                    if rest is not None and rest.entries is not None:
                        found.extend(rest.entries)
                continue
            if children is None:
                continue
            level = levels[depth]
            if depth or level[:1] != "$":                       # [MQTT-4.7.2-1]
                rest = children.get("#")
                if rest is not None and rest.entries is not None:
                    found.extend(rest.entries)
                child = children.get("+")
                if child is not None and (child.levels == 1 or _goes_along(child, levels, depth)):
                    below.append(child)
                    depths.append(depth + child.levels)
            child = children.get(level)
            if child is not None and (child.levels == 1 or _goes_along(child, levels, depth)):
                below.append(child)
                depths.append(depth + child.levels)
        return found


    def intersecting(self, pattern: str) -> dict[Any, None]:
        """Entries under filters that meet the pattern: some topic matches both. See topic.filters_intersect()."""
        found: dict[Any, None] = {}
        levels = pattern.split("/")
        below = [(self._root, 0)]
        while below:
            node, depth = below.pop()
            if depth == len(levels) or levels[depth] == "#":
                if node.entries is not None:
                    found.update(node.entries)
                if depth < len(levels):                         # "a/#" and all that lies below "a"
                    below.extend((child, depth) for child in _fitting(node, "#", depth))
                elif node.children is not None and "#" in node.children:
                    found.update(node.children["#"].entries or {})
                continue
            for child in _fitting(node, levels[depth], depth):
                if child.text == "#":
                    found.update(child.entries or {})
                elif (reached := _meets(child, levels, depth)) is not None:
                    below.append((child, reached))
        return found


def _fitting(node: _Node, level: str, depth: int) -> list[_Node]:
    """Children whose first level may be that of the same topic as this level of a filter."""
    children = node.children or {}
    if level in ("+", "#"):
        return [child for first, child in children.items() if depth or first[:1] != "$"]        # [MQTT-4.7.2-1]
    wilds = ("+", "#") if depth or level[:1] != "$" else ()
    return [children[first] for first in (level, *wilds) if first in children]


def _meets(node: _Node, levels: list[str], depth: int) -> int | None:
    """How far a filter has come that goes along with the node's text, at most to its "#"; None: it does not."""
    for there in node.text.split("/"):
        if depth == len(levels):
            return None
        level = levels[depth]
        if level == "#":
            return depth
        if level not in ("+", there) and there != "+":
            return None
        depth += 1
    return depth


def _parts(pattern: str) -> tuple[str | None, bool]:
    """(what stands before "#", None when nothing does; whether it ends with "#")"""
    if pattern == "#":
        return None, True
    if pattern.endswith("/#"):
        return pattern[:-2], True
    return pattern, False


def _goes_along(node: _Node, levels: list[str], depth: int) -> bool:
    """Does the topic follow all levels of a node? Its first one is known to fit."""
    end = depth + node.levels
    if end > len(levels):
        return False
    pick, wanted, there = node.pick, node.text.split("/"), levels[depth:end]
    return wanted == there if pick is None else bool(pick(wanted) == pick(there))


def _common(left: str, right: str) -> str:
    """The whole levels with which both begin; at least the first is the same."""
    if left == right:
        return left
    if right.startswith(left) and right[len(left)] == "/":
        return left
    same = 0
    lefts = left.split("/")
    for one, other in zip(lefts, right.split("/")):
        if one != other:
            break
        same += 1
    return "/".join(lefts[:same])


def _reach(node: _Node, text: str) -> _Node:
    """The node at this text below another; made if it is not there."""
    while True:
        child = (node.children or {}).get(text.partition("/")[0])
        if child is None:
            child = _Node(text)
            node.put(child)
            return child
        shared = _common(child.text, text)
        if len(shared) < len(child.text):               # the way divides within the child
            upper = _Node(shared)
            node.put(upper)
            child.take(child.text[len(shared) + 1:])
            upper.put(child)
            child = upper
        if len(shared) == len(text):
            return child
        node, text = child, text[len(shared) + 1:]


def _follow(path: list[_Node], text: str) -> bool:
    """Go down along a text that is there, and write down the way. False: it is not there."""
    while True:
        child = (path[-1].children or {}).get(text.partition("/")[0])
        if child is None:
            return False
        size = len(child.text)
        path.append(child)
        if text == child.text:
            return True
        if not text.startswith(child.text) or text[size:size + 1] != "/":
            return False
        text = text[size + 1:]


def _prune(path: list[_Node]) -> None:
    """The last node of a way has lost its last entry: take away what serves nothing, make one of two where it does."""
    while len(path) > 1:
        node = path.pop()
        children = node.children
        if node.entries is not None or (children is not None and len(children) > 1):
            return
        parent = path[-1]
        if children:
            (child,) = children.values()
            if child.text == "#":
                return
            child.take(f"{node.text}/{child.text}")
            parent.put(child)
            return
        assert parent.children is not None
        del parent.children[node.text.partition("/")[0]]
        if not parent.children:
            parent.children = None
