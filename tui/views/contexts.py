"""The nodes that somebody works with: enter goes to one."""
from __future__ import annotations

from typing import Any

from tui import contexts
from tui.views.table import TableView
from tui.widgets.columns import Column


class ContextsView(TableView):
    NAME = "contexts"
    TITLE = "Contexts"
    STILL = True
    ABOUT = "Nodes that you have logged in to: meshgate login URL adds one."
    EMPTY = "No contexts yet: meshgate login URL makes one."
    COLUMNS = (
        Column("name", "Context", "key", 0), Column("url", "Node", "text", 0), Column("user", "User", "text", 1),
        Column("login", "Login", "text", 1), Column("current", "Default", "text", 2),
    )

    async def load(self, client: Any) -> Any:
        found = contexts.load()
        rows = [{"name": name, "url": one.url, "user": one.user or None, "login": "kept" if one.token else None,
                 "current": "yes" if name == found.current else None} for name, one in sorted(found.contexts.items())]
        rows = [row for row in rows if self.filter.lower() in f"{row['name']} {row['url']}".lower()]
        return {"contexts": rows, "total": len(found.contexts), "matched": len(rows), "next": None}

    def enter(self) -> None:
        if self.subject():
            self.post_message(self.Go(f"context {self.subject()}"))

    @property
    def path(self) -> str:
        return "/settings"
