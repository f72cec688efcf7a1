"""How values look: sizes, durations, times, counts. Pure. The same words as in the web console."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

BARS = " ▁▂▃▄▅▆▇█"


def duration(seconds: Any) -> str:
    """At most two units: "42 s", "2 m 10 s", "9 d 4 h"; below a second in ms."""
    if not isinstance(seconds, (int, float)):
        return "–"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = max(int(seconds + 0.5), 0)
    parts = [(whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for index, (number, unit) in enumerate(parts[:2]) if number or not index)


def size(value: Any) -> str:
    """Bytes: "1.5 GiB"."""
    if not isinstance(value, (int, float)):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def number(value: Any) -> str:
    """With thousands apart; "–" for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def time_of(value: Any) -> str:
    """A time in ms since the epoch or an RFC 3339 text, in UTC."""
    if value in (None, "", 0):
        return "–"
    try:
        at = (datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, (int, float))
              else datetime.fromisoformat(str(value)).astimezone(UTC))
    except (ValueError, OverflowError, OSError):
        return str(value)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def clock_of(value: Any) -> str:
    """The time of a day with thousandths."""
    try:
        at = datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError:
        return str(value)
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """A column, or what is inside of one: "backlog.seconds". None when there is no such thing."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def spark(values: Sequence[float | None], width: int) -> str:
    """The newest values as bars, the highest of them a full one; a gap stays a gap."""
    shown = list(values)[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    found = ""
    for value in shown:
        if value is None:
            found += " "
        elif value <= 0 or top <= 0:
            found += BARS[1] if value is not None else " "
        else:
            found += BARS[1 + min(round(value / top * 7), 7)]
    return found.rjust(width)


def flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """What is inside of a column gets a dotted name; lists of plain values stay together."""
    found: list[tuple[str, Any]] = []
    for name, value in row.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found += flat(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                found += flat(item, f"{path}[{index}].")
        else:
            found.append((path, value))
    return found


def plain(path: str, value: Any) -> str:
    """A value by the unit in the name of its column."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "–"
    if isinstance(value, (int, float)):
        last = path.rpartition(".")[2]
        if last.endswith("bytes") or last.endswith("bytes_s"):
            return size(value) + ("/s" if last.endswith("_s") else "")
        if last.endswith("seconds") or last in ("age_s", "uptime_s", "forecast_in_s", "retention_in_s", "keep_alive_s",
                                                "session_expiry_s"):
            return duration(value)
        if last in ("rtt_ms", "skew_ms"):
            return f"{value:,.1f} ms"
        if last == "retention_ms":
            return duration(value / 1000)
        if last.endswith("_ms"):
            return time_of(value)
        return number(value)
    return str(value)
