"""Stored events: by topic, time and content. A search says how far it has looked, and goes on with n."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from tui import show
from tui.api.events import ServerEvent
from tui.text import clean
from tui.views.table import TableView
from tui.views.view import View
from tui.widgets.columns import Column
from tui.widgets.line import DIM, NOTE, TITLE, WARN, Piece

if TYPE_CHECKING:
    from tui.api.client import Client

PAGE_EVENTS = 200
SINCE_DEFAULT = "15m"
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
TAIL_ROWS_MAX = 1_000
TAIL_STEP_EVENTS = 1_000


def time_text(text: str, now_s: float) -> str:
    """"15m", "2h" → RFC 3339, so long ago; anything else as it is: the node says what is wrong with it."""
    if text[:-1].isdigit() and text[-1:] in UNITS:
        ago = timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])
        try:
            return rfc3339(datetime.fromtimestamp(now_s, UTC) - ago)
        except OverflowError:
            return "1970-01-01T00:00:00Z"
    return text


def rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Events(TableView):
    """What browsing and tailing have in common: rows that are events."""

    KEY = "id"
    COLUMNS = (
        Column("time", "Time", "clock", 0), Column("topic", "Topic", "key", 0), Column("size_bytes", "Size", "size", 2),
        Column("payload", "Payload", "text", 1), Column("publisher", "By", "text", 3),
        Column("origin.node", "From node", "text", 4), Column("stream", "Stream", "text", 5, wide=True),
        Column("partition", "Partition", "number", 5, wide=True), Column("offset", "Offset", "number", 5, wide=True),
        Column("key", "Key", "text", 5, wide=True), Column("content_type", "Type", "text", 5, wide=True),
    )

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__()
        self.search = dict(params)
        self.search.setdefault("filter", "#")

    def params(self) -> dict[str, str]:
        return {name: self.search[name] for name in ("filter", "from", "until", "match") if self.search.get(name)}

    def topics(self) -> str:
        return str(self.value("topic") or "")

    def event_id(self) -> str:
        return str(self.value("id") or "")

    def subject(self) -> str:
        return str(self.value("payload") or self.value("topic") or "")

    def enter(self) -> None:
        if self.row is not None:
            self.post_message(self.Open(self.row))

    class Open(View.Go):
        """Show one event whole."""

        def __init__(self, event: dict[str, Any]) -> None:
            super().__init__("")
            self.event = event

    def ask(self, filter: str | None = None, sort: str | None = None, trouble: bool | None = None) -> None:
        """`/` looks for a piece of the payload, the topic or the key."""
        if filter is not None:
            self.search["match"] = filter
            super().ask()

    def sort_next(self) -> None: ...

    def sort_turn(self) -> None: ...

    def fields(self) -> list[str]:
        return []

    def _searched(self) -> list[Piece]:
        pieces: list[Piece] = [(f"  {clean(self.search['filter'])}", NOTE)]
        pieces += [(f"  {name} {clean(self.search[name])}", NOTE) for name in ("match", "from", "until")
                   if self.search.get(name)]
        return pieces


def with_keys(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with its place in the log as its name; events that may not be read have no id."""
    return [{**event, "id": f"{event['stream']}:{event['partition']}:{event['offset']}",
             "payload": payload_of(event)} for event in events]


def payload_of(event: Mapping[str, Any]) -> Any:
    if not event.get("readable"):
        return "(may not be read)"
    return "(binary)" if event.get("payload_base64") is not None else event.get("payload")


class Browse(Events):
    NAME = "browse"
    TITLE = "Browse"
    STILL = True
    ABOUT = "Stored events by topic filter, time and content: browse plant/# from=2h match=E-1234"
    EMPTY = "No event fits."

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self.search.setdefault("from", SINCE_DEFAULT)
        self.scanned = self.remaining = 0
        self.done = False

    async def load(self, client: Client) -> Any:
        params = {**self.params(), "limit": str(PAGE_EVENTS), "cursor": self.after[-1] if self.after else ""}
        for name in ("from", "until"):
            if name in params:
                params[name] = time_text(params[name], self.clock())
        return await client.get("browse", params)

    def take(self, data: Any) -> None:
        self.rows = with_keys(data["events"])
        self.scanned, self.remaining, self.done = data["scanned"], data["remaining"], data["done"]
        self.next = data["cursor"] or ""
        self._settle()

    def _nothing(self) -> str:
        return self.EMPTY if self.done else "Nothing yet: n looks on."

    def headline(self) -> list[Piece]:
        if not self.loaded:
            return self._searched()
        how_far: list[Piece] = [("  that is all", DIM)] if self.done else [
            (f"  {show.number(self.remaining)} left to look at", WARN), ("  n goes on", DIM)]
        return [(f"{len(self.rows)} of {show.number(self.scanned)} looked at", TITLE), *how_far, *self._searched()]


class Tail(Events):
    """Events as the node stores them, by its live stream. Bounded: the oldest rows go.

    What was stored just before, or while the stream was broken, is looked for once when it is open: no gap.
    """

    NAME = "tail"
    TITLE = "Tail"
    FED = True
    ABOUT = "Events as they come: tail plant/#"
    EMPTY = "Waiting for events …"

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(params)
        self._from = ""                 # a second before the newest event that was seen
        self._seen: dict[str, None] = {}
        self.behind = 0
        self.unseen = 0                 # passed by while there was too much to show

    def stream(self) -> str:
        return f"tail?{urlencode(self.params())}"

    async def load(self, client: Client) -> Any:
        since = self._from or self.search.get("from") or rfc3339(datetime.fromtimestamp(self.clock() - 5, UTC))
        params = {"filter": self.search["filter"], "match": self.search.get("match", ""),
                  "from": time_text(since, self.clock()), "limit": str(TAIL_STEP_EVENTS)}
        return await client.get("browse", params)

    def take(self, data: Any) -> None:
        if isinstance(data, ServerEvent):
            found = msgspec.json.decode(data.data)
            if data.name == "skipped":
                self.unseen += int(found)
            elif data.name == "tail" and found:
                self._came(found)
            return
        self.behind = data["remaining"]
        self._came(data["events"])

    def _came(self, events: Sequence[dict[str, Any]]) -> None:
        at_end = self.cursor >= len(self.rows) - 1
        fresh = [event for event in with_keys(events) if event["id"] not in self._seen]
        for event in fresh:
            self._seen[event["id"]] = None
        for old in list(self._seen)[:max(len(self._seen) - 4 * TAIL_STEP_EVENTS, 0)]:
            del self._seen[old]
        if fresh:
            newest = max(datetime.fromisoformat(event["time"]) for event in fresh)
            self._from = rfc3339(newest.astimezone(UTC) - timedelta(seconds=1))
        self.rows = sorted([*self.rows, *fresh], key=lambda event: event["time"])[-TAIL_ROWS_MAX:]
        self.cursor = len(self.rows) - 1 if at_end else self.cursor
        self._settle()

    def ask(self, filter: str | None = None, sort: str | None = None, trouble: bool | None = None) -> None:
        if filter is not None:
            self.rows, self._seen, self._from, self.unseen = [], {}, "", 0
        super().ask(filter, sort, trouble)

    def params(self) -> dict[str, str]:
        return {name: self.search[name] for name in ("filter", "match") if self.search.get(name)}

    def turn_page(self, forward: bool) -> None: ...

    def headline(self) -> list[Piece]:
        late: list[Piece] = [(f"  {show.number(self.behind)} of before not looked at", WARN)] if self.behind else []
        if self.unseen:
            late.append((f"  {show.number(self.unseen)} passed by unseen", WARN))
        return [(show.number(len(self.rows)), TITLE), *late, *self._searched()]
