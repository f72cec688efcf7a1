"""What was denied lately, and by which rule."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Denials(TableView):
    NAME = "denials"
    TITLE = "Denials"
    KEY = "id"
    ACROSS = True
    ABOUT = "The latest denials, newest first. c asks the rules about the one under the cursor."
    EMPTY = "Nothing was denied."
    COLUMNS = (
        Column("time", "Time", "time", 0), Column("user", "User", "text", 0), Column("client_id", "Client", "text", 2),
        Column("protocol", "Protocol", "text", 2), Column("action", "Wanted to", "text", 1),
        Column("topic", "Topic", "text", 0), Column("rule", "Denied by", "text", 1),
        Column("id", "No.", "number", 4, wide=True),
    )

    def topics(self) -> str:
        return str(self.value("topic") or "")

    def question(self) -> str:
        row = self.row
        return f"can-i {row['user']} {row['action']} {row['topic']}".rstrip() if row else "can-i "
