"""Delivery: one event on its way to a member."""
from __future__ import annotations

from typing import Any

import msgspec

from routing.event import Event


class Delivery(msgspec.Struct, gc=False):
    """One event handed to one member. attempts > 1 means that it may have been delivered before.

    is_bare: it waits to be delivered again, and its payload stands in the log only.
    """

    event: Event
    attempts: int = 1
    member: Any = None              # routing.consumers.consumer.Member
    deadline_s: float | None = None # monotonic; set when the consumer has an ack timeout
    is_bare: bool = False
