"""Work for a connection that grows with what one frame says, as "all 10,000 are done" does: in slices. Sans-IO.

What fits into one slice is done at once. While more is left the connection is held, so nothing behind the frame is
looked at, and its order stands. The work is a generator that yields behind each small piece.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from routing.fairness.turns import Share, Turns

PIECE = 32              # deliveries: some 0.2 ms

T = TypeVar("T")


def in_pieces(items: Iterable[T], each: Callable[[T], object]) -> Iterator[None]:
    """Work that does the same with each of them."""
    for count, item in enumerate(items, 1):
        each(item)
        if count % PIECE == 0:
            yield


class Held(Protocol):
    """The connection."""

    closed: bool

    def hold(self) -> None:
        """Look at nothing behind this frame until release()."""

    def release(self) -> None: ...
    def describe(self) -> str: ...


class LongWork(Share):
    __slots__ = ("_connection", "_guarded", "_turns", "_work")

    def __init__(self, turns: Turns, connection: Held, work: Iterator[None],
                 guarded: Callable[[Callable[[], None]], None]) -> None:
        """guarded: does what it is given; what that raises ends what it has to. Not used for the first slice."""
        super().__init__()
        self._turns = turns
        self._connection = connection
        self._work: Iterator[None] | None = work
        self._guarded = guarded

    def start(self) -> None:
        """Within a slice of the connection. Raises what the work raises."""
        self._do()
        if self._work is not None:
            self._connection.hold()
            self._turns.queue(self)

    def describe(self) -> str:
        return self._connection.describe()

    def go_on(self) -> float:
        if not self._connection.closed:
            with self._turns.slice(self):
                self._guarded(self._do)
        if self._work is not None and not self._connection.closed:
            self._turns.queue(self)
        else:
            self._connection.release()
        return 0.0

    def _do(self) -> None:
        turns, work = self._turns, self._work
        assert work is not None
        start_s, start_cpu_s = turns.clock_s(), turns.asked_cpu_s
        self._work = None                               # what raises is over
        for _ in work:
            if self._connection.closed:
                return
            if (turns.clock_s() - start_s >= turns.slice_s
                    and turns.used_s(start_s, start_cpu_s) >= turns.room_s()):
                self._work = work
                return
