"""ConsumerSpec: what a consumer is, as whoever opens it says it."""
from __future__ import annotations

from typing import TypeAlias

import msgspec

from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import Push
from routing.queues.options import QueueOptions

# "latest", "earliest", an offset for every partition, {"time_ms": wall clock}, or [(stream, partition, offset), …]
# where a partition that is not named starts at its beginning
Start: TypeAlias = str | int | dict[str, int] | list[tuple[str, int, int]]


class ConsumerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a consumer is. start matters when it is created."""

    name: str
    filters: tuple[str, ...] = ()
    mode: Mode = Mode.EXCLUSIVE
    start: Start = "latest"
    streams: tuple[str, ...] = ()           # empty: every stream whose capture can hold what the filters want
    durable: bool = True
    max_in_flight: int = 1_000
    ack_timeout_s: float | None = None
    max_deliveries: int | None = None       # then to the dead-letter topic
    backoff_initial_s: float = 1.0
    backoff_max_s: float = 60.0
    dead_letter_topic: str | None = None    # None: "dead-letter/<name>"
    dead_letter_expired: bool = False       # what expires before it is delivered goes there, too, and not nowhere
    expires_s: float | None = None          # deleted when nobody was attached for so long
    push: Push | None = None                # a webhook; see routing/consumers/definition/push.py
    queue: QueueOptions | None = None       # it is a queue: made by routing/queues, with bindings instead of filters
    partitions: tuple[int, ...] = ()        # of these streams only those; empty: all that there are

    @property
    def is_owed(self) -> bool:
        """What it has not settled outlives the retention of a stream."""
        return self.queue is not None
