"""Groups of Kafka clients, and transactions of Kafka producers."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Groups(TableView):
    NAME = "groups"
    TITLE = "Kafka groups"
    KEY = "group"
    TOPIC = "consumers"
    TROUBLE = "state!=Stable"
    ACROSS = True
    ABOUT = "Groups of Kafka clients: state, members, lag. The consumer of the same name has the lag, too."
    EMPTY = "No Kafka group is known."
    EXTRA = ("lag_state",)
    COLUMNS = (
        Column("group", "Group", "key", 0), Column("state", "State", "state", 0),
        Column("lag_events", "Behind", "lag", 0), Column("lag_seconds", "By time", "duration", 1),
        Column("members", "Members", "number", 0), Column("topics", "Topics", "list", 1),
        Column("assignor", "Assignor", "text", 2), Column("generation", "Generation", "number", 3),
        Column("user", "User", "text", 4, wide=True),
    )


class Transactions(TableView):
    NAME = "transactions"
    TITLE = "Transactions"
    KEY = "transactional_id"
    TROUBLE = "state=ongoing"
    ACROSS = True
    ABOUT = "Transactional ids of Kafka producers, and what is open."
    EMPTY = "No producer has a transactional id."
    COLUMNS = (
        Column("transactional_id", "Transactional id", "key", 0), Column("state", "State", "state", 0),
        Column("age_s", "Open for", "duration", 0), Column("timeout_s", "At most", "duration", 1),
        Column("places", "Partitions", "list", 1), Column("producer_id", "Producer", "text", 2),
        Column("epoch", "Epoch", "text", 3), Column("user", "User", "text", 3),
    )
