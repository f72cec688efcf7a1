"""All readers of all protocols, with lag, trend and forecast."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, consumer_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Consumers(TableView):
    NAME = "consumers"
    TITLE = "Consumers"
    TOPIC = "consumers"
    SORT = "-lag_events"
    TROUBLE = "lag_seconds>=1"
    ACROSS = True
    ABOUT = "Everybody who reads: MQTT sessions, shared groups, REST and WebSocket consumers, webhooks."
    EMPTY = "Nobody reads durably yet."
    EXTRA = ("lag_state", "paused", "filters")
    COLUMNS = (
        Column("name", "Consumer", "key", 0), Column("state", "State", "state", 0),
        Column("lag_events", "Behind", "lag", 0), Column("lag_seconds", "By time", "duration", 1),
        Column("trend", "Trend", "trend", 2), Column("forecast", "Forecast", "text", 3),
        Column("members", "Members", "number", 3), Column("in_flight", "In flight", "number", 3),
        Column("redelivered", "Again", "number", 4),
        Column("dead_lettered", "Dead letters", "number", 5, wide=True), Column("mode", "Mode", "text", 5, wide=True),
        Column("user", "User", "text", 5, wide=True), Column("filters", "Filters", "list", 5, wide=True),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return consumer_acts(self.subject(), paused=bool(self.value("paused")), node=self.at_node) if self.row else []

    def topics(self) -> str:
        filters = self.value("filters")
        return str(filters[0]) if isinstance(filters, list) and filters else ""
