"""What the roles of a line look like: dark, light, and with 16 colours; greyed when the figures are old."""
from __future__ import annotations

from functools import lru_cache

from rich.style import Style
from textual.theme import Theme

from tui.widgets.line import ACCENT, BAD, DIM, GOOD, KEY, NOTE, ROLES, TEXT, TITLE, WARN

DARK = {TEXT: "#d3d9e0", DIM: "#a3adb9", TITLE: "bold #f2f5f8", GOOD: "#74c47c", WARN: "#e6bd57", BAD: "bold #ff7a70",
        NOTE: "#82bdff", KEY: "bold #7ed0d0", ACCENT: "#7ed0d0"}
LIGHT = {TEXT: "#1d2329", DIM: "#59636e", TITLE: "bold #000000", GOOD: "#116329", WARN: "#7a5200", BAD: "bold #b3201b",
         NOTE: "#0550ae", KEY: "bold #0b5a66", ACCENT: "#0b5a66"}
FEW = {TEXT: "", DIM: "", TITLE: "bold", GOOD: "green", WARN: "yellow", BAD: "bold red", NOTE: "cyan", KEY: "bold cyan",
       ACCENT: "cyan"}
MARKED = {True: "on #283645", False: "on #d3e4f7"}      # the line of the cursor; with few colours: reversed
GREY = {True: "#7a8390", False: "#8a929b"}

THEMES = (
    Theme("meshgate-dark", primary="#7ed0d0", secondary="#82bdff", warning="#e6bd57", error="#ff7a70",
          success="#74c47c", accent="#7ed0d0", foreground="#d3d9e0", background="#0f1419", surface="#171d24",
          panel="#1e262f", dark=True),
    Theme("meshgate-light", primary="#0b5a66", secondary="#0550ae", warning="#7a5200", error="#b3201b",
          success="#116329", accent="#0b5a66", foreground="#1d2329", background="#ffffff", surface="#f3f5f7",
          panel="#e6eaee", dark=False),
)


@lru_cache(maxsize=16)
def palette(dark: bool, few: bool, stale: bool) -> dict[str, Style]:
    """Role → style. "marked" is put over the whole line."""
    marked = Style.parse("reverse" if few else MARKED[dark])
    if stale:
        grey = Style.parse("dim" if few else GREY[dark])
        return {**dict.fromkeys(ROLES, grey), "marked": marked}
    chosen = FEW if few else DARK if dark else LIGHT
    return {**{role: Style.parse(chosen[role]) for role in ROLES}, "marked": marked}
