"""The topic filters of rules, by level: which rules cover a topic or a filter, in the time of its levels.

    node ── children "a" ── plus (+) ── marked ("dev-%c") ── rest: rules whose filter ends here with #
                                                          └─ end: rules whose filter ends here

Rules are numbers, in the order of the rule set. The same answers as filter_covers() and filters_intersect() of topic.py
for each filter with its marks filled in; a test compares them. wide: of rules that deny, where a name that fits no mark
stands for any level, and for itself.
"""
from __future__ import annotations

from routing.rights.rules import Names, marks_of, split_marks


class _Node:
    __slots__ = ("children", "end", "marked", "plus", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.plus: _Node | None = None
        self.marked: dict[str, tuple[tuple[str, ...], frozenset[str], _Node]] = {}
        self.rest: tuple[int, ...] = ()
        self.end: tuple[int, ...] = ()


class PatternIndex:
    """See the module's head."""

    __slots__ = ("_root", "_wide")

    def __init__(self, *, wide: bool) -> None:
        self._root = _Node()
        self._wide = wide

    def add(self, pattern: str, number: int) -> None:
        """pattern: a checked topic filter with marks. Numbers come in rising order."""
        node = self._root
        for level in pattern.split("/"):
            if level == "#":
                node.rest += (number,)
                return
            if level == "+":
                node.plus = node.plus or _Node()
                node = node.plus
            elif marks := marks_of(level):
                node = node.marked.setdefault(level, (split_marks(level), marks, _Node()))[2]
            else:
                node = node.children.setdefault(level, _Node())
        node.end += (number,)

    def covering(self, topic: str, names: Names) -> list[int]:
        """Rules with a filter that covers all of a topic or filter, in no order; some may stand there twice."""
        found: list[int] = []
        self._collect(self._root, topic.split("/"), 0, names, found)
        return found

    def _collect(self, node: _Node, levels: list[str], at: int, names: Names, found: list[int]) -> None:
        own = not at and levels[0][:1] == "$"               # no wildcard matches the first level [MQTT-4.7.2-1]
        if node.rest and not own:
            found += node.rest
        if at == len(levels):
            found += node.end
            return
        level = levels[at]
        if level == "#":                                    # covered by # alone
            return
        child = node.children.get(level)
        if child is not None:
            self._collect(child, levels, at + 1, names, found)
        if node.plus is not None and not own:
            self._collect(node.plus, levels, at + 1, names, found)
        for parts, marks, child in node.marked.values():
            text = names.fill(parts)
            if names.fit(marks):
                if text == level:
                    self._collect(child, levels, at + 1, names, found)
            elif self._wide:
                if not own:
                    self._collect(child, levels, at + 1, names, found)
                literal = text.split("/")
                if (len(literal) > 1 or own) and levels[at:at + len(literal)] == literal:
                    self._collect(child, levels, at + len(literal), names, found)

    def meets(self, pattern: str, names: Names) -> bool:
        """Does some topic of the filter match one of ours?"""
        return self._meets(self._root, pattern.split("/"), 0, names)

    def _meets(self, node: _Node, levels: list[str], at: int, names: Names) -> bool:
        own = not at and levels[0][:1] == "$"
        if node.rest and not own:
            return True
        if at == len(levels):
            return bool(node.end)
        level = levels[at]
        if level == "#":
            return self._has_any(node, names, first=not at)
        below: list[_Node] = [node.plus] if node.plus is not None and not own else []
        if level == "+":
            below += [child for name, child in node.children.items() if at or name[:1] != "$"]
        elif level in node.children:
            below.append(node.children[level])
        for parts, marks, child in node.marked.values():
            if names.fit(marks):
                if level == "+" or names.fill(parts) == level:
                    below.append(child)
            elif self._wide:
                if "/" in names.fill(parts):                # rare enough to be taken for a yes
                    return True
                below.append(child)
        return any(self._meets(child, levels, at + 1, names) for child in below)

    def _has_any(self, node: _Node, names: Names, *, first: bool) -> bool:
        """Does a filter end at this node or below it, other than by a mark that a name does not fit?"""
        if node.rest or node.end:
            return True
        below = [node.plus] if node.plus is not None else []
        below += [child for name, child in node.children.items() if not first or name[:1] != "$"]
        below += [child for _, marks, child in node.marked.values() if self._wide or names.fit(marks)]
        return any(self._has_any(child, names, first=False) for child in below)
