"""Print the rows and the targets as text tables. Called by __main__.py."""
from __future__ import annotations

import math

from bench.table import TARGETS, Figures, Results, Row


def number(value: float) -> str:
    if math.isnan(value):
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    out = []
    for line in [head, *lines]:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        out.append("  " + "  ".join(cells).rstrip())
    return "\n".join(out)


def ratio(row: Row, name: str, brokers: dict[str, Figures]) -> str:
    """How many times better than the best peer (for a peer: than the best of the other peers)."""
    others = [figures[row.main] for other, figures in brokers.items()
              if other not in (name, "meshgate") and row.main in figures]
    own = brokers[name].get(row.main)
    if own is None or not others:
        return ""
    best = max(others) if row.higher else min(others)
    better = (own / best if row.higher else best / own) if own and best else float("nan")
    return f"{better:.2f}×" if not math.isnan(better) else "–"


def row_text(row: Row, brokers: dict[str, Figures], failures: dict[str, str]) -> str:
    """One row: a line per broker. ratio > 1 is better than the best peer."""
    head = ["broker", *(title for _, title in row.columns), f"ratio ({dict(row.columns)[row.main]})"]
    lines = [[name, *(number(figures.get(key, float("nan"))) for key, _ in row.columns), ratio(row, name, brokers)]
             for name, figures in brokers.items()]
    text = f"{row.title}   [{row.name}]\n{_table(head, lines)}" if lines else f"{row.title}   [{row.name}]"
    return "\n".join([text, *(f"  {name}: failed: {why}" for name, why in failures.items())])


def targets_text(results: Results) -> tuple[str, int]:
    """The table of targets and how many are not met."""
    lines, missed = [], 0
    for target in TARGETS:
        if target.row not in results:
            continue
        value = target.value(results)
        if value is None:
            lines.append([target.row, target.text, "–", "not measured"])
            continue
        met = target.met(value)
        missed += not met
        lines.append([target.row, target.text, number(value), "met" if met else "NOT MET"])
    return _table(["row", "target", "value", ""], lines), missed
