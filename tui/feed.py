"""Keeps a view fresh: its answer of the API, at the beat of the live stream, and again when the node is back.

    load ─▸ stream: state, rates, rates …  each one a beat ─▸ load, when it is due
      └── no answer, bye, silence ─▸ told, waits, tries again: 0.5 s, 1 s, 2 s, … 5 s

A view that is FED is given the events of its stream themselves; what was before them it loads when the stream is open.

Due: a period after the last load, and late enough that all of it stays below CPU_SHARE of a core.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from tui.api.errors import ApiError, Fault
from tui.api.events import ServerEvent

if TYPE_CHECKING:
    from tui.api.client import Client
    from tui.views.view import View

SILENCE_MAX_S = 5.0             # the node beats once a second: after so much silence the figures are old
HEARTBEAT_MAX_S = 20.0
RETRY_FIRST_S, RETRY_MAX_S = 0.5, 5.0
CPU_SHARE = 0.04                # of a core, for everything that a beat causes
SLOWEST_S = 10.0
CHANGED_AFTER_S = 0.3           # the stream begins with a state that has just been loaded


class Health:
    """Is what the screen shows how things are?"""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.problem: ApiError | None = None
        self.fresh_s: float | None = None           # when the last answer came
        self.retry_s: float | None = None           # when the next try is due

    def good(self) -> None:
        self.problem, self.retry_s = None, None
        self.fresh_s = self._clock()

    def bad(self, problem: ApiError, retry_in_s: float | None) -> None:
        self.problem = problem
        self.retry_s = None if retry_in_s is None else self._clock() + retry_in_s

    @property
    def age_s(self) -> float | None:
        return None if self.fresh_s is None else max(self._clock() - self.fresh_s, 0.0)

    @property
    def retry_in_s(self) -> float:
        return max((self.retry_s or 0.0) - self._clock(), 0.0)


class Feed:
    """One per dashboard: run(view) as a task, another one for another view."""

    def __init__(self, client: Client, period_s: float, clock: Callable[[], float],
                 told: Callable[[View, Any], None], changed: Callable[[], None]) -> None:
        """told: takes what came.  changed: health is another one."""
        self.client = client
        self.period_s = period_s
        self.health = Health(clock)
        self.paused = False
        self.loads = 0
        self._told = told
        self._changed = changed
        self._loaded_s = 0.0            # monotonic, and of the processor at that moment
        self._loaded_cpu_s = 0.0

    async def run(self, view: View) -> None:
        """Until it is cancelled, or a fault needs a person."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                if not view.FED:
                    await self._load(view)
                delay_s = RETRY_FIRST_S
                if view.STILL:
                    return
                await self._follow(view)
            except ApiError as error:
                fatal = error.fault in (Fault.LOGIN, Fault.DENIED, Fault.WRONG)
                self.health.bad(error, None if fatal else delay_s)
                self._changed()
                if fatal:
                    return
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _follow(self, view: View) -> None:
        opened = False
        async with aclosing(self._beats(view.stream())) as beats:
            async for event in beats:
                if event.name == "bye":
                    raise _farewell(event)
                if not event.name or self.paused:
                    continue
                if view.FED and opened:
                    self._take(view, event)
                elif view.FED or self._due(changed=event.name == "state"):
                    await self._load(view)
                    opened = True
        raise ApiError(Fault.AWAY, f"{self.client.target.shown}: the connection was lost")

    async def _beats(self, path: str) -> AsyncGenerator[ServerEvent, None]:
        """The events of the stream; silence is an error."""
        events = self.client.events(path)
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_MAX_S):
                        event = await anext(events)
                except TimeoutError:
                    raise ApiError(Fault.AWAY, f"{self.client.target.shown}: no answer for "
                                               f"{SILENCE_MAX_S:.0f} s") from None
                except StopAsyncIteration:
                    return
                yield event
        finally:
            await events.aclose()

    def _due(self, *, changed: bool) -> bool:
        """changed: something came, went or has another state, so that nobody waits for a period."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        if changed:
            return now_s - self._loaded_s >= CHANGED_AFTER_S
        used_s = cpu_s - self._loaded_cpu_s
        wait_s = max(self.period_s, min(used_s / CPU_SHARE, SLOWEST_S))
        return now_s - self._loaded_s >= wait_s - 0.3           # a beat is never quite on time

    async def _load(self, view: View) -> None:
        self._loaded_s, self._loaded_cpu_s = time.monotonic(), time.process_time()
        self._take(view, await view.load(self.client))

    def _take(self, view: View, data: Any) -> None:
        self.loads += 1
        self._told(view, data)
        self.health.good()
        self._changed()


def _farewell(event: ServerEvent) -> ApiError:
    try:
        why = msgspec.json.decode(event.data, type=dict[str, str]).get("why", "")
    except msgspec.MsgspecError:
        why = ""
    if why == "login ended":
        return ApiError(Fault.LOGIN, "the login has ended: log in again")
    return ApiError(Fault.AWAY, "the node is stopping")
