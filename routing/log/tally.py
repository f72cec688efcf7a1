"""Tally: how often each topic stands in a piece of the log. Made by reader.py, one step of a count."""
from __future__ import annotations

import msgspec


class Tally(msgspec.Struct, frozen=True):
    """counts: topic → events. next_offset: where the next piece begins. scanned: what it cost, in looked-at events."""

    counts: dict[str, int]
    next_offset: int
    scanned: int
