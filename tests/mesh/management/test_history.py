"""mesh/management/figures/history.py and trend.py: rings against a plain list, forecasts against arithmetic."""
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.management.figures.history import Histories, Ring, Series
from mesh.management.figures.trend import Trend, forecast_of, trend_of
from mesh.values.units import short_duration

START = 1_000_000


SAMPLES = st.lists(st.tuples(st.integers(1, 40), st.floats(-1e6, 1e6)), max_size=80)


@given(SAMPLES, st.integers(1, 3), st.integers(1, 20))
def test_a_ring_holds_the_means_of_its_newest_steps(steps: list[tuple[int, float]], step_s: int, size: int) -> None:
    """Against a dictionary of all samples; gaps are None."""
    ring, at_s, samples = Ring(step_s, size), START, {}
    for gap, value in steps:
        at_s += gap
        ring.add(at_s, value)
        samples.setdefault(at_s // step_s, []).append(value)
    found = ring.points(0, at_s + 100)
    newest = max(samples, default=0) - (0 if step_s == 1 else 1)
    expected = {step: sum(values) / len(values) for step, values in samples.items() if newest - size < step <= newest}
    seen = {found.start_s // step_s + index: value for index, value in enumerate(found.values)}
    assert {step for step, value in seen.items() if value is not None} == set(expected)
    assert all(math.isclose(seen[step], value, rel_tol=1e-9, abs_tol=1e-9) for step, value in expected.items())
    assert len(found.values) <= size


def test_a_long_look_back_is_answered_in_coarser_steps() -> None:
    series = Series()
    for second in range(2_000):
        series.add(START + second, float(second))
    now = START + 1_999
    assert series.points(now - 100, now).step_s == 1
    assert len(series.points(now - 100, now).values) == 101
    assert series.points(now - 1_500, now).step_s == 10
    assert series.points(0, now).step_s == 60


def test_the_number_of_series_is_bounded_and_the_rest_counted() -> None:
    histories = Histories(series_max=2)
    for name in ("a", "b", "c"):
        histories.add("link", name, "rate", START, 1.0)
    assert (len(histories), histories.untracked) == (2, 1)
    histories.add("link", "a", "rate", START + 4_000, 1.0)
    histories.tidy(START + 4_000)
    assert len(histories) == 1 and histories.figures("link", "a") == ["rate"]


@given(st.floats(-100, 100), st.floats(0, 1e6), st.integers(5, 120))
def test_the_slope_of_a_straight_line_is_found(slope: float, level: float, count: int) -> None:
    trend = trend_of((START + second, level + slope * second) for second in range(count))
    assert trend is not None and math.isclose(trend.per_s, slope, rel_tol=1e-6, abs_tol=1e-4)


@pytest.mark.parametrize(("samples", "direction"), [
    ([1_000_000 + 10 * second for second in range(120)], "growing"),
    ([50_000 - 3 * second for second in range(120)], "shrinking"),
    ([10_000 + (second * 7 % 5) for second in range(120)], "steady"),       # it swings, and stays
    ([second % 20 for second in range(120)], "steady"),
    ([5] * 120, "steady"), ([0] * 119 + [1], "steady"),
    ([1_500] * 108 + [1_500 - 100 * second for second in range(12)], "shrinking"),      # it has just begun
    ([1_500 - 15 * second for second in range(100)] + [40 * second for second in range(20)], "growing"),  # turned
    ([0] * 60 + [100 * second for second in range(20)] + [2_000] * 5 + [2_000 - 260 * second for second in range(6)],
     "shrinking"),                                                          # a link was cut, and is mended
    ([100 * (second // 30) for second in range(120)], "growing"),           # by steps
    ([second % 20 + 2 * second for second in range(120)], "growing"),       # it swings, and goes up
])
def test_growth_is_told_from_noise_however_large_the_figure_is(samples: list[int], direction: str) -> None:
    trend = trend_of((START + second, float(value)) for second, value in enumerate(samples))
    assert trend is not None and trend.direction == direction


@pytest.mark.parametrize(("lag", "age_s", "trend", "kwargs", "text"), [
    (0, 0.0, None, {}, ""),
    (10, 1.0, None, {"exact": False}, "counting"),
    (8_400, 60.0, Trend(-10.0, "shrinking"), {}, "catches up in 14 m"),
    (8_400, 60.0, Trend(3.0, "growing"), {}, "never at this rate"),
    (8_400, 3_600.0, Trend(3.0, "growing"), {"retention_s": 4 * 3_600.0},
     "never at this rate; retention takes the first unread event in 3 h"),
    (10, 60.0, Trend(-1.0, "shrinking"), {"retention_s": 3_600.0}, "catches up in 10 s"),
    (5, 1.0, Trend(0.0, "steady"), {}, "steady"),
])
def test_a_forecast_says_what_follows(lag: int, age_s: float, trend: Trend | None, kwargs: dict[str, object],
                                      text: str) -> None:
    assert forecast_of(lag, age_s, trend, **kwargs).text == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (42, "42 s"), (130, "2 m 10 s"), (3_600, "1 h"), (788_400, "9 d 3 h"), (-5, "0 s"), (86_460, "1 d")])
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
