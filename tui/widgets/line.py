"""A line as the views make it: pieces of text, each with the role it plays. Pure; the colours are palette.py's.

    Line([("○ ", "good"), ("all is well", "title")])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui.text import cut, width_of, wrap

Piece = tuple[str, str]
TEXT, DIM, TITLE, GOOD, WARN, BAD, NOTE, KEY, ACCENT = (
    "text", "dim", "title", "good", "warn", "bad", "note", "key", "accent")
ROLES = (TEXT, DIM, TITLE, GOOD, WARN, BAD, NOTE, KEY, ACCENT)
MARKS = {"bad": "⊠", "warn": "△", "good": "○", "note": "‖", "dim": "◦"}
SEVERITIES = {"broken": BAD, "warning": WARN, "notice": NOTE}
STATES = {
    "up": GOOD, "current": GOOD, "ready": GOOD, "done": GOOD, "ok": GOOD, "closed": GOOD, "waiting": GOOD,
    "delivering": GOOD, "reached": GOOD, "connected": GOOD, "here": GOOD, "live": GOOD,
    "acked": GOOD, "taken": GOOD, "passed": GOOD,
    "throttled": WARN, "behind": WARN, "draining": WARN, "half-open": WARN, "counting": WARN, "held back": WARN,
    "in flight": WARN, "unread": WARN, "ongoing": WARN, "PreparingRebalance": WARN, "CompletingRebalance": WARN,
    "Stable": GOOD, "Empty": DIM,
    "down": BAD, "blocked": BAD, "failed": BAD, "open": BAD, "not permitted": BAD, "denied": BAD, "unreachable": BAD,
    "broken": BAD, "not served": BAD,
    "paused": NOTE,
    "away": DIM, "idle": DIM, "unknown": DIM, "listening": DIM,
}


class Line(NamedTuple):
    """marked: the cursor is on it."""

    pieces: Sequence[Piece]
    marked: bool = False

    @property
    def plain(self) -> str:
        return "".join(text for text, _ in self.pieces)


BLANK = Line(())


def state_piece(state: str) -> Piece:
    """Shape and word, and a role for the colour: "⊠ blocked"."""
    role = STATES.get(state, TEXT)
    mark = MARKS.get(role, " ")
    return (f"{mark} {state}", role)


def trimmed(line: Line, width: int) -> Line:
    """Not wider than the screen."""
    left = width
    found: list[Piece] = []
    for text, role in line.pieces:
        wide = width_of(text)
        if wide > left:
            found.append((cut(text, left), role))
            break
        found.append((text, role))
        left -= wide
    return Line(found, line.marked)


def wrapped(text: str, role: str, width: int, indent: str = "", first: str | None = None) -> list[Line]:
    """A paragraph as lines; first: stands before the first line instead of the indent."""
    lines = wrap(text, max(width - len(indent), 8))
    return [Line([(first if first is not None and not index else indent, role), (line, role)])
            for index, line in enumerate(lines)]
