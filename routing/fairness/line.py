"""Lines: work of one payer that grows with what it sends or owns, one piece of it behind the other, in slices.

    line.add(work)      work: a generator that yields behind each small piece

What is added is begun at once where this turn has room for it, and goes on as its turns come. Work that is added later
begins when all before it is over. What raises is over, and is logged.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from routing.fairness.turns import Share, Turns

log = logging.getLogger(__name__)


class Line(Share):
    __slots__ = ("_emptied", "_is_working", "_turns", "_who", "_works")

    def __init__(self, turns: Turns, who: str, emptied: Callable[[], None] = lambda: None) -> None:
        """who: for operators. emptied: called when all that was added is done."""
        super().__init__()
        self._turns = turns
        self._who = who
        self._emptied = emptied
        self._works: deque[Iterator[None]] = deque()
        self._is_working = False

    def __bool__(self) -> bool:
        """Something is left to do."""
        return bool(self._works)

    def describe(self) -> str:
        return self._who

    def add(self, work: Iterator[None]) -> None:
        self._works.append(work)
        if self._is_working or self.queued:
            return
        if self._turns.admits(self):
            self.go_on()
        else:
            self._turns.queue(self)

    def go_on(self) -> float:
        works = self._works
        self._is_working = True
        with self._turns.slice(self) as slice:
            while works:
                try:
                    if next(works[0], works) is works:
                        works.popleft()
                except Exception:
                    log.exception("%s: a fault of ours in work that takes long", self._who)
                    works.popleft()
                if slice.over:
                    break
        self._is_working = False
        if works:
            self._turns.queue(self)
        else:
            self._emptied()
        return 0.0
