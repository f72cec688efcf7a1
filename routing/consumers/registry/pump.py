"""Pump: the deliveries of one turn of the loop. Who asked for it delivers, as long as the turn has time.

    later(work)        ──► run(), at the end of the turn ──► step by step, then
    schedule(consumer) ──►                                   consumer.pump() ─┬─ cannot read the log: with the next tick
                                                                             ├─ a thread reads it first: when it has
                                                                              └─ no time is left: in the next turn
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from routing.consumers.consumer import Consumer
from routing.errors import StorageError
from routing.log.cold import Cold

log = logging.getLogger(__name__)

PUMP_TURN_S = 0.005         # of the deliveries of one turn; a consumer that was begun with is finished with


class Pump:
    """Of one registry."""

    def __init__(self, clock_s: Callable[[], float], request_turn: Callable[[], None]) -> None:
        self._clock_s = clock_s
        self._request_turn = request_turn
        self._scheduled: list[Consumer] = []
        self._works: deque[Iterator[None]] = deque()
        self._stalled: dict[Consumer, None] = {}        # could not read the log; tried again with the next tick

    def schedule(self, consumer: Consumer) -> None:
        self._scheduled.append(consumer)
        self._request_turn()

    def later(self, work: Iterator[None]) -> None:
        """Do it step by step within the turns of the consumers, which all such work shares."""
        self._works.append(work)
        self._request_turn()

    def run(self) -> None:
        """Pump those that asked for it, once. Called at the end of a turn."""
        until_s = self._clock_s() + PUMP_TURN_S
        while self._works:
            try:
                is_over = next(self._works[0], self) is self
            except Exception:                           # the fault of one consumer must not cost the others their turn
                log.exception("a fault of ours while what somebody held goes back")
                is_over = True
            if is_over:
                self._works.popleft()
            if self._works and self._clock_s() >= until_s:
                self._request_turn()
                break
        scheduled, self._scheduled = self._scheduled, []
        for number, consumer in enumerate(scheduled):
            if number and self._clock_s() >= until_s:   # many of them read the log: the rest has the next turn
                self._scheduled[:0] = scheduled[number:]
                self._request_turn()
                break
            try:
                consumer.pump()
            except Cold as cold:
                cold.when_read(consumer.ready)
            except StorageError as error:               # such as too many open files: the others go on
                log.error("consumer %s cannot read the log and tries again: %s", consumer.name, error)
                self._stalled[consumer] = None
            except Exception:
                log.exception("consumer %s: a fault of ours while delivering", consumer.name)

    def tick(self) -> None:
        stalled, self._stalled = self._stalled, {}
        for consumer in stalled:
            consumer.ready()
