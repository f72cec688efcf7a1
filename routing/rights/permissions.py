"""A rule set by whom its rules are for, and what of it holds for one identity.

    Rules ── by subject: "*", "anonymous", "user:ana", "role:operator" ── per action: what is denied, what is allowed

A rule set is compiled once; an identity then finds its rules by its names, however many rules there are.
"""
from __future__ import annotations

from collections.abc import Iterable

import msgspec

from routing.rights.patterns import PatternIndex
from routing.rights.rules import (
    ANONYMOUS,
    CLIENT,
    DENIES,
    GRANTS,
    USER,
    Action,
    Decision,
    Identity,
    Names,
    Rule,
    marks_of,
    split_marks,
)

NO_RULE = "no rule allows it"
BY_TOPIC = frozenset((Action.PUBLISH, Action.SUBSCRIBE, Action.BROWSE))


class _Side:
    """The rules of one subject that allow, or deny, one action."""

    __slots__ = ("index", "numbers")

    def __init__(self, *, wide: bool) -> None:
        self.index = PatternIndex(wide=wide)
        self.numbers: list[tuple[int, frozenset[str]]] = []     # for actions without topic: the marks that have to fit


class Subject:
    """All rules for one subject."""

    __slots__ = ("allow", "deny", "marks")

    def __init__(self) -> None:
        self.allow: dict[Action, _Side] = {}
        self.deny: dict[Action, _Side] = {}
        self.marks: frozenset[str] = frozenset()                # in rules that allow

    def add(self, number: int, rule: Rule) -> None:
        for actions, sides, parts in ((rule.allow, self.allow, GRANTS), (rule.deny, self.deny, DENIES)):
            wide = sides is self.deny
            for action in {part for named in actions for part in parts.get(named, (named,))}:
                side = sides.setdefault(action, _Side(wide=wide))
                for pattern in rule.filters:
                    side.index.add(pattern, number)
                    side.numbers.append((number, marks_of(pattern)))
        if rule.allow:
            self.marks = self.marks.union(*map(marks_of, rule.filters))


class RuleSet:
    """Rules with their names and the index. Immutable; making one of 10,000 rules takes some 100 ms, so in a thread."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: tuple[Rule, ...] = tuple(
            rule if rule.name else msgspec.structs.replace(rule, name=f"policy {number}")
            for number, rule in enumerate(rules, 1))
        self.per_client = any(CLIENT in text for rule in self.rules for text in (*rule.to, *rule.topics))
        self._subjects: dict[str, Subject] = {}
        self._marked: dict[str, tuple[tuple[str, ...], frozenset[str], Subject]] = {}      # user:pos-%c
        for number, rule in enumerate(self.rules):
            for subject in dict.fromkeys(rule.to):
                if USER in subject:                         # says nothing; the configuration refuses it
                    continue
                if CLIENT in subject and subject.startswith("user:"):
                    name = subject.removeprefix("user:")
                    marked = self._marked.setdefault(name, (split_marks(name), marks_of(name), Subject()))
                    marked[2].add(number, rule)
                else:
                    self._subjects.setdefault(subject, Subject()).add(number, rule)

    @property
    def roles(self) -> list[str]:
        """Those that a rule is for, in order of their names."""
        return sorted(subject.removeprefix("role:") for subject in self._subjects if subject.startswith("role:"))

    def subjects_of(self, identity: Identity, names: Names) -> list[Subject]:
        """Those that this identity is."""
        keys = ["*", f"user:{identity.user}", *(f"role:{role}" for role in identity.roles)]
        if identity.user == ANONYMOUS:
            keys.append(ANONYMOUS)
        found = [self._subjects[key] for key in keys if key in self._subjects]
        found += [subject for parts, marks, subject in self._marked.values()
                  if names.fit(marks) and names.fill(parts) == identity.user]
        return found


class Permissions:
    """The rules that hold for one identity."""

    __slots__ = ("_names", "_set", "_subjects")

    def __init__(self, rules: RuleSet, identity: Identity) -> None:
        self._set = rules
        self._names = Names(identity)
        self._subjects = rules.subjects_of(identity, self._names)

    def decide(self, action: Action, topic: str) -> Decision:
        """topic: a topic or topic filter; only publish, subscribe and browse look at it."""
        numbers = self.denying(action, topic)
        if numbers:
            return Decision(False, self._set.rules[min(numbers)].name)
        numbers = self.allowing(action, topic)
        if numbers:
            return Decision(True, self._set.rules[min(numbers)].name)
        return Decision(False, NO_RULE)

    def denying(self, action: Action, topic: str) -> list[int]:
        """The rules that deny it, in no order."""
        return self._found([subject.deny.get(action) for subject in self._subjects], action, topic, wide=True)

    def allowing(self, action: Action, topic: str) -> list[int]:
        return self._found([subject.allow.get(action) for subject in self._subjects], action, topic, wide=False)

    def _found(self, sides: list[_Side | None], action: Action, topic: str, *, wide: bool) -> list[int]:
        found: list[int] = []
        for side in sides:
            if side is None:
                continue
            if action in BY_TOPIC:
                found += side.index.covering(topic, self._names)
            else:
                found += [number for number, marks in side.numbers if wide or self._names.fit(marks)]
        return found

    def allows_part_of(self, pattern: str, action: Action = Action.SUBSCRIBE) -> bool:
        """True when some topic that the filter matches may be received (or published)."""
        sides = (subject.allow.get(action) for subject in self._subjects)
        return any(side.index.meets(pattern, self._names) for side in sides if side is not None)

    def allows_some(self, action: Action) -> bool:
        """True when a rule allows it for any topic at all."""
        sides = (subject.allow.get(action) for subject in self._subjects)
        return any(self._names.fit(marks) for side in sides if side is not None for _, marks in side.numbers)

    def denies_part_of(self, pattern: str) -> bool:
        """True when some topic that the filter matches may not be received."""
        sides = (subject.deny.get(Action.SUBSCRIBE) for subject in self._subjects)
        return any(side.index.meets(pattern, self._names) for side in sides if side is not None)

    def misfits(self) -> list[str]:
        """Marks in rules for this identity that its names do not fit: those rules allow it nothing."""
        marks = {mark for subject in self._subjects for mark in subject.marks}
        names = self._names
        known = ((USER, names.user, names.user_fits), (CLIENT, names.client, names.client_fits))
        return [mark for mark, name, fit in known if mark in marks and name and not fit]
