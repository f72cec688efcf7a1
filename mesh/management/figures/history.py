"""Histories: what a figure was, second by second and further back ever coarser, in rings of a fixed size.

    1 s × 15 min ──mean of 10──► 10 s × 6 h ──mean of 6──► 1 min × 7 d         13,140 numbers, 105 KB a series when full

A ring grows as it fills, so that a series of a minute costs a kilobyte. A second without a sample is NaN inside and
None outside: a gap is shown as a gap. Times are whole seconds since the epoch.
"""
from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

LEVELS: Final = ((1, 900), (10, 2_160), (60, 10_080))     # (seconds a step, steps kept)
SERIES_MAX: Final = 1_000       # of one node: 105 MB when all of them are a week old
FORGET_S: Final = 3_600         # a series whose subject is gone is kept so long


class Points(msgspec.Struct, frozen=True):
    """step_s: seconds between two values.  start_s: time of the first.  values: None where there was no sample."""

    step_s: int
    start_s: int
    values: list[float | None]


class Ring:
    """One level of a series: the means of steps."""

    __slots__ = ("_base", "_count", "_size", "_sum", "_values", "last", "step_s")

    def __init__(self, step_s: int, size: int) -> None:
        self.step_s = step_s
        self._size = size
        self._values = array("d")
        self._base = 0                  # number of the step that stands first, as steps are counted since the epoch
        self.last = -1                  # … of the newest finished one
        self._sum = 0.0                 # of the one that is being filled: last + 1
        self._count = 0

    def add(self, at_s: int, value: float) -> None:
        """What is older than the newest finished step is left out."""
        step = at_s // self.step_s
        if self.last < 0:
            self._base, self.last = step, step - 1
        if step <= self.last:
            return
        if step > self.last + 1:
            self._finish(step - 1)
        self._sum += value
        self._count += 1
        if self.step_s == 1:
            self._finish(step)

    def _finish(self, upto: int) -> None:
        """Close all steps up to this one; those without a sample hold NaN."""
        if upto - self.last > self._size:           # nothing of before is in reach any more
            self._values = array("d")
            self._base, self.last = upto + 1, upto
            self._sum, self._count = 0.0, 0
        while self.last < upto:
            self._put(self._sum / self._count if self._count else math.nan)
            self._sum, self._count = 0.0, 0

    def _put(self, value: float) -> None:
        self.last += 1
        if len(self._values) < self._size:
            self._values.append(value)
        else:
            self._values[(self.last - self._base) % self._size] = value

    def points(self, from_s: int, to_s: int) -> Points:
        first = max(from_s // self.step_s, self.last - len(self._values) + 1)
        last = min(to_s // self.step_s, self.last)
        size = max(len(self._values), 1)
        found = [self._values[(step - self._base) % size] for step in range(first, last + 1)] if self._values else []
        return Points(self.step_s, first * self.step_s, [None if math.isnan(value) else value for value in found])


class Series:
    """One figure of one subject over time."""

    __slots__ = ("last_s", "rings")

    def __init__(self) -> None:
        self.rings = [Ring(step_s, size) for step_s, size in LEVELS]
        self.last_s = 0

    def add(self, at_s: int, value: float) -> None:
        if at_s <= self.last_s:
            return
        self.last_s = at_s
        for ring in self.rings:
            ring.add(at_s, value)

    def points(self, from_s: int, to_s: int) -> Points:
        """In the finest steps that reach back to from_s; the coarsest when none does."""
        for ring, (step_s, size) in zip(self.rings, LEVELS):
            if ring.last - from_s // step_s < size:
                return ring.points(from_s, to_s)
        return self.rings[-1].points(from_s, to_s)

    def recent(self, seconds: int) -> Iterator[tuple[int, float]]:
        """(time, value) of the last seconds, without the gaps."""
        found = self.rings[0].points(self.last_s - seconds + 1, self.last_s)
        for index, value in enumerate(found.values):
            if value is not None:
                yield found.start_s + index, value


class Histories:
    """All series of a node, by (kind, subject, figure). Loop thread only."""

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._series: dict[tuple[str, str, str], Series] = {}
        self._max = series_max
        self.untracked = 0              # samples that found no room since the last tidy()

    def __len__(self) -> int:
        return len(self._series)

    def add(self, kind: str, subject: str, figure: str, at_s: int, value: float) -> None:
        key = (kind, subject, figure)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= self._max:
                self.untracked += 1
                return
            series = self._series[key] = Series()
        series.add(at_s, value)

    def get(self, kind: str, subject: str, figure: str) -> Series | None:
        return self._series.get((kind, subject, figure))

    def figures(self, kind: str, subject: str) -> list[str]:
        return sorted(figure for one, name, figure in self._series if (one, name) == (kind, subject))

    def tidy(self, now_s: int) -> None:
        """Forget what has had no sample for an hour. Called once a minute."""
        for key in [key for key, series in self._series.items() if series.last_s < now_s - FORGET_S]:
            del self._series[key]
        self.untracked = 0
