"""What waits behind each link: the lag of all destinations that are reached over it, with its trend and forecast.

It is counted while somebody looks at links or at what needs attention, and for a minute after: see mesh/replication/.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.management.figures.trend import WINDOW_S, Forecast, Trend, forecast_of, trend_of
from mesh.replication.lag import Lag

if TYPE_CHECKING:
    from mesh.management.figures.history import Histories
    from mesh.node import Node


def lag_by_neighbour(node: Node, *, look: bool) -> dict[str, Lag]:
    """By the node at the other end. look: somebody wants to know. Empty while it is not counted.

    A destination that cannot be reached waits for its own link.
    """
    reached = node.mesh.overlay.nodes
    found: dict[str, Lag] = {}
    for name, lag in node.mesh.replication.lags(look=look).items():
        neighbour = (reached[name].next_hop or name) if name in reached else name
        before = found.get(neighbour)
        found[neighbour] = lag if before is None else before + lag
    return found


def foretold(histories: Histories, link: str, lag: Lag) -> tuple[Trend | None, Forecast]:
    """link: its id."""
    series = histories.get("link", link, "lag_events")
    trend = trend_of(series.recent(WINDOW_S)) if series is not None and lag.events else None
    return trend, forecast_of(lag.events, lag.seconds, trend, exact=lag.exact)


def link_row(histories: Histories, row: dict[str, Any], since_ms: int | None, lags: dict[str, Lag]) -> dict[str, Any]:
    """The row of mesh/link/link.py, with since when it is so and what waits behind it."""
    identifier = str(row["id"])
    lag = lags.get(str(row["node"]), Lag(0, 0.0, True))
    trend, forecast = foretold(histories, identifier, lag)
    return {**row, "state_since_ms": since_ms, "lag_events": lag.events,
            "lag_seconds": round(lag.seconds, 3), "lag_state": "exact" if lag.exact else "counting",
            "trend_per_s": round(trend.per_s, 3) if trend is not None else None,
            "trend": trend.direction if trend is not None else None, "forecast": forecast.text or None,
            "forecast_in_s": forecast.in_s}
