"""What consumers gave up on: who, how many, which and why; handed over once more, or let go."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tui import show
from tui.acts import Act, letter_acts
from tui.text import clean
from tui.views.events.browse import Events, payload_of
from tui.views.table import TableView
from tui.views.view import View
from tui.widgets.columns import Column
from tui.widgets.line import DIM, TITLE, WARN, Piece

if TYPE_CHECKING:
    from tui.api.client import Client

PAGE_LETTERS = 200


class DeadLetters(TableView):
    NAME = "deadletters"
    TITLE = "Dead letters"
    KEY = "consumer"
    SORT = "-waiting"
    TROUBLE = "waiting>0"
    ACROSS = True
    ABOUT = "Consumers that gave events up, and how many wait to be looked at."
    EMPTY = "No consumer gave an event up."
    COLUMNS = (
        Column("consumer", "Consumer", "key", 0), Column("waiting", "Waiting", "number", 0),
        Column("given_up", "Given up", "number", 1), Column("max_deliveries", "After deliveries", "number", 2),
        Column("topic", "Kept at", "text", 2), Column("state", "State", "text", 1),
        Column("user", "User", "text", 4, wide=True),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        if not self.row:
            return []
        return letter_acts(self.subject(), running=self.value("state") == "running", node=self.at_node)


class Letters(TableView):
    """Dead letters of one consumer, oldest first."""

    NAME = "deadletters"
    KEY = "id"
    EMPTY = "Nothing waits here."
    COLUMNS = (
        Column("time", "Given up", "time", 0), Column("topic", "Topic", "key", 0), Column("reason", "Why", "text", 0),
        Column("deliveries", "Deliveries", "number", 2), Column("size_bytes", "Size", "size", 3),
        Column("payload", "Payload", "text", 1), Column("original", "Event", "text", 5, wide=True),
    )

    def __init__(self, consumer: str, node: str = "") -> None:
        super().__init__()
        self.consumer = consumer
        self.of_node = node
        self.running: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        return f"Dead letters › {clean(self.consumer)}" + (f" at {clean(self.of_node)}" if self.of_node else "")

    async def load(self, client: Client) -> Any:
        return await client.get(f"deadletters/{quote(self.consumer, safe='')}", {
            "limit": str(PAGE_LETTERS), "after": self.after[-1] if self.after else "", "node": self.of_node})

    def take(self, data: Any) -> None:
        self.rows = [{**row, "payload": payload_of(row)} for row in data["dead_letters"]]
        self.total = self.matched = len(self.rows)
        self.next = data["next"] or ""
        redrive = data["redrive"]
        self.running = redrive if redrive is not None and redrive["state"] == "running" else None
        self._settle()

    def headline(self) -> list[Piece]:
        pieces: list[Piece] = [(show.number(len(self.rows)), TITLE)]
        if self.running is not None:
            pieces.append((f"  △ a redrive is under way: {show.number(self.running.get('redriven'))} done", WARN))
        if self.next:
            pieces.append(("  n next page", DIM))
        return pieces

    @property
    def path(self) -> str:
        return f"/deadletters/{quote(self.consumer, safe='')}"

    def params(self) -> dict[str, str]:
        return {"node": self.of_node}

    def ask(self, filter: str | None = None, sort: str | None = None, trouble: bool | None = None) -> None:
        """Oldest first is their only order."""
        self.post_message(View.Say("Dead letters of a consumer have no filter; oldest comes first."))

    def topics(self) -> str:
        return str(self.value("topic") or "")

    def event_id(self) -> str:
        """Of the event that was given up, where it lies; the dead letter is a copy of it."""
        return str(self.value("original") or "")

    def enter(self) -> None:
        if self.row is not None:
            self.post_message(Events.Open(self.row))

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        running = self.running is not None
        one = letter_acts(self.consumer, running=False, ids=[self.subject()], node=self.of_node) if self.row else []
        return [*one, *letter_acts(self.consumer, running=running, node=self.of_node)]
