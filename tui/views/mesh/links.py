"""Links of the node that is asked, and one of them as both ends see it."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, link_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Links(TableView):
    NAME = "links"
    TITLE = "Links"
    TOPIC = "links"
    KEY = "id"
    TROUBLE = "state!=up"
    ACROSS = True
    ABOUT = "Connections between nodes, as each end sees them. The state is measured: what got through."
    EXTRA = ("lag_state",)
    EMPTY = "This node has no links. [[links]] in its configuration dials another one."
    COLUMNS = (
        Column("id", "Link", "key", 0), Column("node", "To", "text", 2), Column("state", "State", "state", 0),
        Column("rtt_ms", "Round trip", "ms", 2),
        Column("sent.bytes_s", "Out", "rate", 1), Column("received.bytes_s", "In", "rate", 1),
        Column("lag_events", "Behind", "lag", 1), Column("backlog.seconds", "Delay", "duration", 1),
        Column("forecast", "Forecast", "text", 3), Column("lag_seconds", "By time", "duration", 3, wide=True),
        Column("state_since_ms", "Since", "since", 3, wide=True),
        Column("backlog.bytes", "Waiting", "size", 4, wide=True),
        Column("last_error", "Last trouble", "text", 4, wide=True),
        Column("direction", "Dir", "text", 4, wide=True), Column("remote", "From", "text", 4, wide=True),
        Column("tls", "TLS", "yes", 4, wide=True), Column("connects", "Connects", "number", 4, wide=True),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return link_acts(self.subject(), str(self.value("state")), self.at_node) if self.row else []
