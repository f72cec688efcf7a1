"""What a terminal shows, as SVG: every screen of one size on a sheet, in light, dark and 16 colours at once.

A browser shows the sheet in the reader's own scheme. The three looks have the same text, so it stands there once, and
each run of characters has a class for its three styles. Nothing in it depends on fonts, ids or the moment.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from textual.strip import Strip

from tests.tui.fake import Terminal
from tui.widgets.chrome import Bar

CELL, LINE, GAP = 8, 18, 12         # pixels: a cell, a line, between two screens
LOOKS = ("light", "dark", "few")
CONSOLES = {"light": Console(color_system="truecolor"), "dark": Console(color_system="truecolor"),
            "few": Console(color_system="standard")}
Styles = tuple[str, ...]            # of the looks, each "ink paper bold reverse"


class Run(NamedTuple):
    """So many characters from a column on."""

    column: int
    text: str
    styles: Styles


async def taken(at: Terminal) -> list[list[Run]]:
    """The screen as it is, line by line. Colours take a moment, so it begins with those that it has."""
    looks = {}
    for look in LOOKS if at.app.theme == "meshgate-light" else reversed(LOOKS):
        theme = "meshgate-light" if look == "light" else "meshgate-dark"
        at.app.console = CONSOLES[look]
        if at.app.theme != theme:
            at.app.theme = theme
            await at.pilot.pause()
        for widget in (*at.app.views, *at.app.query(Bar)):
            widget.repaint(whole=True)
        looks[look] = [_cells(strip) for strip in at.app.screen._compositor.render_strips()]
    return [_runs(rows) for rows in zip(*(looks[look] for look in LOOKS))]


def _cells(strip: Strip) -> list[tuple[str, str]]:
    """(character, style)"""
    return [(char, _named(segment.style)) for segment in strip for char in segment.text]


def _named(style: Style | None) -> str:
    style = style or Style()
    ink, paper = (color.name if color is not None else "default" for color in (style.color, style.bgcolor))
    return " ".join([ink, paper, *(word for word in ("bold", "reverse", "dim") if getattr(style, word))])


def _runs(rows: Sequence[list[tuple[str, str]]]) -> list[Run]:
    texts = {"".join(char for char, _ in row) for row in rows}
    assert len(texts) == 1, f"a look has another text: {texts}"
    found, column = [], 0
    cells = zip(*([(char, style) for char, style in row] for row in rows))
    for styles, group in groupby(cells, lambda looks: tuple(style for _, style in looks)):
        text = "".join(looks[0][0] for looks in group)
        found.append(Run(column, text, styles))
        column += cell_len(text)
    return found


def sheet(size: tuple[int, int], screens: Mapping[str, list[list[Run]]]) -> str:
    """All screens below each other."""
    width, height = size
    classes: dict[Styles, str] = {}
    body: list[str] = []
    step = (height + 1) * LINE + GAP
    for number, (name, rows) in enumerate(screens.items()):
        body.append(f'<svg y="{number * step}" overflow="visible"><title>{escape(name)}</title>'
                    f'<text class="name" y="{LINE - 5}">{escape(name)}</text>')
        body.append(f'<rect class="paper" y="{LINE}" width="{width * CELL}" height="{height * LINE}"/>')
        for y, runs in enumerate(rows, 1):
            body += _line(y, runs, classes)
        body.append("</svg>")
    size_text = f'width="{width * CELL}" height="{len(screens) * step}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size_text}>'
    return "\n".join([head, "<style>", *_css(classes), "</style>", *body, "</svg>"]) + "\n"


def _line(y: int, runs: list[Run], classes: dict[Styles, str]) -> list[str]:
    while runs and not runs[-1].text.strip() and _is_plain(runs[-1]):
        runs = runs[:-1]
    spans, papers = [], []
    for run in runs:
        name = classes.setdefault(run.styles, f"s{len(classes)}")
        x, size = run.column * CELL, cell_len(run.text) * CELL
        if not _is_plain(run):
            papers.append(f'<rect class="{name}p" x="{x}" y="{y * LINE}" width="{size}" height="{LINE}"/>')
        if run.text.strip():
            spans.append(f'<tspan class="{name}" x="{x}" textLength="{size}">{escape(run.text)}</tspan>')
    text = [f'<text y="{(y + 1) * LINE - 5}">{"".join(spans)}</text>'] if spans else []
    return [*papers, *text]


GROUNDS = ("#ffffff", "#0f1419")


def _is_plain(run: Run) -> bool:
    """On the ground of the screen."""
    return all(style.split()[1] in (*GROUNDS, "default") and "reverse" not in style for style in run.styles[:2])


def _css(classes: Mapping[Styles, str]) -> list[str]:
    """16 colours are named beside the other two; a terminal has its own for them."""
    found = ["text{font:13px monospace;white-space:pre;fill:#1d2329}.name{font-weight:bold}",
             f".paper{{fill:{GROUNDS[0]};stroke:#888}}"]
    dark = [f"svg{{background:#000}}.name{{fill:#fff}}.paper{{fill:{GROUNDS[1]}}}"]
    for (light, night, few), name in classes.items():
        found.append(f"/* {few} */ {_rule(name, light)}")
        dark.append(_rule(name, night))
    return [*found, "@media (prefers-color-scheme: dark){", *dark, "}"]


def _rule(name: str, style: str) -> str:
    ink, paper, *words = style.split()
    if "reverse" in words:
        ink, paper = paper, ink
    bold = ";font-weight:bold" if "bold" in words else ""
    dim = ";opacity:.6" if "dim" in words else ""
    return f".{name}{{fill:{ink}{bold}{dim}}}.{name}p{{fill:{paper}}}"
