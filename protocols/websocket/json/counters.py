"""What /v1/ws counts. Plain ints, read through snapshot()."""
from __future__ import annotations

from collections import Counter

from protocols.websocket.channel import WebSocketCounters


class JsonCounters(WebSocketCounters):
    """The connections and what they said and were told."""

    __slots__ = ("events_in", "events_out", "messages_in", "payload_bytes_out", "problems", "silent", "stalled")

    def __init__(self) -> None:
        super().__init__()
        self.messages_in = 0
        self.events_in = 0                          # published
        self.events_out = 0
        self.payload_bytes_out = 0
        self.stalled = 0                            # disconnected because they took nothing
        self.silent = 0                             # disconnected because they answered no ping
        self.problems: Counter[str] = Counter()     # last segment of the problem type

    def snapshot(self) -> dict[str, int]:
        numbers = super().snapshot()
        for name in ("messages_in", "events_in", "events_out", "payload_bytes_out", "stalled", "silent"):
            numbers[name] = getattr(self, name)
        numbers.update({f"problems.{problem}": count for problem, count in self.problems.items()})
        return numbers
