"""Tables as JSON, CSV (RFC 4180) or NDJSON, chosen by Accept or ?format=. Pure: it may run in a thread."""
from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mesh.management.paging.table import Page, QueryError, Row

JSON: Final = "application/json"
CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"
NAMES: Final = {"json": JSON, "csv": CSV, "ndjson": NDJSON}
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")     # a spreadsheet would run such a text


def choose_format(accept: list[str], asked: str = "") -> str:
    """accept: members of the field; without one of ours: JSON.  asked: ?format=, wins. Raises QueryError."""
    if asked:
        if asked not in NAMES:
            raise QueryError("format is json, csv or ndjson")
        return NAMES[asked]
    best, best_weight = JSON, 0.0
    for part in accept:
        kind, _, options = part.strip().partition(";")
        weight = _weight(options)
        if kind.strip().lower() in (JSON, CSV, NDJSON) and weight > best_weight:
            best, best_weight = kind.strip().lower(), weight
    return best


def _weight(options: str) -> float:
    for option in options.split(";"):
        name, _, value = option.strip().partition("=")
        if name == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def encode_page(name: str, page: Page, extra: Mapping[str, Any], content_type: str) -> bytes:
    """JSON: {name: rows, "total", "matched", "next", …}. CSV and NDJSON: the rows alone."""
    if content_type == CSV:
        return csv_of(page.rows)
    if content_type == NDJSON:
        return b"".join(msgspec.json.encode(row, enc_hook=str) + b"\n" for row in page.rows)
    body = {name: page.rows, "total": page.total, "matched": page.matched, "next": page.next or None, **extra}
    return msgspec.json.encode(body, enc_hook=str)


def csv_of(rows: list[Row]) -> bytes:
    """A header line and a line per row; what is inside of a column gets a dotted name."""
    flat = [dict(_flat("", row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in flat)
    return text.getvalue().encode()


def _flat(prefix: str, row: Row) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _flat(f"{prefix}{name}.", value)
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        plain = all(isinstance(item, str) for item in value)
        value = " ".join(value) if plain else msgspec.json.encode(value, enc_hook=str).decode()
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
