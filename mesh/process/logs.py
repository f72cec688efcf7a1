"""Log lines: text for people or one JSON object per line, and a bound on lines that a peer can cause.

    2026-01-31T12:00:00.123Z WARNING protocols.mqtt.connection: 10.0.0.7:50312 sent a malformed CONNECT

Every line goes through Throttle: of the same template of the same logger, LINES_MAX per WINDOW_S; the next line of
that template says how many were left out. So code that meets hostile input logs plainly and stays cheap.
"""
from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from typing import TextIO

LINES_MAX = 10
WINDOW_S = 10.0
TEMPLATES_MAX = 1_000
LINE_CHARACTERS_MAX = 8_192         # a traceback fits, a pasted packet does not


class Throttle(logging.Filter):
    """Lets LINES_MAX lines per template and window pass. Errors with a traceback count like the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: OrderedDict[tuple[str, object], tuple[float, int]] = OrderedDict()   # → (start, lines seen)

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.msg)
        start, seen = self._windows.get(key, (record.created, 0))
        left_out = 0
        if record.created - start >= WINDOW_S or record.created < start:
            left_out = max(0, seen - LINES_MAX)
            start, seen = record.created, 0
        self._windows[key] = (start, seen + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > TEMPLATES_MAX:
            self._windows.popitem(last=False)
        if left_out:
            record.left_out = left_out
        return seen < LINES_MAX


def _stamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def one_line(text: str) -> str:
    """Text that cannot break out of its line or drive a terminal: control characters become escapes."""
    if len(text) > LINE_CHARACTERS_MAX:
        text = text[:LINE_CHARACTERS_MAX] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "replace").decode() for char in text)


class TextFormatter(logging.Formatter):
    """One line per record; a traceback follows on lines of its own, indented."""

    def format(self, record: logging.LogRecord) -> str:
        left_out = getattr(record, "left_out", 0)
        line = f"{_stamp(record)} {record.levelname} {record.name}: {one_line(record.getMessage())}"
        if left_out:
            line += f" ({left_out} more like it were left out)"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {one_line(part)}" for part in trace.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """{"time", "level", "logger", "message", "trace"?, "left_out"?} per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, str | int] = {
            "time": _stamp(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage()[:LINE_CHARACTERS_MAX],
        }
        left_out = getattr(record, "left_out", 0)
        if left_out:
            entry["left_out"] = left_out
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)[:LINE_CHARACTERS_MAX]
        return json.dumps(entry, ensure_ascii=True)


def set_up_logs(form: str, level: str, stream: TextIO | None = None) -> None:
    """form: "text" or "json"; level: a name such as "info". Lines go to standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("asyncio", "aiohttp.access", "aiohttp.server"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.raiseExceptions = False         # a full pipe on standard error must not raise into the hot path
