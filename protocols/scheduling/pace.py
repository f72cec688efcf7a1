"""A coroutine whose work counts in the turns of the loop (fairness/turns.py), and that gives the loop away in between.

    pace = Pace(turns)
    await pace.admitted()                       # when others come first: later
    await pace.run(handle(request))             # every step of it, from one await to the next, is measured and charged
        … in it: await pace.rest()              # between two pieces of work that grow with what a client sends or owns

rest() costs a look at the clock while the step has had less than a slice; when it has had what the turn has room for,
the coroutine waits for its turn.
A step that nobody divides by rest() is charged all the same: its owner comes later next time.
"""
from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from routing.fairness.turns import Payer, Share, Turns

T = TypeVar("T")
EXPECTED_FIRST_S = 0.001       # of a step of which nothing is known: most take less
USUAL_DECAY = 0.95              # of the longest step, per step


class Client(Payer):
    """Pays for all connections of one client together: fifty of them get no more of the loop than one."""

    __slots__ = ("connections",)

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0


class Pace(Share):
    """Of one coroutine at a time. Loop thread only."""

    __slots__ = ("_expected_s", "_turns", "_usual_s", "_waits", "began_cpu_s", "began_s")

    def __init__(self, turns: Turns, payer: Payer | None = None) -> None:
        super().__init__(payer)
        self.began_s = 0.0                  # of the step that is under way
        self.began_cpu_s = 0.0              # or before, see Turns.used_s()
        self._expected_s = 0.0              # of the step that waits
        self._usual_s = EXPECTED_FIRST_S    # of a step that works
        self._turns = turns
        self._waits: asyncio.Future[None] | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Paced[T]:
        """The coroutine as an awaitable that is measured."""
        return Paced(coroutine, self, self._turns)

    async def admitted(self) -> None:
        """Wait until this turn has room for a step."""
        if not self._turns.admits(self):
            await self._turn(self._usual_s)

    async def rest(self) -> None:
        """Let others have the loop if this step has had its slice."""
        turns = self._turns
        if (turns.clock_s() - self.began_s >= turns.slice_s
                and turns.used_s(self.began_s, self.began_cpu_s) >= turns.room_s()):
            await self._turn(turns.slice_s)

    async def _turn(self, expected_s: float) -> None:
        self._expected_s = expected_s
        self._waits = waits = asyncio.get_running_loop().create_future()
        self._turns.queue(self)
        await waits

    def go_on(self) -> float:
        waits = self._waits
        if waits is None or waits.done():
            return 0.0                      # cancelled meanwhile
        waits.set_result(None)
        return self._expected_s

    def charge(self, seconds: float) -> None:
        usual_s = USUAL_DECAY * self._usual_s           # few steps do the work, and most are nothing: not their mean
        self._usual_s = usual_s if usual_s > seconds else seconds
        self._turns.charge(self, seconds)


class Paced(Generic[T]):
    """Drives a coroutine step by step."""

    __slots__ = ("_coroutine", "_pace", "_turns")

    def __init__(self, coroutine: Coroutine[Any, Any, T], pace: Pace, turns: Turns) -> None:
        self._coroutine = coroutine
        self._pace = pace
        self._turns = turns

    def __await__(self) -> Generator[Any, None, T]:
        pace, coroutine, turns = self._pace, self._coroutine, self._turns
        error: BaseException | None = None
        while True:
            pace.began_s, pace.began_cpu_s = turns.clock_s(), turns.asked_cpu_s
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value            # type: ignore[no-any-return]  # typeshed: of any kind
            finally:
                pace.charge(turns.used_s(pace.began_s, pace.began_cpu_s))
            error = None
            try:
                yield waits_for
            except GeneratorExit:           # nobody waits for it any more
                coroutine.close()
                raise
            except BaseException as raised:
                error = raised
