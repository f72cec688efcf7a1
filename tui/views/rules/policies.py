"""The rules, in force or not. `c` asks what they say about somebody."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Policies(TableView):
    NAME = "policies"
    TITLE = "Policies"
    ACROSS = True
    ABOUT = "Order never matters: deny beats allow, and nothing is allowed that no rule allows."
    COLUMNS = (
        Column("name", "Rule", "key", 0), Column("source", "Says", "text", 2), Column("state", "State", "state", 2),
        Column("allow", "Allows", "list", 1), Column("deny", "Denies", "list", 1),
        Column("to", "To", "list", 0), Column("topics", "Topics", "list", 1),
    )
