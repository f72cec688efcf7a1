"""Tasks: the coroutine of one request, driven by whatever it waits for, and no event loop. Sans-IO.

    later = Later()                     in a handler:  value = await later         elsewhere:  later.set(value)
    await task.rest()                   between two pieces of work that grow with what a client sends or owns

A task that never has to wait ends within Task.start(). Its steps count in the turns of the loop (fairness/turns.py).
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from routing.fairness.turns import Payer, Share, Turns

log = logging.getLogger(__name__)

T = TypeVar("T")


class Later(Generic[T]):
    """A value that comes later, for one task. set() counts once."""

    __slots__ = ("_wake", "is_set", "value")

    def __init__(self) -> None:
        self.is_set = False
        self.value: T | None = None
        self._wake: Callable[[], None] | None = None

    def set(self, value: T) -> None:
        if self.is_set:
            return
        self.is_set = True
        self.value = value
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def on_set(self, wake: Callable[[], None]) -> None:
        """Called by the task that waits."""
        if self.is_set:
            wake()
        else:
            self._wake = wake

    def forget(self) -> None:
        """Nobody waits any more."""
        self._wake = None

    def __await__(self) -> Generator[Later[T], None, T]:
        if not self.is_set:
            yield self
        return self.value  # type: ignore[return-value]


class Task(Share, Generic[T]):
    """One coroutine. Loop thread only."""

    __slots__ = ("_began_s", "_done", "_is_stepping", "_turns", "_waits_for", "_work", "label", "worked_s")

    def __init__(self, turns: Turns, label: str, payer: Payer | None = None) -> None:
        """label: who this is for, for operators. payer: who pays for all tasks of a connection; a task that pays for
        itself has had nothing, and goes before everybody else's.
        """
        super().__init__(payer)
        self.label = label
        self.worked_s = 0.0                     # by the clock, in its steps
        self._turns = turns
        self._work: Coroutine[Any, Any, T] | None = None
        self._done: Callable[[T | None, BaseException | None], None] | None = None
        self._waits_for: Later[Any] | None = None
        self._is_stepping = False
        self._began_s = 0.0

    def start(self, work: Coroutine[Any, Any, T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Run the first step now. done(value, None), or done(None, error), is called once, unless it is cancelled."""
        self._work = work
        self._done = done
        self._step()

    def cancel(self) -> None:
        """Nobody wants the result: finally clauses run, done is not called. Also from within one of its steps."""
        self._done = None
        if self._waits_for is not None:
            self._waits_for.forget()
            self._waits_for = None
        if not self._is_stepping and self._work is not None:
            work, self._work = self._work, None
            work.close()

    @property
    def is_cancelled(self) -> bool:
        return self._done is None

    async def rest(self) -> None:
        """Let others have the loop, if this step has had its time."""
        if self._turns.clock_s() - self._began_s >= self._turns.slice_s:
            self._waits_for = later = Later[None]()
            self._turns.queue(self)
            await later

    # -- within -----------------------------------------------------------------------------------------------

    def go_on(self) -> float:
        waits_for = self._waits_for
        if waits_for is not None:
            waits_for.set(None)
        return 0.0

    def describe(self) -> str:
        return self.label

    def _woken(self) -> None:
        """What it waited for is there. Its step is charged, as it is not part of a slice of the connection."""
        self._step()
        self._turns.charge(self, self._turns.clock_s() - self._began_s)

    def _step(self) -> None:
        work = self._work
        if work is None:
            return
        self._waits_for = None
        self._began_s = self._turns.clock_s()
        self._is_stepping = True
        try:
            later: Later[Any] = work.send(None)
        except StopIteration as stop:
            self._work = None
            self._worked()
            self._end(stop.value, None)
            return
        except Exception as error:
            self._work = None
            self._worked()
            self._end(None, error)
            return
        finally:
            self._is_stepping = False
        self._worked()
        if self._done is None:                  # cancelled by what it did
            self._work = None
            work.close()
            return
        self._waits_for = later
        later.on_set(self._woken)

    def _worked(self) -> None:
        self.worked_s += self._turns.clock_s() - self._began_s

    def _end(self, value: T | None, error: BaseException | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(value, error)
        elif error is not None:
            log.error("kafka: %s: a fault of ours in what nobody waits for", self.label, exc_info=error)
