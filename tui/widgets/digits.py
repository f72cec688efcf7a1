"""Big figures, three lines high, of the half-block characters that every terminal has. Pure."""
from __future__ import annotations

DIGIT_LINES = 3
_SHAPES = {
    "0": ("█▀█", "█ █", "▀▀▀"), "1": (" █ ", " █ ", " ▀ "), "2": ("▀▀█", "█▀▀", "▀▀▀"), "3": ("▀▀█", " ▀█", "▀▀▀"),
    "4": ("█ █", "▀▀█", "  ▀"), "5": ("█▀▀", "▀▀█", "▀▀▀"), "6": ("█▀▀", "█▀█", "▀▀▀"), "7": ("▀▀█", "  █", "  ▀"),
    "8": ("█▀█", "█▀█", "▀▀▀"), "9": ("█▀█", "▀▀█", "▀▀▀"), ",": (" ", " ", "▞"), ".": (" ", " ", "▀"),
    "-": ("  ", "▀▀", "  "), "–": ("   ", "▀▀▀", "   "), " ": (" ", " ", " "),
}


def digits(text: str) -> list[str]:
    """DIGIT_LINES lines; what has no shape is left out."""
    shapes = [_SHAPES[char] for char in text if char in _SHAPES]
    return [" ".join(shape[line] for shape in shapes) for line in range(DIGIT_LINES)]
