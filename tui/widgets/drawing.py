"""The mesh in characters: sites as boxes with their nodes, links as brackets beside them, each in its own lane. Pure.

    ┌ aws-eu ────────────────┐
    │ ○ cloud-eu  this node  ├─┬─┐
    └────────────────────────┘ │ ┊
    ┌ works-graz ────────────┐ │ ┊
    │ ○ plant-graz           ├─╯ ┊   ⇄ cloud-eu  ○ up  2.9 ms  6.0 KiB/s
    └────────────────────────┘   ┊
    ┌ works-lyon ────────────┐   ┊
    │ △ plant-lyon           ├┈┈┈╯   ⇄ cloud-eu  ⊠ blocked  2 m 10 s

Lines: │ up, ┆ held back, ┊ blocked, ╎ down, ‖ paused. Order is fixed (site, name), so nothing jumps. Where there is no
room for every node, a site is one line with a mark for each of its nodes, and links between sites are joined: the worst
state wins. Where there is no room for every lane, those that are well are counted and not drawn.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tui.text import clean, cut, fit, width_of
from tui.widgets.line import ACCENT, BLANK, DIM, GOOD, KEY, STATES, TEXT, TITLE, WARN, Line, Piece, state_piece

BOX_MAX = 40
LANE = 2
LABEL_MIN = 24                  # cells that a label wants
WORST = ("down", "blocked", "throttled", "paused", "unknown", "up")
UPRIGHT = {"up": "│", "throttled": "┆", "blocked": "┊", "down": "╎", "paused": "‖", "unknown": "╎"}
LEVEL = {"up": "─", "throttled": "┄", "blocked": "┈", "down": "╌", "paused": "═", "unknown": "╌"}
NODE_MARKS = {"well": ("○", GOOD), "warning": ("△", WARN), "unreachable": ("◌", DIM)}


@dataclass(frozen=True)
class Spot:
    """A node.  state: well, warning or unreachable.  note: beside its name."""

    name: str
    site: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class Edge:
    """A link between two nodes.  note: round trip, rate, delay."""

    left: str
    right: str
    state: str
    note: str = ""


@dataclass
class _Row:
    """One line of a box."""

    key: str
    site: str
    pieces: list[Piece]
    nodes: tuple[str, ...]
    y: int = 0
    labels: list[Edge] = field(default_factory=list)


def worse(one: str, other: str) -> str:
    order = {state: index for index, state in enumerate(WORST)}
    return min(one, other, key=lambda state: order.get(state, len(WORST)))


def draw(spots: Sequence[Spot], edges: Sequence[Edge], width: int, height: int, selected: str = "") -> list[Line]:
    """selected: the node, or the site, under the cursor."""
    sites = {spot.site for spot in spots}
    folded = len(spots) + 2 * len(sites) > height and len(sites) < len(spots)
    rows = _folded(spots) if folded else [_node_row(spot) for spot in _ordered(spots)]
    if folded:
        edges = _joined(edges, {name: row.key for row in rows for name in row.nodes})
    return _Picture(rows, edges, width, selected).lines()


def keys(spots: Sequence[Spot], height: int) -> list[str]:
    """What the cursor can be on, in order: names of nodes, or of sites where they are folded."""
    sites = sorted({spot.site for spot in spots})
    if len(spots) + 2 * len(sites) > height and len(sites) < len(spots):
        return sites
    return [spot.name for spot in _ordered(spots)]


def _ordered(spots: Sequence[Spot]) -> list[Spot]:
    return sorted(spots, key=lambda spot: (spot.site, spot.name))


def _node_row(spot: Spot) -> _Row:
    mark, role = NODE_MARKS[spot.state]
    note = f"  {spot.note}" if spot.note else ""
    return _Row(spot.name, spot.site, [(f"{mark} ", role), (clean(spot.name), TITLE), (note, DIM)], (spot.name,))


def _folded(spots: Sequence[Spot]) -> list[_Row]:
    found: dict[str, list[Spot]] = {}
    for spot in _ordered(spots):
        found.setdefault(spot.site, []).append(spot)
    rows = []
    for site, members in found.items():
        pieces: list[Piece] = [(f"{len(members)} ", TITLE)]
        pieces += [NODE_MARKS[spot.state] for spot in members]
        rows.append(_Row(site, site, pieces, tuple(spot.name for spot in members)))
    return rows


def _joined(edges: Sequence[Edge], site_of: dict[str, str]) -> list[Edge]:
    """Links between sites as one each; links inside of a site are in its marks already."""
    found: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        left, right = sorted((site_of.get(edge.left, ""), site_of.get(edge.right, "")))
        if left and right and left != right:
            found.setdefault((left, right), []).append(edge)
    joined = []
    for (left, right), members in sorted(found.items()):
        state = members[0].state
        for edge in members:
            state = worse(state, edge.state)
        bad = sum(edge.state == state for edge in members)
        note = f"{bad}/{len(members)}" if state != "up" else f"{len(members)} links" if len(members) > 1 else ""
        joined.append(Edge(left, right, state, note))
    return joined


class _Picture:
    """Boxes at the left, lanes in the middle, labels at the right."""

    def __init__(self, rows: list[_Row], edges: Sequence[Edge], width: int, selected: str) -> None:
        self._rows = rows
        self._selected = selected
        self._width = width
        inner = max((sum(width_of(text) for text, _ in row.pieces) for row in rows), default=0)
        titles = max((width_of(row.site) + 2 for row in rows), default=0)
        self._inner = min(max(inner, titles, 12), BOX_MAX, max(width - 6, 8))
        self._place()
        at = {row.key: row for row in rows}
        known = [edge for edge in edges if edge.left in at and edge.right in at and edge.left != edge.right]
        self._lanes, self._left_out = self._lay(known, at)
        for edge in known:
            upper, lower = sorted((at[edge.left], at[edge.right]), key=lambda row: row.y)
            owner = upper if len(upper.labels) < len(lower.labels) else lower
            owner.labels.append(edge)

    def _place(self) -> None:
        y, site = 0, None
        for row in self._rows:
            if row.site != site:
                y += 1 if site is None else 2       # the end of a box, and the title of the next
                site = row.site
            row.y = y
            y += 1
        self._height = y + 1

    def _lay(self, edges: Sequence[Edge], at: dict[str, _Row]) -> tuple[list[tuple[int, Edge, int, int]], int]:
        """(lane, edge, upper y, lower y): short ones inside, no two in a lane that touch; and how many had no room."""
        spans = [(abs(at[edge.left].y - at[edge.right].y), WORST.index(edge.state) if edge.state in WORST else 0, edge)
                 for edge in edges]
        most = max((self._width - self._inner - 5 - LABEL_MIN) // LANE, 1)
        taken: list[list[tuple[int, int]]] = []
        laid: list[tuple[int, Edge, int, int]] = []
        left_out = 0
        well_last = sorted(spans, key=lambda span: (span[1] == WORST.index("up"), span[0]))
        order = sorted(spans, key=lambda span: span[0]) if len(spans) <= most else well_last
        for _, _, edge in order:
            upper, lower = sorted((at[edge.left].y, at[edge.right].y))
            lane = next((number for number, used in enumerate(taken)
                         if all(lower < start or upper > end for start, end in used)), len(taken))
            if lane >= most:
                left_out += 1
                continue
            if lane == len(taken):
                taken.append([])
            taken[lane].append((upper, lower))
            laid.append((lane, edge, upper, lower))
        self._lane_count = len(taken)
        return laid, left_out

    def lines(self) -> list[Line]:
        gutter = self._gutter()
        lines: list[Line] = []
        site = None
        for row in self._rows:
            if row.site != site:
                if site is not None:
                    lines.append(self._edge_of_box("└", "", "┘", gutter, len(lines)))
                site = row.site
                lines.append(self._edge_of_box("┌", clean(site), "┐", gutter, len(lines)))
            lines.append(self._row_line(row, gutter))
        lines.append(self._edge_of_box("└", "", "┘", gutter, len(lines)))
        if self._left_out:
            lines += [BLANK, Line([(f"  {self._left_out} links more have no room; the matrix has them all.", DIM)])]
        return lines

    def _edge_of_box(self, left: str, title: str, right: str, gutter: list[list[Piece]], y: int) -> Line:
        title = f" {cut(title, self._inner - 2)} " if title else ""
        rest = "─" * (self._inner + 2 - width_of(title))
        return Line([(left, DIM), (title, ACCENT), (rest + right, DIM), *gutter[y]])

    def _row_line(self, row: _Row, gutter: list[list[Piece]]) -> Line:
        marked = row.key == self._selected
        pieces: list[Piece] = [("│", DIM), ("▸" if marked else " ", KEY)]
        left = self._inner + 1
        for text, role in row.pieces:
            text = cut(text, left)
            pieces.append((text, role))
            left -= width_of(text)
        touched = any(row.y in (upper, lower) for _, _, upper, lower in self._lanes)
        pieces += [(" " * left, TEXT), ("├" if touched else "│", DIM), *gutter[row.y]]
        for index, edge in enumerate(row.labels):
            other = edge.right if edge.left == row.key else edge.left
            pieces += [("  " if not index else "; ", DIM), (f"⇄ {clean(other)} ", TEXT), state_piece(edge.state)]
            if edge.note:
                pieces.append((f" {edge.note}", DIM))
        return Line(pieces, marked)

    def _gutter(self) -> list[list[Piece]]:
        """The cells of the lanes, line by line."""
        wide = self._lane_count * LANE
        cells = [[(" ", TEXT)] * wide for _ in range(self._height)]
        for lane, edge, upper, lower in self._lanes:
            x = lane * LANE + 1
            role = STATES.get(edge.state, DIM)
            for y in range(upper + 1, lower):
                cells[y][x] = (UPRIGHT.get(edge.state, "│"), role)
        ends: dict[int, list[tuple[int, Edge, bool]]] = {}
        for lane, edge, upper, lower in self._lanes:
            ends.setdefault(upper, []).append((lane, edge, True))
            ends.setdefault(lower, []).append((lane, edge, False))
        for y, found in ends.items():
            self._level(cells[y], sorted(found, key=lambda end: end[0]))
        return [_merged(row) for row in cells]

    def _level(self, cells: list[Piece], ends: list[tuple[int, Edge, bool]]) -> None:
        """The way from a box to the lanes that begin or end in its line, over those that pass by."""
        stops = {lane * LANE + 1: (edge, down) for lane, edge, down in ends}
        last = max(stops)
        for x in range(last + 1):
            edge, down = stops[min(stop for stop in stops if stop >= x)]
            role = STATES.get(edge.state, DIM)
            if x == last:
                cells[x] = ("╮" if down else "╯", role)
            elif x in stops:
                cells[x] = ("┬" if down else "┴", role)
            elif cells[x][0] == " ":
                cells[x] = (LEVEL.get(edge.state, "─"), role)
            else:
                cells[x] = ("┼", cells[x][1])


def _merged(cells: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one role as one piece."""
    found: list[Piece] = []
    for text, role in cells:
        if found and found[-1][1] == role:
            found[-1] = (found[-1][0] + text, role)
        else:
            found.append((text, role))
    return found


def matrix(names: Sequence[str], states: dict[tuple[str, str], str], width: int) -> list[Line]:
    """Sender × receiver: what the sender says of the link."""
    room = max(min(max((width_of(clean(name)) for name in names), default=4), 24), 16)
    most = max((width - room - 8) // 3, 1)
    lines = [Line([(f"  {'sender ↓ receiver →':<{room + 4}}", DIM),
                   *((f"{index:>3}", DIM) for index in range(1, min(len(names), most) + 1))])]
    for row, sender in enumerate(names, 1):
        pieces: list[Piece] = [(f"  {row:>3} ", DIM), (fit(clean(sender), room), TEXT)]
        for receiver in names[:most]:
            state = states.get((sender, receiver), "")
            mark, role = state_piece(state) if state else ("·", DIM)
            pieces.append((f"  {mark[0]}", role))
        lines.append(Line(pieces))
    if len(names) > most:
        lines.append(Line([(f"  {len(names) - most} receivers more have no room here", DIM)]))
    return lines
