"""What the demo prints, and what it calls a failure."""
from __future__ import annotations

import sys

WAIT_S = 10.0
COLOURS = {"MQTT": 36, "REST": 33, "SSE": 32, "HOOK": 31, "LINK": 34, "NODE": 35, "AMQP": 96}


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def show(who: str, arrow: str, text: str) -> None:
    tag = f"\033[{COLOURS[who]}m{who:<4}\033[0m" if sys.stdout.isatty() else f"{who:<4}"
    print(f"  {tag} {arrow} {text}", flush=True)


class DemoError(Exception):
    """Something was not as promised."""
