"""Work for a connection that grows with what one packet, or its session, holds: in slices of the loop's turns. Sans-IO.

A SUBSCRIBE of 10,000 filters, a session of as many that goes on. What fits into one slice is done at once; while more
is left the connection reads nothing, so the order of its packets stands.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from protocols.mqtt.codec import reasons
from routing.fairness.turns import Share, Turns

if TYPE_CHECKING:
    from protocols.mqtt.sessions.session import Line

T = TypeVar("T")

log = logging.getLogger(__name__)


class Steps(Share, Generic[T]):
    __slots__ = ("_connection", "_end", "_items", "_one", "_turns")

    def __init__(self, connection: Line, turns: Turns, items: Iterable[T], one: Callable[[T], None],
                 end: Callable[[], None]) -> None:
        """one: called with each item, in order; end: behind the last. Neither is called once the connection is over."""
        super().__init__()
        self._connection = connection
        self._items = iter(items)
        self._one = one
        self._end = end
        self._turns = turns

    def start(self) -> None:
        """Within a slice of the connection."""
        if not self._work():
            self._connection.pause_reading()
            self._turns.queue(self)

    def describe(self) -> str:
        return self._connection.describe()

    def go_on(self) -> float:
        connection = self._connection
        try:
            with self._turns.slice(self):
                done = self._work()
        except Exception:                               # a fault of ours: this connection dies, the node lives
            log.exception("! internal error in %s", self.describe())
            connection.fail(reasons.UNSPECIFIED_ERROR, "internal error")
            return 0.0
        if done:
            connection.resume_reading()
        else:
            self._turns.queue(self)
        return 0.0

    def _work(self) -> bool:
        """False: there is more."""
        turns = self._turns
        start_s, start_cpu_s = turns.clock_s(), turns.asked_cpu_s
        for item in self._items:
            if self._connection.closed:
                return True
            self._one(item)
            if (turns.clock_s() - start_s >= turns.slice_s
                    and turns.used_s(start_s, start_cpu_s) >= turns.room_s()):
                return False
        if not self._connection.closed:
            self._end()
        return True
