"""Routes from and to Kafka clusters outside."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, bridge_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Bridges(TableView):
    NAME = "bridges"
    TITLE = "Bridges"
    KEY = "name"
    TROUBLE = "faults>0"
    ACROSS = True
    ABOUT = "Routes from and to Kafka clusters outside."
    EMPTY = "This node has no bridge to a Kafka cluster."
    EXTRA = ("paused",)
    COLUMNS = (
        Column("name", "Route", "key", 0), Column("direction", "Way", "text", 2), Column("from", "From", "text", 1),
        Column("to", "To", "text", 1), Column("state", "State", "state", 0), Column("lag_events", "Behind", "lag", 0),
        Column("moved", "Moved", "number", 2), Column("faults", "Faults", "number", 2),
        Column("refused", "Refused", "number", 3), Column("last_problem", "Last trouble", "text", 3),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return bridge_acts(self.subject(), paused=bool(self.value("paused")), node=self.at_node) if self.row else []
