"""Wait for a condition with a deadline, instead of sleeping and hoping."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
DEADLINE_S = 60.0           # generous: the machine is shared with other work, and waiting costs nothing when it passes


def wait_until(condition: Callable[[], Value], what: str, *, deadline_s: float = DEADLINE_S,
               pause_s: float = 0.02, also: Callable[[], str] = lambda: "") -> Value:
    """Call condition until it returns something true, and return that. also() is added to the failure's text."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s} s: {what} (last value: {value!r}) {also()}")
        time.sleep(pause_s)
