"""Pacing: who publishes to a queue that falls behind goes in step with what its consumers take.

    consumers want more than a turn gives, and the queue's place is about to leave the tail cache
        └─► publishers have an allowance, SHARE of what is acked ─ used up ─► each waits, in its order, wait_s at most

Reading back from the log costs more than what the tail cache gives, so a queue that once falls out of it would not
catch up while publishers go on as fast as they can. A queue whose consumers take nothing, or as much as they want, is
not paced: it is there to hold what nobody takes yet. Loop thread only.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor
    from routing.settings import Limits

log = logging.getLogger(__name__)

SHARE = 0.75            # of what consumers take may be published: below 1, or the queue would never catch up


class Paced(Protocol):
    """A publisher."""

    pace: Pace | None       # it is to wait
    paced_last: int         # events of its last publish to a queue that is behind
    advance: int            # of its next one that have been counted


class _Waiting(msgspec.Struct):
    publisher: Paced
    go_on: Callable[[], None]
    until_s: float


class Pace:
    """Of one queue that is behind."""

    __slots__ = ("_acked", "allowance", "hungry_s", "is_over", "taken_s", "waiting")

    def __init__(self, acked: int, now_s: float) -> None:
        self._acked = acked
        self.allowance = 0.0            # events that may be published; without one who publishes waits afterwards
        self.hungry_s = now_s           # when its consumers wanted more than they got
        self.taken_s = now_s            # when they have acked something
        self.is_over = False
        self.waiting: deque[_Waiting] = deque()

    def look(self, acked: int, now_s: float, allowance_max: int) -> None:
        """So many were acked in all."""
        taken, self._acked = acked - self._acked, acked
        if taken > 0:
            self.taken_s = now_s
            self.allowance = min(self.allowance + SHARE * taken, allowance_max)


class Pacing:
    """One per router."""

    __slots__ = ("_clock_s", "_limits", "paces")

    def __init__(self, clock_s: Callable[[], float], limits: Callable[[], Limits]) -> None:
        self._clock_s = clock_s
        self._limits = limits
        self.paces: dict[Consumer, Pace] = {}

    # -- the queue's side -------------------------------------------------------------------------------------

    def falls_behind(self, consumer: Consumer, cursor: Cursor) -> None:
        """Its members would take more than this turn gives from this cursor."""
        limits = self._limits()
        if limits.pace_wait_ms <= 0 or not cursor.partition.is_leaving(cursor.position):
            return
        now_s = self._clock_s()
        pace = self.paces.get(consumer)
        if pace is None:
            pace = self.paces[consumer] = Pace(consumer.acked, now_s)
        pace.hungry_s = now_s
        self._look(consumer, pace, now_s, limits)

    def tick(self, now_s: float) -> None:
        """Called often: who has waited long enough goes on, and what is paced no more is forgotten."""
        limits = self._limits()
        wait_s = limits.pace_wait_ms / 1000
        for consumer, pace in list(self.paces.items()):
            self._look(consumer, pace, now_s, limits)
            if consumer.closed or min(pace.hungry_s, pace.taken_s) + wait_s <= now_s:
                del self.paces[consumer]
                pace.is_over = True
                while pace.waiting:
                    self._go_on(pace)
            while pace.waiting and pace.waiting[0].until_s <= now_s:
                self._go_on(pace)

    def _look(self, consumer: Consumer, pace: Pace, now_s: float, limits: Limits) -> None:
        pace.look(consumer.acked, now_s, limits.pace_events)
        while pace.waiting and pace.allowance > 0:
            self._go_on(pace)

    def _go_on(self, pace: Pace) -> None:
        waiting = pace.waiting.popleft()
        publisher = waiting.publisher
        publisher.pace = None
        publisher.advance = publisher.paced_last        # counted before it comes, or all would go on at once
        pace.allowance -= publisher.advance
        try:
            waiting.go_on()
        except Exception:
            log.exception("a fault of ours while publishing goes on")

    # -- the publisher's side ---------------------------------------------------------------------------------

    def published(self, consumers: tuple[Consumer, ...], count: int, publisher: Paced) -> None:
        """Called while anything is paced."""
        for consumer in consumers:
            pace = self.paces.get(consumer)
            if pace is None:
                continue
            publisher.paced_last = count
            pace.allowance -= max(count - publisher.advance, 0)
            publisher.advance = max(publisher.advance - count, 0)
            if pace.allowance <= 0:
                publisher.pace = pace
            return                                      # the first one that is behind decides

    def when_free(self, publisher: Paced, go_on: Callable[[], None]) -> bool:
        """Has it published enough for now? Then go_on is called once, in its turn among those that wait."""
        pace = publisher.pace
        if pace is None:
            return False
        if pace.is_over:
            publisher.pace = None
            return False
        pace.waiting.append(_Waiting(publisher, go_on, self._clock_s() + self._limits().pace_wait_ms / 1000))
        return True
