"""Who did what, from where, why; and who was refused."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Audit(TableView):
    NAME = "audit"
    TITLE = "Audit"
    KEY = "id"
    TROUBLE = "outcome!=done"
    ABOUT = "Who did what, newest first. meshgate audit verify proves that nothing of it was changed."
    EMPTY = "Nobody did anything yet."
    COLUMNS = (
        Column("id", "No.", "number", 1), Column("time_ms", "Time", "time", 0), Column("user", "Who", "text", 0),
        Column("address", "From", "text", 3), Column("act", "Did", "key", 0), Column("target", "To", "text", 0),
        Column("outcome", "Outcome", "state", 1), Column("reason", "Reason", "text", 2),
    )
