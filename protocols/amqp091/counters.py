"""Plain counters of the AMQP 0-9-1 server. Folded in once per batch; the metrics read them."""
from __future__ import annotations

from collections import Counter


class Counters:
    """Totals since the start."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "channel_errors",
        "connection_errors",
        "connections_opened",
        "delivered",
        "dropped",
        "gets",
        "published",
        "returned",
    )

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_opened = 0
        self.published = 0                              # messages that came
        self.delivered = 0                              # messages that went, those of basic.get included
        self.returned = 0                               # mandatory ones that nobody wanted
        self.gets = 0
        self.connection_errors: Counter[int] = Counter()        # connections that we closed, by reply code
        self.channel_errors: Counter[int] = Counter()
        self.dropped: Counter[str] = Counter()

    def snapshot(self) -> dict[str, int]:
        values = {name: getattr(self, name) for name in (
            "bytes_in", "bytes_out", "connections_opened", "published", "delivered", "returned", "gets")}
        for name, codes in (("closed", self.connection_errors), ("channel_closed", self.channel_errors)):
            values.update({f"{name}.{code}": count for code, count in codes.items()})
        values.update({f"dropped.{reason}": count for reason, count in self.dropped.items()})
        return values
