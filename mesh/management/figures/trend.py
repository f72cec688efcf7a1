"""Where a figure is going: least squares over its recent samples, and what follows from it. Pure.

Used for lag: "catches up in 14 m", "never at this rate", "retention takes the first unread event in 3 h".
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mesh.configuration.units import short_duration

WINDOW_S: Final = 120           # samples looked at: long enough to be calm, short enough to follow a change
SAMPLES_MIN: Final = 5
STEADY: Final = 0.001           # a slope below this part of the figure per second counts as none


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
    """Slope by least squares. None: too few samples."""
    points = list(samples)
    if len(points) < SAMPLES_MIN:
        return None
    start = points[0][0]
    count = len(points)
    sum_x = sum(at - start for at, _ in points)
    sum_y = sum(value for _, value in points)
    sum_xx = sum((at - start) ** 2 for at, _ in points)
    sum_xy = sum((at - start) * value for at, value in points)
    spread = count * sum_xx - sum_x * sum_x
    if spread == 0:
        return None
    slope = (count * sum_xy - sum_x * sum_y) / spread
    level = max(abs(sum_y / count), 1.0)
    if abs(slope) < level * STEADY:
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
