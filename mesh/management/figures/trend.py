"""Where a figure is going: least squares over its recent samples, and what follows from it. Pure.

Used for lag: "catches up in 14 m", "never at this rate", "retention takes the first unread event in 3 h".
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from mesh.values.units import short_duration

WINDOW_S: Final = 120           # samples looked at: long enough to be calm, short enough to follow a change
SAMPLES_MIN: Final = 5
MOVED_MIN: Final = 1.0          # over all samples, in what is counted: below it nothing has moved
NOISE: Final = 2.0              # … and so many standard deviations around the line, or it may as well be chance
LATELY_S: Final = 30            # what has just begun to move shows in the newest samples first, …
NOISE_LATELY: Final = 4.0       # … where less is needed to look like a direction
TURN: Final = 0.1               # of its way between lowest and highest: what goes back so far has turned
SAMPLES_TURNED_MIN: Final = 4   # since then: a turn is a way of some length already
TURNS_MAX: Final = 3            # a figure that turns more often swings, and the newest turn says nothing


class Trend(msgspec.Struct, frozen=True):
    """per_s: how fast the figure grows (negative: shrinks).  direction: "growing", "shrinking" or "steady"."""

    per_s: float
    direction: str


_WORDS = {"counting": "counting", "never": "never at this rate", "steady": "steady"}


class Forecast(msgspec.Struct, frozen=True):
    """kind: "none" (nothing is waiting), "counting", "catches up", "never", "steady".  in_s: when, where it applies.

    retention_in_s: when retention takes the first unread event, as long as nothing changes; None: not in sight.
    """

    kind: str
    in_s: float | None = None
    retention_in_s: float | None = None

    @property
    def text(self) -> str:
        said = _WORDS.get(self.kind, "")
        if self.kind == "catches up" and self.in_s is not None:
            said = f"catches up in {short_duration(self.in_s)}"
        if self.retention_in_s is not None:
            lost = f"retention takes the first unread event in {short_duration(self.retention_in_s)}"
            said = f"{said}; {lost}" if said else lost
        return said


def trend_of(samples: Iterable[tuple[int, float]]) -> Trend | None:
    """Slope by least squares. None: too few samples.

    It has a direction when what it makes over all samples stands out from how the samples lie around the line, however
    large the figure is: a million that grows by ten a second is growing; what swings between 0 and 20 is steady.
    """
    points = list(samples)
    lately = [point for point in points if point[0] > points[-1][0] - LATELY_S]
    for piece, least in ((_since_turn(points), SAMPLES_TURNED_MIN), (lately, SAMPLES_MIN)):
        found = _line(piece, NOISE_LATELY, least)
        if found is not None and found.direction != "steady":
            return found
    return _line(points, NOISE)


def _since_turn(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """From the last time that it turned; [] when it turns all the time, or never did.

    A link that was mended takes what waited within seconds: the minutes in which that grew say nothing of it.
    """
    values = [value for _, value in points]
    if not values:
        return []
    least = max((max(values) - min(values)) * TURN, MOVED_MIN)
    rises: bool | None = None           # not known before the first way of some length
    high = low = 0                      # indices of the newest highest and lowest since it turned
    turns: list[int] = []
    for index, value in enumerate(values):
        high = index if value >= values[high] else high
        low = index if value <= values[low] else low
        if rises is not False and values[high] - value >= least:
            turns.append(high)
            rises, low = False, index
        elif rises is not True and value - values[low] >= least:
            turns.append(low)
            rises, high = True, index
    return points[turns[-1]:] if 0 < len(turns) <= TURNS_MAX else []


def _line(points: list[tuple[int, float]], noise: float, least: int = SAMPLES_MIN) -> Trend | None:
    """Least squares. noise: standard deviations that the way must have.  least: samples."""
    if len(points) < least:
        return None
    count = len(points)
    mean_x = sum(at for at, _ in points) / count
    mean_y = sum(value for _, value in points) / count
    sum_xx = sum((at - mean_x) ** 2 for at, _ in points)
    if sum_xx == 0:
        return None
    sum_xy = sum((at - mean_x) * (value - mean_y) for at, value in points)
    sum_yy = sum((value - mean_y) ** 2 for _, value in points)
    slope = sum_xy / sum_xx
    around = math.sqrt(max(sum_yy - slope * sum_xy, 0.0) / count)
    moved = abs(slope) * (points[-1][0] - points[0][0])
    if moved < MOVED_MIN or moved < noise * around:
        return Trend(slope, "steady")
    return Trend(slope, "growing" if slope > 0 else "shrinking")


def forecast_of(lag_events: float, lag_s: float, trend: Trend | None, *, exact: bool = True,
                retention_s: float | None = None) -> Forecast:
    """trend: of lag_events.  exact False: the lag is still being counted.  retention_s: age at which events go."""
    if not exact:
        return Forecast("counting")
    if lag_events <= 0:
        return Forecast("none")
    if trend is None:
        kind, in_s = "steady", None
    elif trend.direction == "shrinking":
        kind, in_s = "catches up", lag_events / -trend.per_s
    else:
        kind, in_s = ("never" if trend.direction == "growing" else "steady"), None
    loses = None
    if retention_s is not None and (in_s is None or lag_s + in_s > retention_s):
        loses = max(retention_s - lag_s, 0.0)
    return Forecast(kind, in_s, loses)
