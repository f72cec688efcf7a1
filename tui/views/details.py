"""All that is known of one thing: its row, its histories, and for a link what the other end says."""
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tui import show
from tui.acts import Act, bridge_acts, client_acts, consumer_acts, link_acts, queue_acts
from tui.api.errors import ApiError, Fault
from tui.text import clean, fit, width_of
from tui.views.view import View, message_lines
from tui.widgets.line import BAD, BLANK, DIM, NOTE, TEXT, TITLE, Line, state_piece, wrapped

if TYPE_CHECKING:
    from tui.api.client import Client

HISTORIES = {
    "nodes": ("node", (("events_in_s", "Events per second"), ("lag_events", "Events behind, all consumers"),
                       ("denied_s", "Denied per second"), ("memory_bytes", "Memory"))),
    "links": ("link", (("sent_bytes_s", "Sent per second"), ("received_bytes_s", "Received per second"),
                       ("lag_events", "Events behind"), ("backlog_bytes", "Waiting"), ("rtt_ms", "Round trip, ms"))),
    "streams": ("stream", (("events_s", "Events per second"), ("size_bytes", "Size"))),
    "consumers": ("consumer", (("lag_events", "Events behind"), ("lag_seconds", "Seconds behind"),
                               ("acked_s", "Acked per second"))),
}
KEYS = {
    "revisions": "revision", "links": "id", "clients": "client_id", "denials": "id", "audit": "id",
    "webhooks": "consumer", "bindings": "id", "groups": "group", "transactions": "transactional_id",
    "logins": "id"}
TOPICS = {"links": "links", "consumers": "consumers", "streams": "streams", "queues": "consumers", "nodes": "topology"}
NAME_WIDTH = 26


class Details(View):
    """kind: a table of the API.  key: of the row."""

    def __init__(self, kind: str, key: str, node: str = "") -> None:
        """node: whose it is; "": of the node that is asked."""
        super().__init__()
        self.kind = kind
        self.key = key
        self.at_node = node
        self.row: dict[str, Any] | None = None
        self.charts: list[tuple[str, dict[str, Any]]] = []
        self.other: dict[str, Any] = {}         # the answer about the node at the other end of a link

    @property
    def title(self) -> str:
        where = f" at {clean(self.at_node)}" if self.at_node else ""
        return f"{self.kind} › {clean(self.key)}{where}"

    @property
    def topic(self) -> str:
        return TOPICS.get(self.kind, "overview")

    async def load(self, client: Client) -> Any:
        """The row; beside it the histories and the other end, which may be missing."""
        rows = (await client.get(self.kind, {"id": self.key, "limit": "2", "node": self.at_node}))[self.kind]
        row = next((one for one in rows if str(one[KEYS.get(self.kind, "name")]) == self.key), None)
        if row is None:
            raise ApiError(Fault.MISSING, f"{clean(self.key)} is not there (any more)")
        kind, series = HISTORIES.get(self.kind, ("", ()))
        charts = await asyncio.gather(*(self._history(client, kind, name) for name, _ in series))
        other: dict[str, Any] = {}
        if self.kind == "links" and row["node"]:
            other = await client.get("nodes", {"id": str(row["node"])})
        return row, [(title, chart) for (_, title), chart in zip(series, charts) if chart is not None], other

    async def _history(self, client: Client, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return await client.get("history", {"kind": kind, "id": self.key, "series": name,
                                                "node": self.at_node})
        except ApiError as error:
            if error.fault is not Fault.MISSING:
                raise
            return None

    def take(self, data: Any) -> None:
        self.row, self.charts, self.other = data

    @property
    def path(self) -> str:
        paged = self.kind in HISTORIES
        return f"/{self.kind}/{quote(self.key, safe='')}" if paged else f"/{self.kind}"

    def params(self) -> dict[str, str]:
        if self.kind in HISTORIES:
            return {"node": self.at_node}
        return {"filter": f'{KEYS.get(self.kind, "name")}="{self.key}"'}

    # -- drawing ----------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        if self.row is None:
            return message_lines("asking the node …", DIM)
        found: list[Line] = [BLANK]
        for title, chart in self.charts:
            found += self._chart(title, chart, width)
        if self.charts:
            found.append(BLANK)
        found += self._both_ends()
        for path, value in show.flat(self.row):
            found += self._field(path, value, width)
        return found

    def _field(self, path: str, value: Any, width: int) -> list[Line]:
        name = fit(clean(path), NAME_WIDTH)
        text = clean(show.plain(path, value))
        if path == "state":
            return [Line([(f"  {name}", DIM), state_piece(text)])]
        role = BAD if path in ("failed", "last_error", "last_problem") and value else TEXT
        lines = wrapped(text, role, width - 1, " " * (NAME_WIDTH + 2))
        head = lines[0]
        return [Line([(f"  {name}", DIM), *head.pieces[1:]]), *lines[1:]]

    def _both_ends(self) -> list[Line]:
        """The two-node truth: what each end says of the link."""
        nodes = self.other.get("nodes")
        if not nodes or self.row is None:
            return []
        there = nodes[0]
        lines = [Line([(f"  {fit('this end says', NAME_WIDTH)}", DIM), state_piece(str(self.row["state"]))])]
        here = self.at_node or self.other.get("node")
        theirs = [str(link["state"]) for link in there.get("links", ()) if link["node"] == here]
        lines += [Line([(f"  {fit('the other end says', NAME_WIDTH)}", DIM), state_piece(state),
                        (f"  heard {show.duration(there['age_s'])} ago", DIM)]) for state in theirs]
        return [*lines, BLANK]

    def _chart(self, title: str, chart: Mapping[str, Any], width: int) -> list[Line]:
        values = chart["values"]
        known = [value for value in values if value is not None]
        if not known:
            return []
        form = show.size if chart["series"].endswith(("bytes", "bytes_s")) else show.number
        now, most = form(known[-1]), form(max(known))
        room = max(width - NAME_WIDTH - width_of(now) - width_of(most) - 16, 10)
        shown = values[-room:]
        span = show.duration(len(shown) * chart["step_ms"] / 1000)
        return [Line([(f"  {fit(title, NAME_WIDTH)}", DIM), (show.spark(shown, min(room, len(shown))), NOTE),
                      (f" {now}", TITLE), (f"  at most {most} in {span}", DIM)])]

    # -- keys -------------------------------------------------------------------------------------------------

    def subject(self) -> str:
        return self.key

    def enter(self) -> None: ...

    def topics(self) -> str:
        row = self.row or {}
        found = row.get("filters") or row.get("capture") or row.get("topic") or ""
        return str(found[0] if isinstance(found, list) else found)

    def question(self) -> str:
        user = (self.row or {}).get("user")
        return f"can-i {user} " if user else "can-i "

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        row = self.row
        if row is None:
            return []
        if self.kind == "queues":
            return queue_acts(self.key, paused=bool(row.get("paused")), node=self.at_node)
        if self.kind in ("consumers", "webhooks"):
            return consumer_acts(self.key, paused=bool(row.get("paused")), node=self.at_node)
        if self.kind == "bridges":
            return bridge_acts(self.key, paused=bool(row.get("paused")), node=self.at_node)
        if self.kind == "links":
            return link_acts(self.key, str(row["state"]), self.at_node)
        if self.kind == "clients" and row.get("connected") is not False:
            return client_acts(self.key, self.at_node)
        return []
