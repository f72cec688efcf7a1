"""Counters of the HTTP listener: plain ints, added to on the loop, read by mesh/management through snapshot()."""
from __future__ import annotations

from collections import Counter


class RestCounters:
    """snapshot() gives name → number; names with a "." in them are a counter and its label."""

    __slots__ = (
        "answers", "connections", "connections_opened", "connections_refused", "events_in", "events_out",
        "events_pulled", "gaps", "head_timeouts", "malformed", "payload_bytes_in", "payload_bytes_out", "problems",
        "pulls", "replies", "replies_late", "sse_readers", "sse_readers_opened", "sse_stalled",
    )

    def __init__(self) -> None:
        self.answers = [0] * 6                      # by status class; index 2 = 2xx
        self.problems: Counter[str] = Counter()     # refused requests by problem type
        self.connections = 0
        self.connections_opened = 0
        self.connections_refused = 0                # above connections_max
        self.malformed = 0                          # heads and chunks that break HTTP's grammar or its bounds
        self.head_timeouts = 0
        self.events_in = 0                          # accepted by the router
        self.payload_bytes_in = 0
        self.events_out = 0                         # written to SSE readers
        self.payload_bytes_out = 0
        self.pulls = 0                              # answered, also those without events
        self.events_pulled = 0
        self.replies = 0                            # requests that were answered
        self.replies_late = 0                       # and those whose answer did not come in time
        self.sse_readers = 0                        # open now
        self.sse_readers_opened = 0
        self.sse_stalled = 0                        # disconnected because they took nothing
        self.gaps = 0                               # readers told that retention took events they had not seen

    def snapshot(self) -> dict[str, int]:
        numbers = {
            name: getattr(self, name) for name in self.__slots__ if name not in ("answers", "problems")
        }
        numbers.update({f"answers.{status}xx": self.answers[status] for status in range(1, 6)})
        numbers.update({f"problems.{kind}": count for kind, count in self.problems.items()})
        return numbers
