"""Waiting for the next commit in any of some partitions."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.runtime.call import Call
from protocols.kafka.runtime.tasks import Later

if TYPE_CHECKING:
    from routing.log.partition import Partition


async def wait_for_more(call: Call, partitions: list[Partition], seconds: float) -> None:
    """Until something is committed in one of them, at most so long."""
    later: Later[None] = Later()

    def wake() -> None:
        later.set(None)

    timer = call.call_at(call.broker.router.clock_s() + seconds, wake)
    for partition in partitions:
        partition.watchers[wake] = None
    try:
        await later
    finally:
        call.broker.timers.cancel(timer)
        for partition in partitions:
            partition.watchers.pop(wake, None)
