"""Fetching: a client waits for one event (basic.get) that this node has not: other nodes are asked. Used by part.py.

The client is answered when one of them has lent something, when all have answered, or when the time is over.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

FETCH_S: Final = 1.0            # for one event of another node; who asks waits meanwhile


class _Fetch:
    __slots__ = ("asked", "call", "due_s")

    def __init__(self, call: Callable[[], None], asked: set[str], due_s: float) -> None:
        self.call = call
        self.asked = asked                      # nodes that have not answered
        self.due_s = due_s


class Fetches:
    """Of one part: those under way, by number."""

    __slots__ = ("_number", "_under_way")

    def __init__(self) -> None:
        self._under_way: dict[int, _Fetch] = {}
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def begin(self, call: Callable[[], None], asked: set[str], now_s: float) -> int:
        """call: look again, whether something has come or not. Returns the number for the question."""
        self._number += 1
        self._under_way[self._number] = _Fetch(call, asked, now_s + FETCH_S)
        return self._number

    def nothing(self, number: int, node: str, *, lent: bool) -> None:
        """A node has answered; lent: what it or another one had has come before this."""
        fetch = self._under_way.get(number)
        if fetch is not None:
            fetch.asked.discard(node)
            if lent or not fetch.asked:
                self._end(number)

    def no_answer(self, node: str) -> None:
        """It is not there to answer any more."""
        for number, fetch in list(self._under_way.items()):
            fetch.asked.discard(node)
            if not fetch.asked:
                self._end(number)

    def look(self, now_s: float) -> None:
        """End those whose time is over."""
        for number in [number for number, fetch in self._under_way.items() if now_s >= fetch.due_s]:
            self._end(number)

    def end(self) -> None:
        for number in list(self._under_way):
            self._end(number)

    def _end(self, number: int) -> None:
        fetch = self._under_way.pop(number, None)
        if fetch is not None:
            fetch.call()
