"""Sizes and durations as people write them: "10GiB", "7d". Called by mesh/configuration before the settings are typed.

A size is an integer (bytes) or a text with a unit; KiB is 1,024 and KB is 1,000. A duration is a text with a unit.
No regular expressions: the text comes from a file, but the same functions read query parameters later.
"""
from __future__ import annotations

SIZE_UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}
DURATION_UNITS_MS = {
    "ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000,
}
VALUE_MAX = 2**62       # far above any disk or age, and still a signed 64-bit number


def parse_size(value: object) -> int:
    """Bytes from 1048576, "1048576" or "1MiB". Raises ValueError with what is expected."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _bounded(value)
    expected = f"expected a size such as 512KiB or 10GiB, got {value!r}"
    if not isinstance(value, str):
        raise ValueError(expected)
    return _bounded(round(_split(value, SIZE_UNITS, 1, expected)))


def parse_duration_ms(value: object) -> int:
    """Milliseconds from "250ms", "10s", "5m", "24h", "7d" or "2w". Raises ValueError with what is expected."""
    expected = f"expected a duration such as 10s, 24h or 7d, got {value!r}"
    if not isinstance(value, str):
        raise ValueError(expected)
    return _bounded(round(_split(value, DURATION_UNITS_MS, None, expected)))


def _split(text: str, units: dict[str, int], bare: int | None, expected: str) -> float:
    """Number times unit; bare is the factor of a number without a unit, None when it needs one."""
    text = text.strip()
    digits = len(text)
    while digits and not (text[digits - 1].isascii() and text[digits - 1].isdigit()):
        digits -= 1
    number, unit = text[:digits], text[digits:].strip()
    factor = units.get(unit) if unit else bare
    if factor is None or len(number) > 20 or not number.replace(".", "", 1).isdigit():
        raise ValueError(expected)
    return float(number) * factor if "." in number else int(number) * factor


def _bounded(value: int) -> int:
    if not 0 <= value <= VALUE_MAX:
        raise ValueError(f"{value} is out of range")
    return value


def exact_duration(milliseconds: int) -> str:
    """The duration as parse_duration_ms() reads it, in the largest unit that fits: "7d"."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % DURATION_UNITS_MS[unit] == 0:
            return f"{milliseconds // DURATION_UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms"


def format_size(size: float) -> str:
    """A short text for people: "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """A short text for people: "3d 4h"."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return " ".join(f"{number}{unit}" for number, unit in _parts(int(seconds)) if number) or "0s"


def short_duration(seconds: float) -> str:
    """The same with room, for sentences, rounded: "42 s", "2 m 10 s", "3 h", "9 d 4 h"."""
    parts = _parts(max(int(seconds + 0.5), 0))
    return " ".join(f"{number} {unit}" for index, (number, unit) in enumerate(parts) if number or not index)


def _parts(whole: int) -> list[tuple[int, str]]:
    """The largest unit that is there, and the one behind it."""
    parts = [(whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return parts[:2]
