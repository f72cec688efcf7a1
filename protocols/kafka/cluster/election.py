"""Election: which of the nodes of a cluster leads. Sans-IO: the time comes in.

    undecided ──► somebody says that he leads: follow him
        │         all were heard, or START_S is over, and nobody does: the first of those that are there leads
        ▼
    following ──► nothing was heard of the leader for lost_s: the first of those that are there leads, by a higher term
        ▼
     leading  ──► somebody leads by a higher term, or by the same and stands before us: follow him

There is no vote: two nodes could not hold one. When a cut leaves both sides alive, both have a leader until it is over;
then the higher term goes on: each stands for one who took over from what was before. So who led last and starts again
alone leads by the term that it had: whoever took over meanwhile has a higher one, and keeps it when they meet.
Order is that of the configuration, the same on all of them.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

START_S: Final = 10.0           # after a start, for links to come up


class Election:
    __slots__ = ("_heard", "_leader_heard_s", "_led", "_lost_s", "_me", "_names", "_started_s", "_term_of_leader",
                 "leader", "term")

    def __init__(self, me: str, names: Sequence[str], lost_s: float, term: int, now_s: float, *,
                 led: bool = False) -> None:
        """term: the last one that this node knows of. led: by which it led itself."""
        self.term = term
        self._led = led
        self.leader = ""                        # "": undecided
        self._term_of_leader = 0                # by which it leads; term may be of somebody who is about to
        self._me = me
        self._names = list(names)
        self._lost_s = lost_s
        self._heard: dict[str, float] = {}
        self._started_s = now_s
        self._leader_heard_s = now_s

    def hear(self, node: str, term: int, now_s: float, *, leads: bool) -> bool:
        """It says that it is there. True: another one leads than before."""
        if node not in self._names or node == self._me:
            return False
        self._heard[node] = now_s
        if not leads:
            if term > self.term and self.leader != self._me:
                self.term, self._led = term, False
            return False
        if node == self.leader:
            self._leader_heard_s = now_s
            self._term_of_leader, self.term = max(term, self._term_of_leader), max(term, self.term)
            return False
        if self.leader and (term, -self._rank(node)) <= (self._term_of_leader, -self._rank(self.leader)):
            return False
        if term < self.term:                    # of before the one that this node knows of
            return False
        self.leader, self.term, self._leader_heard_s, self._led = node, term, now_s, False
        self._term_of_leader = term
        return True

    def look(self, now_s: float) -> bool:
        """Called some times a second. True: this node is to lead, by a higher term or again by its own."""
        if self.leader == self._me:
            return False
        there = [name for name in self._names
                 if name == self._me or now_s - self._heard.get(name, -1e9) < self._lost_s]
        if not self.leader:
            due_s = self._started_s + (0.0 if len(there) == len(self._names) else START_S)
        else:
            due_s = self._leader_heard_s + self._lost_s
        due_s += there.index(self._me) * self._lost_s           # who stands before us goes first
        if now_s < due_s:
            return False
        self.leader, self.term, self._led = self._me, self.term + (0 if self._led else 1), False
        self._term_of_leader = self.term
        return True

    def _rank(self, node: str) -> int:
        return self._names.index(node)
