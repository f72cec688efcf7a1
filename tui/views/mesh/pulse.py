"""The first screen: is everything all right, and if not, what is broken, since when, for whom, and what to do."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from tui import show
from tui.text import clean, fit, width_of
from tui.views.view import View, message_lines
from tui.widgets.digits import DIGIT_LINES, digits
from tui.widgets.line import BAD, BLANK, DIM, GOOD, KEY, MARKS, NOTE, SEVERITIES, TEXT, TITLE, WARN, Line, wrapped

FIGURES = (
    ("events_in_s", "Events in, per second", ""), ("lag_events", "Events behind", ""),
    ("denied_s", "Denied, per second", WARN), ("dropped_s", "Dropped, per second", WARN),
)
ITEM = frozenset(("severity", "subject", "what", "affects", "do", "url", "since_ms"))
BIG_FROM = (28, 96)             # lines and columns from which figures are drawn big


class Pulse(View):
    NAME = "pulse"
    TITLE = "Pulse"
    ABOUT = "One sentence, what needs attention, and the figures of the node that is asked."
    scrolls = False

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[str, Any] = {}
        self.cursor = 0

    async def load(self, client: Any) -> Any:
        return await client.get("overview")

    def take(self, data: Any) -> None:
        if not all(isinstance(data[name], dict) for name in ("figures", "sparks", "totals")):
            raise TypeError("figures are named")
        if not all(isinstance(item, dict) and item.keys() >= ITEM for item in data["attention"]):
            raise ValueError("what needs attention says what, whom and where")
        self.data = data
        self.cursor = max(min(self.cursor, len(self.items) - 1), 0)

    @property
    def path(self) -> str:
        return "/"

    @property
    def items(self) -> list[Mapping[str, Any]]:
        return self.data.get("attention", [])       # type: ignore[no-any-return]

    def headline(self) -> list[tuple[str, str]]:
        count = len([item for item in self.items if item["severity"] != "notice"])
        return [(f"△ {count} need attention" if count > 1 else "△ one needs attention", WARN)] if count else []

    # -- drawing ----------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        if not self.loaded:
            return message_lines("asking the node …", DIM)
        big = height >= BIG_FROM[0] and width >= BIG_FROM[1]
        worst = self.data["worst"]
        role = {"broken": BAD, "warning": WARN}.get(worst, GOOD)
        found = [BLANK, *wrapped(clean(self.data["verdict"]), TITLE, width - 1, "   ", f" {MARKS[role]} ")]
        found[1] = Line([(found[1].pieces[0][0], role), *found[1].pieces[1:]])
        figures = self._figures(width, big)
        found += [BLANK, *figures, BLANK]
        room = height - len(found)
        found += self._attention(width, room) if self.items else self._calm(width)
        return found[:height]

    def _calm(self, width: int) -> list[Line]:
        return wrapped("Nothing needs attention. : goes to another screen, ? shows the keys.", DIM, width, "   ")

    def _attention(self, width: int, room: int) -> list[Line]:
        """Those around the cursor, each with two lines; the last line says how many more there are."""
        per = 2
        fits = max((room - 1) // per, 1)
        first = max(min(self.cursor - fits // 2, len(self.items) - fits), 0)
        lines: list[Line] = []
        for index, item in enumerate(self.items[first:first + fits], first):
            lines += self._item(item, width, index == self.cursor)
        more = len(self.items) - first - fits
        if first or more > 0:
            lines.append(Line([(f"   {first + 1}–{min(first + fits, len(self.items))} of {len(self.items)}", DIM)]))
        return lines

    def _item(self, item: Mapping[str, Any], width: int, marked: bool) -> list[Line]:
        role = SEVERITIES.get(str(item["severity"]), NOTE)
        since = item["since_ms"]
        ago = f" for {show.duration((self.now_ms - since) / 1000)}:" if since else ""
        head = f"{MARKS[role]} {item['severity']:<8}"
        what = (f" {clean(item['what'])}", TEXT)
        first = Line([("▸ " if marked else "  ", KEY), (head, role), (ago, DIM), what], marked)
        second = Line([(" " * (3 + width_of(head)), DIM), (clean(f"{item['affects']} · {item['do']}"), DIM)])
        return [first, second]

    def _figures(self, width: int, big: bool) -> list[Line]:
        across = 4 if width >= 120 else 2
        cell = (width - 3) // across
        lines: list[Line] = []
        for start in range(0, len(FIGURES), across):
            block = [self._figure(*figure, cell - 2, big) for figure in FIGURES[start:start + across]]
            lines += [Line([("   ", TEXT), *(piece for line in row for piece in (*line.pieces, ("  ", TEXT)))])
                      for row in zip(*block)]
            lines.append(BLANK)
        totals, figures = self.data["totals"], self.data["figures"]
        facts = (
            *((name if totals[name] != 1 else name.removesuffix("s"), show.number(totals[name]))
              for name in ("nodes", "links", "streams", "consumers")),
            ("connections", show.number(figures.get("connections"))),
            ("memory", show.size(figures.get("memory_bytes"))), ("published", show.number(totals["published"])),
            ("up", show.duration(self.data["uptime_s"])),
        )
        pieces: list[tuple[str, str]] = [("  ", TEXT)]
        for name, value in facts:
            if sum(width_of(text) for text, _ in pieces) + len(name) + len(value) + 3 > width:
                lines.append(Line(pieces))
                pieces = [("  ", TEXT)]
            pieces += [(f" {value}", TITLE), (f" {name} ", DIM)]
        return [*lines, Line(pieces)]

    def _figure(self, name: str, title: str, alarm: str, width: int, big: bool) -> list[Line]:
        value = self.data["figures"].get(name)
        bars = show.spark(self.data["sparks"].get(name, []), width)
        role = alarm if alarm and value else TITLE
        if not big:
            text = show.number(value)
            spark = bars[-max(width - 10, 1):]
            return [Line([(fit(title, width), DIM)]),
                    Line([(fit(text, width - width_of(spark)), role), (spark, NOTE)])]
        drawn = digits(show.number(value))
        return [Line([(fit(title, width), DIM)]), *(Line([(fit(row, width), role)]) for row in drawn[:DIGIT_LINES]),
                Line([(bars, NOTE)])]

    # -- keys -------------------------------------------------------------------------------------------------

    def move(self, lines: int) -> None:
        self.cursor = max(min(self.cursor + lines, len(self.items) - 1), 0)
        self.repaint()

    def edge(self, end: bool) -> None:
        self.move(len(self.items) if end else -len(self.items))

    def enter(self) -> None:
        if self.items:
            self.post_message(self.Go(str(self.items[self.cursor]["url"]).lstrip("/")))

    def subject(self) -> str:
        return unquote(str(self.items[self.cursor]["subject"])) if self.items else str(self.data.get("verdict", ""))
