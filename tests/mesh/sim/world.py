"""Virtual time: a heap of things to do. One seed, one order, one run.

Nothing here or above it looks at a real clock or at unseeded randomness. Ties go by the order of asking.
"""
from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

WALL_MS = 1_700_000_000_000         # wall clock of every node at the start, before its own error is added


class World:
    """now_s rises from 0. Work that is due runs in order of time.

    plan chooses what happens (mesh, programs, faults); rng everything that depends on what the code does (delays, what
    a frame meets). So a change of the code changes a run, but not its plan.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = random.Random(f"plan-{seed}")
        self.now_s = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.journal: list[str] = []        # what happened, for the one who looks for the cause

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        assert delay_s >= 0
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._numbers), work))

    def every(self, period_s: float, work: Callable[[], object]) -> None:
        """Again and again until work returns False."""
        def turn() -> None:
            if work() is not False:
                self.after(period_s, turn)

        self.after(self.rng.uniform(0, period_s), turn)

    def run_for(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            due_s, _, work = heapq.heappop(self._heap)
            self.now_s = due_s
            self.steps += 1
            work()
        self.now_s = end_s

    def run_until(self, condition: Callable[[], bool], limit_s: float, step_s: float = 0.25) -> bool:
        """Whether the condition came true within limit_s."""
        end_s = self.now_s + limit_s
        while not condition():
            if self.now_s >= end_s:
                return False
            self.run_for(step_s)
        return True

    def note(self, text: str) -> None:
        self.journal.append(f"{self.now_s:9.3f} {text}")
