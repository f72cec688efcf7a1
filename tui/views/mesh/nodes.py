"""Nodes of the mesh, as the one that is asked knows them."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Nodes(TableView):
    NAME = "nodes"
    TITLE = "Nodes"
    TOPIC = "topology"
    TROUBLE = "hops="
    ABOUT = "Every node of the mesh, as this one knows it."
    COLUMNS = (
        Column("name", "Node", "key", 0), Column("site", "Site", "text", 1), Column("hops", "Reached by", "hops", 0),
        Column("version", "Version", "text", 3), Column("skew_ms", "Clock", "skew", 2),
        Column("age_s", "Heard", "ago", 1), Column("interest", "Wants", "number", 2),
        Column("started_ms", "Up since", "time", 2), Column("next_hop", "By way of", "text", 4, wide=True),
        Column("cost", "Cost", "number", 4, wide=True), Column("epoch", "Epoch of the log", "text", 4, wide=True),
    )
