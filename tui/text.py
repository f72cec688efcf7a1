"""Text from strangers in cells of a terminal: nothing in it moves the cursor, turns a line around or hides.

    clean("a\\x1b[2Jb")  →  "a␛[2Jb"        cut("ärgerlich", 5)  →  "ärge…"        fit("ab", 4, right=True)  →  "  ab"

Control characters are shown as their pictures (U+2400 …), what has no picture, no width of its own or turns the reading
direction becomes "·". Widths are those of the table that the terminal library lays lines out with.
Sources: ECMA-48 (control functions), UAX #9 (explicit marks of direction), UTS #51 (joiners, variation selectors).
"""
from __future__ import annotations

import unicodedata

from rich.cells import cell_len, chop_cells

HIDDEN = "·"
MARKS_MAX = 2                   # accents on one letter; towers of them would reach into other lines
_HIDDEN_KINDS = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")


def clean(text: str) -> str:
    """One line, printable, with what was hidden made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(text))


def _shown(text: str) -> list[str]:
    found: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(char)
        if kind in ("Mn", "Me"):
            marks += 1
            if marks <= MARKS_MAX and found and char not in _JOINERS:
                found.append(char)
            continue
        marks = 0
        found.append(_picture(char) if kind in _HIDDEN_KINDS or _flag(char) else char)
    return found


def _flag(char: str) -> bool:
    """Regional indicators: two are two cells or four, as the terminal likes; skin tones change the one before."""
    return "\U0001f1e6" <= char <= "\U0001f1ff" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _picture(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return HIDDEN


def clean_lines(text: str, lines_max: int) -> list[str]:
    """A text of several lines (a payload), with tabs as blanks; bounded."""
    found = [clean(line.expandtabs(4).rstrip("\r")) for line in text.split("\n", lines_max)]
    if len(found) > lines_max:
        found[lines_max:] = ["…"]
    return found


def width_of(text: str) -> int:
    """Cells. What is not ASCII is remembered by rich, up to a bound."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int) -> str:
    """At most so many cells, with … where something is left out."""
    if width_of(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    if text.isascii():
        return text[:width - 1] + "…"
    found, used = [], 0
    for char in text:
        wide = cell_len(char)
        if used + wide > width - 1:
            break
        found.append(char)
        used += wide
    return "".join(found) + "…"


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so many cells."""
    text = cut(text, width)
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most so many cells, broken at blanks where there are some."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        for piece in (chop_cells(word, width) or [""]) if width_of(word) > width else [word]:
            joined = f"{line} {piece}" if line else piece
            if width_of(joined) <= width:
                line = joined
            else:
                lines.append(line)
                line = piece
    return [*lines, line]


def fold(text: str, width: int) -> list[str]:
    """Lines of at most so many cells, broken wherever that is: for what has its own shape."""
    return [text] if width_of(text) <= width else chop_cells(text, max(width, 2))
