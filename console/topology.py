"""The mesh as a drawing: sites as columns, nodes in them, links as curves. Server-drawn SVG; pure.

    up to FOLD_ABOVE nodes   one box per node, one column per site, in a fixed order (site, name): nothing jumps; as
                             many columns beside each other as fit, the others below
    above                    one box per site with a strip of squares; links between sites joined, the worst state wins

State is shape, word and colour. Boxes are as wide as their longest label, so that no two labels can overlap; a test
measures them. Every node is a link that can be focused, and the drawing has a table beside it that says the same.
"""
from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

FOLD_ABOVE: Final = 40
CHARACTER: Final = 7.4          # width of one at 13 px of the system font, with room
BOX_HEIGHT: Final = 46
ROW: Final = 74
GAP: Final = 150                # between columns: room for curves and their pills
TOP: Final = 44                 # names of sites
MARGIN: Final = 20
FITS: Final = 940               # of all columns with their gaps, in a window of 1280 pixels with room for bows behind
LANE: Final = 22                # between lines below the boxes
ROWS_MAX: Final = 8             # nodes of a site above each other; then a second column of it
WORST: Final = ("down", "blocked", "throttled", "paused", "up")
SQUARES_PER_ROW: Final = 12
PILL_HEIGHT: Final = 18
PILL_ROOM: Final = PILL_HEIGHT / 2 + 2      # from its middle to what stands above or below it


class Box:
    """A node, or a site that is folded."""

    def __init__(self, key: str, label: str, below: str, state: str, url: str) -> None:
        self.key = key
        self.label = label
        self.below = below
        self.state = state                      # well, warning, down, unreachable
        self.url = url
        self.squares: list[str] = []
        self.x = self.y = 0.0
        self.width = 0.0
        self.height = float(BOX_HEIGHT)


class Edge:
    """Both directions of the links between two boxes."""

    def __init__(self, left: str, right: str) -> None:
        self.left = left
        self.right = right
        self.states: list[str] = []
        self.bytes_s = 0.0
        self.backlog_s: float | None = None
        self.rtt_ms: float | None = None
        self.url = ""

    @property
    def state(self) -> str:
        return min(self.states, key=WORST.index, default="down")


def worst(states: list[str]) -> str:
    return min(states, key=lambda state: WORST.index(state) if state in WORST else 0, default="down")


def boxes_and_edges(nodes: list[dict[str, Any]], links: list[dict[str, Any]], own: str) -> tuple[list[Box], list[Edge]]:
    """nodes, links: rows of the tables of that name.  own: the node that is asked."""
    known = {str(row["name"]) for row in nodes}
    edges: dict[tuple[str, str], Edge] = {}

    def edge(one: str, other: str) -> Edge:
        key = (min(one, other), max(one, other))
        if key not in edges:
            edges[key] = Edge(*key)
        return edges[key]

    for row in nodes:
        if row.get("hops") is None:
            continue                            # what it last said of its links does not hold any more
        for link in row.get("links", ()):
            if link["node"] in known:
                edge(str(row["name"]), str(link["node"])).states.append(str(link["state"]))
    for row in links:
        other = str(row["node"] or row["name"])
        if other not in known:
            continue
        one = edge(own, other)
        one.states.append(str(row["state"]))
        one.bytes_s += float(row["sent"]["bytes_s"]) + float(row["received"]["bytes_s"])
        one.rtt_ms = row["rtt_ms"] if row["rtt_ms"] is not None else one.rtt_ms
        one.url = f"links/{quote(str(row['id']), safe='')}"
        seconds = row["backlog"]["seconds"]
        if seconds:
            one.backlog_s = max(one.backlog_s or 0.0, float(seconds))
    touched: dict[str, list[str]] = defaultdict(list)
    for one in edges.values():
        touched[one.left].append(one.state)
        touched[one.right].append(one.state)
    boxes = []
    for row in nodes:
        name = str(row["name"])
        state = "well"
        if row.get("hops") is None:
            state = "unreachable"
        elif worst(touched[name] or ["up"]) in ("down", "blocked"):
            state = "warning"
        below = "this node" if name == own else {
            "well": "well", "warning": "a link is not well", "unreachable": "unreachable"}[state]
        boxes.append(Box(name, name, below, state, f"nodes/{quote(name, safe='')}"))
    return boxes, list(edges.values())


def fold(boxes: list[Box], edges: list[Edge], sites: dict[str, str], unfolded: str) -> tuple[list[Box], list[Edge]]:
    """One box per site but for the one that is unfolded."""
    members: dict[str, list[Box]] = defaultdict(list)
    for box in boxes:
        members[sites[box.key]].append(box)
    found: list[Box] = []
    place: dict[str, str] = {}
    for site, own in sorted(members.items()):
        if site == unfolded:
            found += own
            place.update((box.key, box.key) for box in own)
            continue
        bad = [box for box in own if box.state != "well"]
        state = "unreachable" if len(bad) == len(own) and all(box.state == "unreachable" for box in own) else \
            "warning" if bad else "well"
        count = f"{len(own)} nodes" if len(own) != 1 else "1 node"
        below = f"{count}, {len(bad)} not well" if bad else f"{count}, all well"
        folded = Box(f"site {site}", site, below, state, f"topology?site={quote(site, safe='')}")
        folded.squares = [box.state for box in own]
        found.append(folded)
        place.update((box.key, folded.key) for box in own)
    joined: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        one, other = place[edge.left], place[edge.right]
        if one == other:
            continue
        key = (min(one, other), max(one, other))
        into = joined.setdefault(key, Edge(*key))
        into.states += edge.states
        into.bytes_s += edge.bytes_s
        into.url = edge.url or into.url
        if edge.backlog_s:
            into.backlog_s = max(into.backlog_s or 0.0, edge.backlog_s)
    return found, list(joined.values())


def place(boxes: list[Box], column_of: dict[str, str]) -> tuple[float, float, list[tuple[str, float, float]]]:
    """Give every box its place. Returns width, height, and the columns' titles with their left edge and line.

    As many columns beside each other as fit a window of 1280 pixels, the next ones below, in line with those above: so
    the gaps go through from top to bottom, and lines have their way in them.
    """
    columns: dict[str, list[Box]] = defaultdict(list)
    for box in boxes:
        columns[column_of[box.key]].append(box)
    parts: list[tuple[str, list[Box]]] = []             # title ("" where it goes on), boxes above each other
    for site in sorted(columns):
        own = sorted(columns[site], key=lambda box: box.key)
        parts += [("" if start else site, own[start:start + ROWS_MAX]) for start in range(0, len(own), ROWS_MAX)]
    wides = [_wide(title, part) for title, part in parts]
    most = int((FITS + GAP) / (min(wides) + GAP)) + 1           # of hundreds of sites, more need not be tried
    across = next((count for count in range(min(len(parts), most), 1, -1)
                   if sum(_grid(wides, count)) + GAP * (count - 1) <= FITS), 1)
    grid = _grid(wides, across)
    lefts = [MARGIN + sum(grid[:index]) + GAP * index for index in range(len(grid))]
    top, height = float(TOP), 0.0
    titles: list[tuple[str, float, float]] = []
    for index, (title, part) in enumerate(parts):
        if index % across == 0:
            top += height
            height = 0.0
        x, y = lefts[index % across], top
        if title:
            titles.append((title, x, top - TOP + 24))
        width = _wide("", part)
        for box in part:
            rows = -(-len(box.squares) // SQUARES_PER_ROW)
            box.x, box.y, box.width = x, y, width
            box.height = BOX_HEIGHT + rows * 16.0
            y += ROW + rows * 16.0
        height = max(height, y - top + TOP)
    return max(lefts[-1] + grid[-1] + MARGIN, 320.0), top + height - TOP + MARGIN, titles


def _wide(title: str, part: list[Box]) -> float:
    """As wide as the longest label."""
    return max(90.0, CHARACTER * len(title), *(CHARACTER * max(len(box.label), len(box.below)) + 44 for box in part),
               *(16.0 * min(len(box.squares), SQUARES_PER_ROW) + 24 for box in part))


def _grid(wides: list[float], across: int) -> list[float]:
    """Widths of the columns when so many stand beside each other."""
    return [max(wides[index::across]) for index in range(min(across, len(wides)))]


def draw(nodes: list[dict[str, Any]], links: list[dict[str, Any]], own: str, *, base: str = "",
         unfolded: str = "") -> Markup:
    """The whole <svg>."""
    boxes, edges = boxes_and_edges(nodes, links, own)
    sites = {str(row["name"]): str(row["site"] or "no site") for row in nodes}
    column_of = dict(sites)
    if len(boxes) > FOLD_ABOVE:
        boxes, edges = fold(boxes, edges, sites, unfolded)
        names = sorted(box.key for box in boxes)
        across = max(1, math.ceil(math.sqrt(len(names))))
        column_of = {name: f"{names.index(name) % across}" for name in names}
    width, height, titles = place(boxes, column_of)
    lanes = _lanes(boxes, edges, height - MARGIN)
    height += LANE * len(lanes)
    if len(sites) > FOLD_ABOVE:
        titles = []
    at = {box.key: box for box in boxes}
    wires = [_wire(edge, at[edge.left], at[edge.right], lanes.get((edge.left, edge.right))) for edge in edges]
    wires = _apart(wires, boxes, height)
    width = max([width, *(wire.right + MARGIN for wire in wires)])
    parts = [Markup('<svg class="topology" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" '
                    'aria-label="{}">').format(width, height, width, height, summary(boxes, edges))]
    parts += [Markup('<text class="site" x="{:.0f}" y="{:.0f}">{}</text>').format(x, y, title)
              for title, x, y in titles]
    parts += [_edge(edge, wire, base) for edge, wire in zip(edges, wires)]
    parts += [_pill(edge, wire, base) for edge, wire in zip(edges, wires)]
    parts += [_box(box, base) for box in boxes]
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def summary(boxes: list[Box], edges: list[Edge]) -> str:
    bad = sum(edge.state in ("down", "blocked") for edge in edges)
    lost = sum(box.state == "unreachable" for box in boxes)
    return (f"Topology: {len(boxes)} boxes, {len(edges)} links, {bad} of them down or blocked, {lost} unreachable. "
            "The table below says the same.")


def _lanes(boxes: list[Box], edges: list[Edge], bottom: float) -> dict[tuple[str, str], float]:
    """A line below all boxes for each edge that would have to go through a column: y by (left, right)."""
    at = {box.key: box for box in boxes}
    columns = sorted({box.x for box in boxes})
    far = [edge for edge in edges
           if abs(columns.index(at[edge.left].x) - columns.index(at[edge.right].x)) > 1]
    far.sort(key=lambda edge: abs(at[edge.left].x - at[edge.right].x))
    return {(edge.left, edge.right): bottom + LANE * index for index, edge in enumerate(far)}


def _around(x1: float, y1: float, x2: float, y2: float, lane: float) -> str:
    """Out to the right, down in the gap, along the lane, up in the gap, and in from the left; round at the corners."""
    a, b, turn = x1 + 22, x2 - 22, 10
    return (f"M{x1:.0f} {y1:.0f}H{a - turn:.0f}Q{a:.0f} {y1:.0f} {a:.0f} {y1 + turn:.0f}V{lane - turn:.0f}"
            f"Q{a:.0f} {lane:.0f} {a + turn:.0f} {lane:.0f}H{b - turn:.0f}Q{b:.0f} {lane:.0f} {b:.0f} {lane - turn:.0f}"
            f"V{y2 + turn:.0f}Q{b:.0f} {y2:.0f} {b + turn:.0f} {y2:.0f}H{x2:.0f}")


class Wire(NamedTuple):
    """Where an edge goes: the path, and its pill (text "": none) by its left middle.  right: how far both reach."""

    path: str
    pill_x: float
    pill_y: float
    pill_width: float
    text: str
    right: float


def _wire(edge: Edge, left: Box, right: Box, lane: float | None) -> Wire:
    """From the nearer sides of two boxes. Its pill never stands on a box.  lane: y of the way below the boxes."""
    if left.x > right.x:
        left, right = right, left
    y1, y2 = left.y + left.height / 2, right.y + right.height / 2
    reach = 0.0
    if left.x == right.x:                       # same column: bow out to the right
        x1 = x2 = left.x + left.width
        bow = min(24 + abs(y2 - y1) / 6, GAP - 40)
        path = f"M{x1:.0f} {y1:.0f}C{x1 + bow:.0f} {y1:.0f} {x2 + bow:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        pill_x, pill_y = x1 + bow * 0.72, y1 + (y2 - y1) * 0.35
        reach = x1 + bow
    elif lane is not None:
        x1, x2 = left.x + left.width, right.x
        path = _around(x1, y1, x2, y2, lane)
        pill_x, pill_y = x1 + 34, lane
    else:
        x1, x2 = left.x + left.width, right.x
        middle = (x1 + x2) / 2
        path = f"M{x1:.0f} {y1:.0f}C{middle:.0f} {y1:.0f} {middle:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        pill_x, pill_y = x1 + GAP * 0.35, y1 + (y2 - y1) * 0.15
    text = {"down": "down", "blocked": "blocked", "paused": "‖ paused", "throttled": "held back"}.get(edge.state, "")
    if edge.backlog_s and edge.backlog_s >= 1:
        text = f"{text} {edge.backlog_s:.0f} s".strip()
    wide = CHARACTER * len(text) + 14 if text else 0.0
    return Wire(path, pill_x, pill_y, wide, text, max(reach, pill_x + wide if text else 0.0))


def _apart(wires: list[Wire], boxes: list[Box], height: float) -> list[Wire]:
    """No pill on another one or on a box: each goes up or down to the nearest free place beside its wire."""
    taken = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]
    found = []
    for wire in wires:
        if wire.text:
            right = wire.pill_x + wire.pill_width
            spans = [(top - PILL_ROOM, bottom + PILL_ROOM) for x1, top, x2, bottom in taken
                     if x1 < right and wire.pill_x < x2]
            places = [wire.pill_y, *(edge for span in spans for edge in span)]
            free = [y for y in places if TOP <= y <= height - PILL_ROOM
                    and not any(top < y < bottom for top, bottom in spans)]
            wire = wire._replace(pill_y=min(free, key=lambda y: abs(y - wire.pill_y), default=wire.pill_y))
            half = PILL_HEIGHT / 2
            taken.append((wire.pill_x, wire.pill_y - half, right, wire.pill_y + half))
        found.append(wire)
    return found


def _edge(edge: Edge, wire: Wire, base: str) -> Markup:
    state = edge.state
    weight = min(1 + 1.35 * math.log10(1 + edge.bytes_s / 100), 8)
    speed = min(int(math.log10(1 + edge.bytes_s / 100)), 4) if edge.bytes_s and state == "up" else 0
    title = f"{edge.left} – {edge.right}: {state}"
    inner = Markup('<title>{}</title><path class="wire" d="{}" stroke-width="{:.1f}"/>').format(
        title, wire.path, weight)
    classes = f"edge {state} flow{speed}"
    if edge.url:
        return Markup('<a class="{}" href="{}/{}" aria-label="{}">{}</a>').format(classes, base, edge.url, title, inner)
    return Markup('<g class="{}">{}</g>').format(classes, inner)


def _pill(edge: Edge, wire: Wire, base: str) -> Markup:
    """Above all wires. For who clicks on it; the wire is the link that is focused and read out."""
    if not wire.text:
        return Markup("")
    inner = Markup('<rect class="pill" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="18" rx="9"/>'
                   '<text class="pill-text" x="{:.0f}" y="{:.0f}">{}</text>').format(
                       wire.pill_x, wire.pill_y - PILL_HEIGHT / 2, wire.pill_width,
                       wire.pill_x + 7, wire.pill_y + 4, wire.text)
    if edge.url:
        return Markup('<a class="edge {}" href="{}/{}" tabindex="-1" aria-hidden="true">{}</a>').format(
            edge.state, base, edge.url, inner)
    return Markup('<g class="edge {}" aria-hidden="true">{}</g>').format(edge.state, inner)


SHAPES: Final = {
    "well": '<circle class="mark" cx="18" cy="23" r="7"/>',
    "warning": '<path class="mark" d="M18 14l9 16H9z"/>',
    "down": '<path class="mark" d="M10 15h16v16H10zM10 15l16 16M26 15L10 31"/>',
    "unreachable": '<circle class="mark" cx="18" cy="23" r="8" stroke-dasharray="2 3"/>',
}


def _box(box: Box, base: str) -> Markup:
    squares = Markup("").join(
        Markup('<rect class="square {}" x="{}" y="{}" width="12" height="12" rx="2"/>').format(
            state, 12 + index % SQUARES_PER_ROW * 16, BOX_HEIGHT - 2 + index // SQUARES_PER_ROW * 16)
        for index, state in enumerate(box.squares))
    return Markup(
        '<a class="box {state}" href="{base}/{url}" aria-label="{label}: {below}" '
        'transform="translate({x:.0f} {y:.0f})"><rect class="frame" width="{w:.0f}" height="{h:.0f}" rx="8"/>{shape}'
        '<text class="name" x="34" y="20">{label}</text><text class="below" x="34" y="36">{below}</text>'
        '{squares}</a>').format(
            state=box.state, base=base, url=box.url, label=box.label, below=box.below, x=box.x, y=box.y, w=box.width,
            h=box.height, shape=Markup(SHAPES[box.state]), squares=squares)


def matrix(nodes: list[dict[str, Any]]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Sender × receiver → what the sender says of the link, for the table beside the drawing."""
    names = sorted(str(row["name"]) for row in nodes)
    found = {name: dict.fromkeys(names, "") for name in names}
    for row in nodes:
        for link in row.get("links", ()):
            if link["node"] in found:
                state = str(link["state"]) if row.get("hops") is not None else "unknown"
                found[str(row["name"])][str(link["node"])] = state
    return names, found
