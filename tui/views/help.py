"""Keys and screens."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tui.views.view import View
from tui.widgets.line import ACCENT, BLANK, DIM, KEY, TEXT, Line

KEYS = (
    ("Go", ((":", "command: a screen, with a filter"), ("enter", "into what the cursor is on"), ("esc", "back"),
            ("ctrl+p", "palette"), ("q", "quit"))),
    ("Look", (("/", "filter; enter takes it, esc lets it go"), ("z", "only problems"),
              ("s S", "sort by the next column; turn"), ("w", "wide: all columns, ← → move"),
              ("n b", "next page; back"), ("d", "describe"), ("l", "tail its topics"), ("j", "journey of the event"),
              ("p", "hold the picture still"), ("r", "ask now"))),
    ("Do", (("x", "acts: all that changes something is there"), ("c", "can-i"), ("y", "copy"),
            ("Y", "copy the address; it opens the same view in a browser"))),
    ("Move", (("↑ ↓", "by lines"), ("pgup pgdn", "by pages"), ("home end g G", "to the ends"))),
)


class Help(View):
    NAME = "help"
    TITLE = "Help"
    STILL = True

    def __init__(self, screens: Mapping[str, str]) -> None:
        """screens: name → what it shows."""
        super().__init__()
        self._screens = screens
        self.loaded = True

    async def load(self, client: Any) -> Any:
        return None

    def take(self, data: Any) -> None: ...

    def lines(self, width: int, height: int) -> list[Line]:
        found: list[Line] = [BLANK]
        for title, keys in KEYS:
            found.append(Line([(f"  {title}", ACCENT)]))
            found += [Line([(f"    {key:<14}", KEY), (text, TEXT)]) for key, text in keys]
            found.append(BLANK)
        found.append(Line([("  Screens", ACCENT)]))
        found += [Line([(f"    :{name:<13}", KEY), (text, TEXT)]) for name, text in self._screens.items()]
        found += [BLANK, Line([("  Filters", ACCENT)])]
        for term, text in (
            ("graz", "rows with this piece in any column"), ("state=blocked", "exactly; != anything else"),
            ("name~billing", "this piece in this column"), ("lag_events>1000", "above; also < >= <=; 2m, 1GiB"),
            ('name="cash desk"', "a value with blanks"),
        ):
            found.append(Line([(f"    {term:<18}", KEY), (text, TEXT)]))
        return [*found, BLANK, Line([("  docs/tui.md has more.", DIM)])]
