"""Plain counters of the AMQP 1.0 server. The metrics read them."""
from __future__ import annotations

from collections import Counter


class Counters:
    """Totals since the start. "closed.amqp:not-found": the counter closed with the label amqp:not-found."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Counter[str] = Counter(dict.fromkeys(
            ("bytes_in", "bytes_out", "connections_opened", "received", "delivered", "rejected", "logins_refused"), 0))

    def snapshot(self) -> dict[str, int]:
        return dict(self.values)
