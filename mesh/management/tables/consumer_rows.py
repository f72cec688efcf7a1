"""Consumers as rows: what the core says of them, with trend and forecast from the samples of the last minutes."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mesh.management.figures.trend import WINDOW_S, forecast_of, trend_of
from routing.consumers.snapshot import snapshot

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from routing.router import Router


def consumer_rows(router: Router, sampler: Sampler) -> Iterator[dict[str, Any]]:
    for consumer in list(router.consumers.values()):
        if not consumer.closed:
            yield consumer_row(router, sampler, snapshot(consumer))


def consumer_row(router: Router, sampler: Sampler, row: dict[str, Any]) -> dict[str, Any]:
    """The row of routing/consumers/snapshot.py, with more in it."""
    row["state"] = _state(row)
    if not row["lag_events"] and row["lag_state"] == "exact":       # most of 10,000: nothing to foretell
        row.update(trend_per_s=None, trend=None, forecast=None, forecast_in_s=None, retention_in_s=None)
        return row
    name = str(row["name"])
    series = sampler.histories.get("consumer", name, "lag_events")
    trend = trend_of(series.recent(WINDOW_S)) if series is not None and row["lag_events"] else None
    exact = row["lag_state"] == "exact"
    forecast = forecast_of(row["lag_events"] or 0, row["lag_seconds"] or 0.0, trend, exact=exact,
                           retention_s=_retention_s(router, row))
    row.update(
        trend_per_s=round(trend.per_s, 3) if trend is not None else None,
        trend=trend.direction if trend is not None else None,
        forecast=forecast.text or None, forecast_in_s=forecast.in_s, retention_in_s=forecast.retention_in_s)
    return row


def _state(row: dict[str, Any]) -> str:
    if row["paused"]:
        return "paused"
    if not row["members"]:
        return "away" if row["durable"] else "idle"
    return "behind" if row["lag_events"] and row["lag_seconds"] > 1 else "current"


def _retention_s(router: Router, row: dict[str, Any]) -> float | None:
    """The shortest age at which a stream that it reads lets go of events."""
    found: list[float] = []
    for cursor in row["cursors"]:
        stream = router.streams.by_name.get(cursor["stream"])
        if stream is not None and stream.settings.retention_ms is not None and cursor["end"] > cursor["position"]:
            found.append(stream.settings.retention_ms / 1000)
    return min(found, default=None)


