"""The lines above and below a screen: which node, who, live or not, the title; the keys that count here. Pure."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tui import show
from tui.feed import Health
from tui.text import clean
from tui.views.events.browse import Events
from tui.views.table import TableView
from tui.views.view import View
from tui.widgets.chrome import key_pieces
from tui.widgets.line import ACCENT, BAD, DIM, GOOD, KEY, NOTE, TITLE, WARN, Piece

Rows = Sequence[tuple[Sequence[Piece], Sequence[Piece]]]      # (left, right) of each line


def header_rows(view: View | None, health: Health, node: Mapping[str, Any], shown: str, who: str, live: Piece) -> Rows:
    """shown: what we know the node by until it has answered.  who: of the login."""
    where: list[Piece] = [(" meshgate ", ACCENT)]
    environment = str(node.get("environment") or "")
    if environment:
        where.append((f" {clean(environment)} ", KEY))
    if node:
        where += [(f" {clean(str(node['name']))}", TITLE), (f" {clean(str(node['site']))}", DIM)]
    else:
        where.append((f" {clean(shown)}", DIM))
    right: list[Piece] = [(f"{clean(who)}  ", DIM)] if who else []
    title: list[Piece] = [(f" {view.title if view is not None else ''}  ", TITLE)]
    if view is not None:
        title += view.headline()
    rows: list[tuple[Sequence[Piece], Sequence[Piece]]] = [(where, [*right, live]), (title, [])]
    if health.problem is not None:
        again = f"; again in {health.retry_in_s:.0f} s" if health.retry_s is not None else ""
        rows.append(([(f" ⊠ {clean(health.problem.text)}{again}", BAD)], []))
    return rows


def live_piece(view: View | None, health: Health, *, stale: bool, paused: bool) -> Piece:
    at = "" if health.fresh_s is None else f" {time.strftime('%H:%M:%S', time.gmtime(health.fresh_s))}"
    if stale:
        return (f"○ {show.duration(health.age_s)} old " if health.age_s is not None else "○ no answer yet ", BAD)
    if health.age_s is None:
        return ("◌ connecting ", WARN)
    if paused:
        return (f"‖ held, as at{at} ", NOTE)
    if view is not None and view.STILL:
        return (f"◦ as at{at} ", DIM)
    return (f"● live{at} ", GOOD)


def hint_rows(view: View | None, *, acts: bool, paused: bool) -> Rows:
    """acts: something can be done to what the cursor is on, and who sits here may do it."""
    keys = [(":", "go"), ("?", "keys")]
    if isinstance(view, TableView):
        keys += [("/", "find" if isinstance(view, Events) else "filter")]
        keys += [("z", "problems")] if view.TROUBLE else []
        keys += [] if isinstance(view, Events) else [("s", "sort")]
    if view is not None and view.topics():
        keys.append(("l", "tail"))
    if view is not None and view.event_id():
        keys.append(("j", "journey"))
    if acts:
        keys.append(("x", "acts"))
    keys += [("p", "go on" if paused else "hold"), ("esc", "back"), ("q", "quit")]
    return [(key_pieces(keys), [])]
