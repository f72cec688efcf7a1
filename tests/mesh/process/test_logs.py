"""mesh/process/logs.py: one line per record, whatever a peer puts into it, and not too many of them."""
from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mesh.process.logs import LINES_MAX, WINDOW_S, Throttle, set_up_logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level, raising = logger.handlers[:], logger.level, logging.raiseExceptions
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.raiseExceptions = raising


def test_a_peer_cannot_forge_a_line_or_drive_a_terminal(root: logging.Logger) -> None:
    out = io.StringIO()
    set_up_logs("text", "info", out)
    logging.getLogger("protocols.mqtt").warning("client %s left", "x\n2026 ERROR forged\x1b[2J")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue() and r"x\n2026 ERROR forged\x1b[2J" in out.getvalue()


def test_json_lines_have_time_level_logger_message_and_trace(root: logging.Logger) -> None:
    out = io.StringIO()
    set_up_logs("json", "info", out)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("mesh.node").exception("it broke: %s", "ü\n")
    entry = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "mesh.node", "it broke: ü\n")
    assert "ValueError: boom" in entry["trace"]


def test_lines_of_one_template_are_bounded_and_what_was_left_out_is_counted() -> None:
    throttle = Throttle()

    def passes(created: float, message: str = "bad packet from %s") -> logging.LogRecord | None:
        record = logging.LogRecord("protocols.mqtt", logging.WARNING, "", 0, message, ("x",), None)
        record.created = created
        return record if throttle.filter(record) else None

    assert sum(passes(100.0 + number / 1000) is not None for number in range(1_000)) == LINES_MAX
    assert passes(100.5, "another template %s") is not None
    after = passes(100.0 + WINDOW_S)
    assert after is not None and after.left_out == 1_000 - LINES_MAX  # type: ignore[attr-defined]
