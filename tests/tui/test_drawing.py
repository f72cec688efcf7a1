"""Columns that fit, and the mesh in characters."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.show import spark
from tui.views.mesh.links import Links
from tui.views.readers.consumers import Consumers
from tui.widgets.columns import GAP, Column, lay_out, natural_widths, row_pieces
from tui.widgets.digits import digits
from tui.widgets.drawing import Edge, Spot, draw, keys, matrix
from tui.widgets.line import trimmed

SPOTS = [Spot("cloud-eu", "aws-eu", "well", "this node"), Spot("plant-graz", "works-graz", "well"),
         Spot("plant-lyon", "works-lyon", "warning")]
EDGES = [Edge("cloud-eu", "plant-graz", "up", "2.9 ms"), Edge("cloud-eu", "plant-lyon", "blocked", "2 m 10 s wait")]


def test_three_sites_as_boxes_with_their_links() -> None:
    text = [line.plain.rstrip() for line in draw(SPOTS, EDGES, 80, 40, "plant-graz")]
    assert text == [
        "┌ aws-eu ───────────────┐",
        "│ ○ cloud-eu  this node ├─┬┈╮",
        "└───────────────────────┘ │ ┊",
        "┌ works-graz ───────────┐ │ ┊",
        "│▸○ plant-graz          ├─╯ ┊  ⇄ cloud-eu ○ up 2.9 ms",
        "└───────────────────────┘   ┊",
        "┌ works-lyon ───────────┐   ┊",
        "│ △ plant-lyon          ├┈┈┈╯  ⇄ cloud-eu ⊠ blocked 2 m 10 s wait",
        "└───────────────────────┘",
    ]


def test_many_nodes_fold_into_sites_and_the_worst_link_wins() -> None:
    spots = [Spot(f"n{site}-{number}", f"site-{site}", "well") for site in range(3) for number in range(10)]
    edges = [Edge("n0-0", "n1-0", "up"), Edge("n0-1", "n1-1", "blocked"), Edge("n0-0", "n0-1", "down")]
    text = [line.plain for line in draw(spots, edges, 80, 20)]
    assert keys(spots, 20) == ["site-0", "site-1", "site-2"]
    assert "10 ○○○○○○○○○○" in text[1] and any("⊠ blocked 1/2" in line for line in text)
    assert not any("down" in line for line in text), "links inside of a site are not drawn between sites"


def test_where_lanes_do_not_fit_the_broken_ones_are_drawn() -> None:
    spots = [Spot(f"n{number:02}", f"s{number:02}", "well") for number in range(30)]
    edges = [Edge(f"n{left:02}", f"n{right:02}", "down" if (left, right) == (3, 28) else "up")
             for left in range(30) for right in range(left + 1, 30)]
    text = [line.plain for line in draw(spots, edges, 80, 200)]
    assert any("links more have no room" in line for line in text)
    assert any("╎" in line for line in text), "the one that is down is drawn"


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.sampled_from(["up", "down", "paused", "x"])),
                max_size=40), st.integers(60, 160), st.integers(5, 60))
def test_any_mesh_is_drawn_inside_of_the_screen(pairs: list[tuple[int, int, str]], width: int, height: int) -> None:
    spots = [Spot(f"node-{number}", f"site-{number // 3}", "well", "日本") for number in range(12)]
    edges = [Edge(f"node-{left}", f"node-{right}", state) for left, right, state in pairs]
    for line in draw(spots, edges, width, height, "node-3"):
        assert cell_len(trimmed(line, width).plain) <= width


def test_the_matrix_says_who_says_what() -> None:
    lines = [line.plain for line in matrix(["a", "b"], {("a", "b"): "down", ("b", "a"): "up"}, 60)]
    assert lines[1].split() == ["1", "a", "·", "⊠"] and lines[2].split() == ["2", "b", "○", "·"]
    assert lines[0].index("1") == lines[1].index("·") and lines[0].index("2") == lines[1].index("⊠")


ROW = {"name": "x" * 70, "state": "behind", "lag_events": 1_234_567, "lag_seconds": 3_700.0, "trend": "growing",
       "forecast": "never at this rate; retention takes the first unread event in 6 d 23 h", "members": 3,
       "in_flight": 12, "redelivered": 5, "lag_state": "exact"}


@pytest.mark.parametrize("width", [40, 58, 78, 100, 118, 158, 300])
@pytest.mark.parametrize("columns", [Consumers.COLUMNS, Links.COLUMNS])
def test_rows_fit_and_what_matters_stays(width: int, columns: tuple[Column, ...]) -> None:
    laid = lay_out(columns, natural_widths(columns, [ROW], 0), width)
    assert len(laid) <= 9, "at most nine columns"
    used = sum(cells for _, cells in laid) + GAP * (len(laid) - 1)
    assert used <= width or [column.rank for column, _ in laid] == [0] * len(laid)
    assert {column.path for column in columns if column.rank == 0} <= {column.path for column, _ in laid}
    assert cell_len("".join(text for text, _ in row_pieces(laid, ROW, 0))) == used


def test_wide_shows_every_column() -> None:
    columns = Consumers.COLUMNS
    assert len(lay_out(columns, natural_widths(columns, [ROW], 0), 78, wide=True)) == len(columns)


def test_sparklines_and_digits() -> None:
    assert spark([0, 1, 2, None, 8], 6) == " ▁▂▃ █"
    assert spark([], 4) == "    " and spark([0.0, 0.0], 2) == "▁▁"
    assert all(len(set(map(len, digits(text)))) == 1 for text in ("1,234.5", "–", "0"))
