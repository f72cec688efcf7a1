"""Work that grows with the node, done in steps: after a few milliseconds the loop gets its turn.

Every list of the management API and every sample goes through here, so that no page can hold up the traffic.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final, TypeVar

T = TypeVar("T")

STEP_S: Final = 0.002           # CPU time in one turn of the loop


async def in_steps(items: Iterable[T], step_s: float = STEP_S) -> tuple[list[T], float]:
    """All items, and the CPU time that they took. A generator may do the work; what it reads may change in between."""
    found: list[T] = []
    spent_s = 0.0
    begun_s, clock_s = time.thread_time(), time.perf_counter()
    for item in items:
        found.append(item)
        if time.perf_counter() - clock_s < step_s:      # costs a tenth of the CPU clock, which is never ahead of it
            continue
        passed_s = time.thread_time() - begun_s
        if passed_s >= step_s:
            spent_s += passed_s
            await asyncio.sleep(0)
            begun_s, clock_s = time.thread_time(), time.perf_counter()
    return found, spent_s + time.thread_time() - begun_s
