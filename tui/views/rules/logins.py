"""Who is logged in to the console and from terminals; ending it."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, login_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Logins(TableView):
    NAME = "logins"
    TITLE = "Logins"
    KEY = "id"
    DETAILS = False
    ABOUT = "Who is logged in to the console of this node, in a browser or a terminal."
    EMPTY = "Nobody is logged in."
    COLUMNS = (
        Column("user", "User", "key", 0), Column("kind", "In a", "text", 0), Column("address", "From", "text", 0),
        Column("since_ms", "Since", "since", 1), Column("idle_s", "Last request", "duration", 1),
        Column("roles", "Roles", "list", 2), Column("id", "Login", "text", 3),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return login_acts(self.subject(), str(self.value("user"))) if self.row and may.get("administer") else []
