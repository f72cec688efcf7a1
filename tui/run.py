"""Runs the dashboard in this terminal."""
from __future__ import annotations

import os

from tui.api.target import Target

PERIOD_S, PERIOD_SSH_S, PERIOD_SLOW_S = 1.0, 2.0, 5.0


def period_of(*, slow: bool) -> float:
    """Seconds between two looks at the node: less often over ssh, where each byte travels."""
    if slow:
        return PERIOD_SLOW_S
    return PERIOD_SSH_S if os.environ.get("SSH_CONNECTION") else PERIOD_S


def run(target: Target, *, readonly: bool, slow: bool, theme: str, first: str = "pulse") -> int:
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from tui.app import Dashboard

    app = Dashboard(target, period_s=period_of(slow=slow), readonly=readonly, theme=theme, first=first)
    app.run()
    return app.return_code or 0
