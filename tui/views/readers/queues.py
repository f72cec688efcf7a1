"""What waits for its readers, whichever protocol made the queue."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, queue_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Queues(TableView):
    NAME = "queues"
    TITLE = "Queues"
    TOPIC = "consumers"
    TROUBLE = "state=unread"
    ACROSS = True
    ABOUT = "Queues of AMQP and HTTP: what is ready and unacked, who reads, what is bound."
    EMPTY = "There is no queue."
    EXTRA = ("paused",)
    COLUMNS = (
        Column("name", "Queue", "key", 0), Column("state", "State", "state", 0), Column("ready", "Ready", "number", 0),
        Column("unacked", "Unacked", "number", 0), Column("members", "Readers", "number", 1),
        Column("lag_seconds", "Oldest", "duration", 1), Column("trend", "Trend", "trend", 2),
        Column("dead_lettered", "Given up", "number", 2), Column("bound_to", "Bound to", "list", 3),
        Column("redelivered", "Again", "number", 4, wide=True), Column("expired", "Expired", "number", 4, wide=True),
        Column("dropped", "Dropped", "number", 4, wide=True), Column("topic", "Its topic", "text", 5, wide=True),
        Column("user", "User", "text", 5, wide=True),
    )

    def topics(self) -> str:
        return str(self.value("topic") or "")

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return queue_acts(self.subject(), paused=bool(self.value("paused")), node=self.at_node) if self.row else []
