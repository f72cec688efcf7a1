"""Times that are looked up in the log for the Pulls of other nodes: a step of one of them per slice."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from routing.fairness.turns import Share

if TYPE_CHECKING:
    from routing.router import Router


class LookUps(Share):
    """All that wait, in turn. Together they are one that wants a part of the loop."""

    __slots__ = ("_router", "_waiting")

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router
        self._waiting: dict[object, Iterator[None]] = {}      # by whose it is

    def describe(self) -> str:
        return "times that are looked up for other nodes"

    def add(self, owner: object, work: Iterator[None]) -> None:
        """work: a step with each next()."""
        self._waiting[owner] = work
        self._router.turns.queue(self)

    def drop(self, owner: object) -> None:
        self._waiting.pop(owner, None)

    def go_on(self) -> float:
        with self._router.turns.slice(self):
            if self._waiting:
                owner, work = next(iter(self._waiting.items()))
                del self._waiting[owner]
                if next(work, work) is not work:            # there is more: after the others
                    self._waiting.setdefault(owner, work)
        if self._waiting:
            self._router.turns.queue(self)
        self._router.request_turn()
        return 0.0
