"""The way of a stored event through all nodes: who let it in by which rule, where it lies, who got it, who not, why."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tui import show
from tui.text import clean, fit
from tui.views.view import View, message_lines
from tui.widgets.line import (
    BAD,
    BLANK,
    DIM,
    GOOD,
    KEY,
    MARKS,
    NOTE,
    TEXT,
    TITLE,
    WARN,
    Line,
    Piece,
    state_piece,
    wrapped,
)

if TYPE_CHECKING:
    from tui.api.client import Client

NAME_WIDTH = 12
WHO_WIDTH = 28
OUTCOME_WIDTH = 13


class Journey(View):
    NAME = "journey"
    TITLE = "Journey"
    STILL = True
    ABOUT = "The way of a stored event through all nodes: who got it, who did not and why: journey events:0:17"

    def __init__(self, event: str) -> None:
        super().__init__()
        self.of_event = event
        self.data: dict[str, Any] = {}

    @property
    def title(self) -> str:
        return f"Journey › {clean(self.of_event)}"

    async def load(self, client: Client) -> Any:
        return await client.get("journey", {"id": self.of_event})

    def take(self, data: Any) -> None:
        if not isinstance(data["event"], dict) or not all(isinstance(leg, dict) for leg in data["legs"]):
            raise TypeError("a journey is an event and a leg for each node")
        self.data = data

    def address(self) -> str:
        return f"/journey?{urlencode({'id': self.of_event})}"

    # -- drawing ----------------------------------------------------------------------------------------------

    def headline(self) -> list[Piece]:
        legs = self.data.get("legs", [])
        silent = [leg for leg in legs if leg.get("state") != "answered"]
        pieces: list[Piece] = [(f"at {sum(1 for leg in legs if leg.get('stored'))} of {len(legs)} nodes", TITLE)]
        if silent:
            pieces.append((f"  △ {', '.join(clean(str(leg.get('node'))) for leg in silent[:3])}: no answer", WARN))
        return pieces if legs else []

    def lines(self, width: int, height: int) -> list[Line]:
        if not self.loaded:
            return message_lines("asking the nodes …", DIM)
        event, origin = self.data["event"], self.data["origin"]
        place = f"{origin['node']}: {origin['stream']}/{origin['partition']} at {origin['offset']}"
        found = [BLANK, Line([("  ", TEXT), (clean(str(event["topic"])), TITLE)]), *wrapped(
            clean(f"{event['time']} · {show.size(event.get('size_bytes'))} · first stored at {place}"), DIM, width - 1,
            "  ")]
        for leg in self.data["legs"]:
            found += [BLANK, *self._leg(leg, width)]
        return found

    def _leg(self, leg: Mapping[str, Any], width: int) -> list[Line]:
        stored, state = leg.get("stored"), str(leg.get("state"))
        mark: Piece = ("○ ", GOOD) if stored else ("◦ ", DIM) if state == "answered" else ("⊠ ", BAD)
        head = [("  ", TEXT), mark, (clean(str(leg.get("node"))), KEY), (f"  {clean(str(leg.get('site') or ''))}", DIM)]
        if state != "answered":
            return [Line([*head, (f"  {clean(state)} {clean(str(leg.get('text') or ''))}", BAD)])]
        lines = [Line(head)]
        if stored:
            lines += _field("came in", self._entry(leg), width) if leg.get("is_origin") else []
            renamed = f" as {stored['topic']}" if stored["topic"] != self.data["event"]["topic"] else ""
            lines += _field("stored", f"{stored['stream']}/{stored['partition']} at {stored['offset']}{renamed}", width)
        else:
            lines += _field("not here", str(leg.get("why") or ""), width)
        for one in leg.get("destinations") or ():
            by = f" by the link to {one['by_link']}" if one.get("by_link") else ""
            lines += _outcome("to node", str(one["outcome"]), str(one["node"]), f"{one.get('why') or ''}{by}", width)
        for one in leg.get("readers") or ():
            who = f"{one['name']} ({one.get('user') or '–'}, {one.get('protocol') or '–'})"
            lines += _outcome("reader", str(one["outcome"]), who, str(one.get("why") or ""), width)
        lines += self._others(leg, width)
        return lines

    def _entry(self, leg: Mapping[str, Any]) -> str:
        entry = leg.get("entry")
        if not entry:
            return f"from {leg['publisher']}; how is not known" if leg.get("publisher") else "how is not known"
        client = f", client {entry['client_id']}" if entry.get("client_id") else ""
        return f"over {entry['protocol']} from {entry['user']}{client}; let in by rule {entry['rule']}"

    def _others(self, leg: Mapping[str, Any], width: int) -> list[Line]:
        lines: list[Line] = []
        unmatched = (leg.get("outcomes") or {}).get("no match")
        if unmatched:
            lines += _field("", f"{show.number(unmatched)} more want other topics", width, DIM)
        live = leg.get("live") or {}
        if live.get("matching"):
            lines += _field("live", f"{show.number(live['matching'])} now subscribed to its topic; what they got is not"
                                    " written down", width, DIM)
        for one in live.get("denied") or ():
            lines += _outcome("live", "denied", str(one.get("client_id") or one.get("user")), f"rule {one['rule']}",
                              width)
        for one in leg.get("refused") or ():
            lines += _outcome("refused", "denied", f"{one['user']} ({one['protocol']})",
                              f"rule {one['rule']}, at subscribing to {one['filter']}", width)
        return lines

    # -- keys -------------------------------------------------------------------------------------------------

    def subject(self) -> str:
        return self.of_event

    def topics(self) -> str:
        return str(self.data["event"]["topic"]) if self.data else ""

    def event_id(self) -> str:
        return self.of_event


def _field(name: str, text: str, width: int, role: str = TEXT) -> list[Line]:
    head = f"      {fit(name, NAME_WIDTH)}"
    head_line, *rest = wrapped(clean(text), role, width - 1, " " * len(head))
    return [Line([(head, DIM), *head_line.pieces[1:]]), *rest]


def _outcome(name: str, outcome: str, who: str, why: str, width: int) -> list[Line]:
    """Shape, word, who; and why, on lines of its own where it does not fit."""
    text, role = state_piece(clean(outcome))
    if outcome == "waiting":                                # of a consumer that is well; of an event it is not yet
        text, role = f"{MARKS[NOTE]} {outcome}", NOTE
    head: list[Piece] = [(f"      {fit(name, NAME_WIDTH)}", DIM), (fit(text, OUTCOME_WIDTH), role),
                         (fit(clean(who), max(WHO_WIDTH, 0)), TEXT), ("  ", TEXT)]
    used = 6 + NAME_WIDTH + OUTCOME_WIDTH + WHO_WIDTH + 2
    if width - used < 20:
        return [Line([*head[:2], (clean(who), TEXT)]), *(wrapped(clean(why), DIM, width - 1, " " * (8 + NAME_WIDTH))
                                                         if why else [])]
    first, *rest = wrapped(clean(why), DIM, width - 1, " " * used)
    return [Line([*head, *first.pieces[1:]]), *rest]
