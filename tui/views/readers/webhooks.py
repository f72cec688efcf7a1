"""Consumers that push to a URL."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, consumer_acts
from tui.views.table import TableView
from tui.views.view import at
from tui.widgets.columns import Column


class Webhooks(TableView):
    NAME = "webhooks"
    TITLE = "Webhooks"
    KEY = "consumer"
    TROUBLE = "failed>0"
    ACROSS = True
    ABOUT = "Consumers that push to a URL."
    EMPTY = "No consumer pushes to a URL."
    EXTRA = ("lag_state", "paused")
    COLUMNS = (
        Column("consumer", "Consumer", "key", 0), Column("url", "To", "text", 1), Column("state", "State", "state", 0),
        Column("lag_events", "Behind", "lag", 0), Column("delivered", "Delivered", "number", 2),
        Column("failed", "Failed", "number", 1), Column("dead_lettered", "Given up", "number", 3),
        Column("last_problem", "Last trouble", "text", 3),
    )

    def enter(self) -> None:
        if self.subject():
            self.post_message(self.Go(at("consumers", self.subject(), self.at_node)))

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return consumer_acts(self.subject(), paused=bool(self.value("paused")), node=self.at_node) if self.row else []
