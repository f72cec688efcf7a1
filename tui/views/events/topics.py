"""Topics of the stored events as a tree: enter goes down a level, esc up."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.text import clean
from tui.views.table import TableView
from tui.views.view import at
from tui.widgets.columns import Column

if TYPE_CHECKING:
    from tui.api.client import Client


class Topics(TableView):
    NAME = "topics"
    TITLE = "Topics"
    KEY = "topic"
    ABOUT = "Topics of the stored events as a tree, with counts. enter goes down, l tails, r counts anew."
    EMPTY = "No event is stored yet."
    STILL = True
    COLUMNS = (
        Column("topic", "Topic", "key", 0), Column("events", "At it", "number", 0),
        Column("below", "Below", "number", 0), Column("topics", "Topics", "number", 1),
        Column("streams", "Stored in", "list", 2),
    )

    def __init__(self, filter: str = "", sort: str = "", under: str = "") -> None:
        super().__init__(filter, sort)
        self.under = under

    @property
    def title(self) -> str:
        return f"Topics › {clean(self.under)}" if self.under else self.TITLE

    async def load(self, client: Client) -> Any:
        return await client.get("topics", {**self.request_params(), "under": self.under})

    def params(self) -> dict[str, str]:
        return {"under": self.under, **super().params()}

    def enter(self) -> None:
        if self.value("below"):
            self.post_message(self.Go(at("topics", self.subject())))
        elif self.subject():
            self.post_message(self.Go(f"browse {self.subject()} from=7d"))

    def topics(self) -> str:
        subject = self.subject()
        return f"{subject}/#" if subject and self.value("below") else subject
