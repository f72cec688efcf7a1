"""Columns of tables: where a value stands in a row, how it looks, and how wide it may be. Pure."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tui import show
from tui.text import clean, fit, width_of
from tui.widgets.line import DIM, TEXT, TITLE, WARN, Piece, state_piece

WIDTH_MAX = 48                  # of a column, but for the last text one, which may have what is left
WIDTH_MIN = {"key": 20, "text": 10, "list": 10}     # cut down to this before a column is left out
GAP = 2
TRENDS = {"growing": ("↗ growing", WARN), "shrinking": ("↘ shrinking", TEXT), "steady": ("→ steady", TEXT)}
RIGHT = frozenset(("number", "lag", "size", "rate", "ms", "skew", "duration", "ago", "retention"))


class Column(NamedTuple):
    """path: in the row, with dots.  kind: how it is shown.  wide: only with `w`.  rank: the higher, the sooner it goes
    when there is no room (0: never)."""

    path: str
    title: str
    kind: str = "text"
    rank: int = 1
    wide: bool = False

    @property
    def right(self) -> bool:
        return self.kind in RIGHT


class Laid(NamedTuple):
    """A column with its width on this screen."""

    column: Column
    width: int


def cell(column: Column, row: Mapping[str, Any], now_ms: float) -> Piece:
    """The text of one value, clean, and its role."""
    value = show.value_at(row, column.path)
    kind = column.kind
    if value is None or value == "" or value == []:
        return ("–", DIM)
    if kind == "state":
        return state_piece(clean(str(value)))
    if kind == "key":
        return (clean(str(value)), TITLE)
    if kind == "number":
        return (show.number(value), TEXT)
    if kind == "lag":
        counting = row.get("lag_state", "exact") != "exact"
        return (f"{show.number(value)}{'+' if counting else ''}", TEXT if value else DIM)
    if kind == "trend":
        return TRENDS.get(str(value), (clean(str(value)), TEXT))
    try:
        return (_formatted(kind, value, now_ms), TEXT)
    except (TypeError, ValueError):             # a node of another version says it in another way
        return (clean(str(value)), TEXT)


def _formatted(kind: str, value: Any, now_ms: float) -> str:
    if kind == "size":
        return show.size(value)
    if kind == "rate":
        return f"{show.size(value)}/s"
    if kind == "duration":
        return show.duration(value)
    if kind == "ago":
        return f"{show.duration(value)} ago"
    if kind == "retention":
        return show.duration(value / 1000)
    if kind == "ms":
        return f"{value:,.1f} ms"
    if kind == "skew":
        return f"{value:+,.0f} ms"
    if kind == "time":
        return show.time_of(value)
    if kind == "clock":
        return show.clock_of(value)
    if kind == "since":
        return show.duration((now_ms - value) / 1000)
    if kind == "yes":
        return "yes" if value else "no"
    if kind == "hops":
        return "this node" if value == 0 else "a link" if value == 1 else f"{value} links"
    if isinstance(value, list):
        return clean(", ".join(str(item) for item in value))
    return clean(str(value))


@dataclass
class _Room:
    """A column while the widths are being found."""

    column: Column
    natural: int
    width: int = 0


def lay_out(columns: Sequence[Column], natural: Sequence[int], width: int, *, wide: bool = False) -> list[Laid]:
    """Which columns there is room for, and how wide they are.  natural: cells that their values and titles take.

    wide: all of them as they are; the screen scrolls sideways.
    """
    rooms = [_Room(column, cells) for column, cells in zip(columns, natural) if wide or not column.wide]
    while True:
        for room in rooms:
            room.width = min(room.natural, WIDTH_MAX)
        missing = _needed(rooms) - width
        if wide or missing <= 0 or _narrow(rooms, missing):
            break
        worst = max(room.column.rank for room in rooms)
        if worst == 0:
            break
        del rooms[max(index for index, room in enumerate(rooms) if room.column.rank == worst)]
    spare = 0 if wide else max(width - _needed(rooms), 0)
    for room in rooms:                      # what was cut to the maximum gets what is left
        more = min(room.natural - room.width, spare)
        if more > 0:
            room.width += more
            spare -= more
    return [Laid(room.column, room.width) for room in rooms]


def _needed(rooms: Sequence[_Room]) -> int:
    return sum(room.width for room in rooms) + GAP * (len(rooms) - 1)


def _narrow(rooms: Sequence[_Room], missing: int) -> bool:
    """Take from the texts, the widest first. False: there is not that much to take."""
    spare = {index: room.width - WIDTH_MIN[room.column.kind] for index, room in enumerate(rooms)
             if room.column.kind in WIDTH_MIN and room.width > WIDTH_MIN[room.column.kind]}
    if sum(spare.values()) < missing:
        return False
    for _ in range(missing):
        widest = max((index for index, cells in spare.items() if cells), key=lambda index: rooms[index].width)
        rooms[widest].width -= 1
        spare[widest] -= 1
    return True


def row_pieces(laid: Sequence[Laid], row: Mapping[str, Any], now_ms: float) -> list[Piece]:
    pieces: list[Piece] = []
    for index, (column, width) in enumerate(laid):
        text, role = cell(column, row, now_ms)
        pieces.append((fit(text, width, right=column.right) + gap_behind(index, laid), role))
    return pieces


def gap_behind(index: int, laid: Sequence[Laid]) -> str:
    return " " * GAP if index + 1 < len(laid) else ""


def natural_widths(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], now_ms: float,
                   before: Sequence[int] = ()) -> list[int]:
    """Cells that titles and values take; never less than before, so that nothing jumps."""
    found = list(before) or [width_of(column.title) + 1 for column in columns]
    for row in rows:
        for index, column in enumerate(columns):
            found[index] = max(found[index], width_of(cell(column, row, now_ms)[0]))
    return found
