"""How values look on a page: sizes, durations, times, counts. Pure; the filters of the templates."""
from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from markupsafe import Markup, escape

ZONE_DEFAULT = "UTC"


def zone_of(name: str) -> tzinfo:
    """A time zone by its name; UTC for one that there is not."""
    if name in ("", "UTC") or len(name) > 64 or name.startswith(("/", ".")):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def time_of(value: Any, zone: tzinfo) -> Markup:
    """A time in ms since the epoch, or an RFC 3339 text, as <time> in the zone."""
    if value in (None, "", 0):
        return Markup('<span class="none">–</span>')
    try:
        at = (datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, (int, float))
              else datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError, OSError):
        return escape(str(value))
    local = at.astimezone(zone)
    return Markup('<time datetime="{}">{}</time>').format(
        at.astimezone(UTC).isoformat(timespec="milliseconds"), local.strftime("%Y-%m-%d %H:%M:%S"))


def since_of(value: Any, now_ms: float) -> str:
    """How long ago a time in ms was: "2 m 10 s"."""
    if not isinstance(value, (int, float)) or not value:
        return "–"
    return duration((now_ms - value) / 1000)


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


def ms(value: Any) -> str:
    return f"{value:.1f} ms" if isinstance(value, (int, float)) else "–"


def skew(value: Any) -> str:
    return f"{value:+.0f} ms" if isinstance(value, (int, float)) else "–"


def words(value: Any) -> str:
    """A list with commas; anything else as it is."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def trend(value: Any) -> str:
    arrows = {"growing": "↗ growing", "shrinking": "↘ shrinking", "steady": "→ steady"}
    return arrows.get(value, value) if isinstance(value, str) else "–"


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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def spark(values: list[float], label: str, width: int = 120, height: int = 28) -> Markup:
    """A sparkline: an SVG polyline, drawn here, with its newest value as text for who does not see it."""
    if len(values) < 2:
        return Markup('<span class="none">no samples yet</span>')
    top = max(*values, 1e-9)
    step = (width - 4) / (len(values) - 1)
    points = " ".join(f"{2 + index * step:.1f},{height - 3 - (height - 6) * max(value, 0) / top:.1f}"
                      for index, value in enumerate(values))
    return Markup(
        '<svg class="spark" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}: now {now}, '
        'at most {top}"><polyline points="{points}"/></svg>').format(
            w=width, h=height, label=label, now=number(values[-1]), top=number(top), points=points)


def chart(history: dict[str, Any], label: str, width: int = 640, height: int = 160) -> Markup:
    """A history as an SVG line with its bounds; gaps stay gaps."""
    values: list[float | None] = history.get("values", [])
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Markup('<p class="none">no samples yet</p>')
    top = max(*known, 1e-9)
    step = (width - 70) / max(len(values) - 1, 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append(f"{60 + index * step:.1f},{height - 20 - (height - 34) * max(value, 0) / top:.1f}")
    lines = Markup("").join(Markup('<polyline points="{}"/>').format(" ".join(run)) for run in runs if len(run) > 1)
    seconds = len(values) * history.get("step_ms", 1000) / 1000
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}: now {now}, at most {top}">'
        '<line class="axis" x1="60" y1="{base}" x2="{right}" y2="{base}"/>'
        '<text x="54" y="{base}" text-anchor="end">0</text>'
        '<text x="54" y="18" text-anchor="end">{top}</text><text x="60" y="{foot}">{span} ago</text>'
        '<text x="{right}" y="{foot}" text-anchor="end">now</text>{lines}</svg>').format(
            w=width, h=height, label=label, now=number(known[-1]), top=number(top), base=height - 20, right=width - 10,
            foot=height - 4, span=duration(seconds), lines=lines)
