"""Asleep: a durable consumer after a start, until somebody asks for it. Restoring 50,000 would keep a node waiting.

    start ── Asleep: spec, owner, filters ── first question, or its turn ──► Consumer: cursors, what is unacked, …

It stands under its filters as ever, so routes and other nodes know it. What is committed meanwhile it need not be
told: it stands in the log behind its place, and that is where it reads on. The registry wakes those that nobody asks
for, some with each tick.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from routing.consumers.consumer import Consumer
from routing.consumers.definition.members import Mode
from routing.rights.policy import INTERNAL

if TYPE_CHECKING:
    from routing.consumers.registry.stored import ConsumerState
    from routing.consumers.rights import Rights
    from routing.event import Event
    from routing.log.partition import Partition

WAKE_TURN_S = 0.004         # of one tick: 50,000 are awake after half a minute


class Waker(Protocol):
    """The registry."""

    rights: Rights

    def wake(self, consumer: Consumer, state: ConsumerState, patterns: list[str], *, keeps_untracked: bool) -> None:
        """Make it the Consumer that it is."""
        ...


def may_sleep(state: ConsumerState) -> bool:
    """Those of sessions, of which there are many: nothing but an owner, filters and a place."""
    spec = state.spec
    return ("/" in spec.name and spec.durable and spec.mode is Mode.EXCLUSIVE and spec.start == "latest"
            and spec.queue is None and spec.push is None and spec.expires_s is None
            and not (state.paused or state.filters or state.cursors) and state.owner != INTERNAL)


class Asleep(Consumer):
    """Whatever else is asked of it, or written, wakes it first: from then on it is a Consumer, and the same object."""

    closed = False
    side = None

    def __init__(self, state: ConsumerState, patterns: list[str], waker: Waker) -> None:
        self.__dict__.update(
            spec=state.spec, name=state.spec.name, identity=state.owner, _sleep=(state, patterns, waker),
            _keeps_untracked=False)

    @property
    def filters(self) -> dict[str, None]:
        return dict.fromkeys(self.__dict__["_sleep"][1])

    @property
    def is_read(self) -> bool:
        return False

    def may_take(self, topic: str) -> bool:
        waker: Waker = self.__dict__["_sleep"][2]
        return waker.rights.may_read(self.identity, topic)

    def offer(self, partition: Partition, events: list[Event]) -> None:
        """It reads them when it is awake."""

    def held_back(self, partition: Partition, offset: int) -> None:
        """The same."""

    def keep_untracked(self) -> None:
        self.__dict__["_keeps_untracked"] = True

    def wake(self) -> None:
        state, patterns, waker = self.__dict__.pop("_sleep")
        keeps_untracked = self.__dict__.pop("_keeps_untracked")
        object.__setattr__(self, "__class__", Consumer)
        waker.wake(self, state, patterns, keeps_untracked=keeps_untracked)

    if not TYPE_CHECKING:               # else every attribute would seem to be there
        def __getattr__(self, name: str) -> Any:
            self.wake()
            return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.wake()
        setattr(self, name, value)


class Sleepers:
    """Those of one registry that are still asleep."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.gone: set[str] = set()                     # streams deleted meanwhile: what is stored of them is void
        self._clock_s = clock_s
        self._all: dict[Consumer, Asleep] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, consumer: object) -> bool:
        return consumer in self._all

    def put(self, state: ConsumerState, patterns: list[str], waker: Waker) -> Asleep:
        sleeper = Asleep(state, patterns, waker)
        self._all[sleeper] = sleeper
        return sleeper

    def woken(self, consumer: Consumer) -> None:
        del self._all[consumer]

    def partitions_gone(self, gone: list[Partition]) -> None:
        if self._all:
            self.gone.update(partition.stream for partition in gone)

    def tick(self) -> None:
        """Wake some, from the end: to look for the first costs as much as there were before it."""
        if not self._all:
            return
        until_s = self._clock_s() + WAKE_TURN_S
        while self._all and self._clock_s() < until_s:
            self._all[next(reversed(self._all))].wake()
        if not self._all:
            self.gone.clear()
