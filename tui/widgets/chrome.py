"""The lines around a view: who and where at the top, what keys do at the bottom."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from tui.text import width_of
from tui.widgets.line import DIM, KEY, TEXT, Line, Piece
from tui.widgets.lines import Lines


class Bar(Lines):
    """Lines with something at the left and something at the right. rows: gives (left, right) for each line."""

    scrolls = False

    def __init__(self, rows: Callable[[], Sequence[tuple[Sequence[Piece], Sequence[Piece]]]], id: str) -> None:
        super().__init__(id=id)
        self._rows = rows

    def lines(self, width: int, height: int) -> list[Line]:
        return [_spread(left, right, width) for left, right in self._rows()]


def _spread(left: Sequence[Piece], right: Sequence[Piece], width: int) -> Line:
    """The right part gives way when there is no room for both."""
    used = sum(width_of(text) for text, _ in left)
    wide = sum(width_of(text) for text, _ in right)
    if used + wide + 1 > width:
        return Line(left)
    return Line([*left, (" " * (width - used - wide), TEXT), *right])


def key_pieces(keys: Sequence[tuple[str, str]]) -> list[Piece]:
    found: list[Piece] = [(" ", TEXT)]
    for key, word in keys:
        found += [(key, KEY), (f" {word}  ", DIM)]
    return found
