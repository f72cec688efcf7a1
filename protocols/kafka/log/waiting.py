"""Waiting for the next commit in any of some partitions."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.runtime.call import Call
from protocols.kafka.runtime.tasks import Later
from routing.replicas.feed import Feed

if TYPE_CHECKING:
    from routing.log.partition import Partition


async def wait_for_more(call: Call, partitions: list[Partition], seconds: float) -> None:
    """Until something is committed in one of them, at most so long."""
    later: Later[None] = Later()
    router = call.broker.router
    feeds = [
        Feed(router, partition, partition.end_offset, _wants, lambda: later.set(None)) for partition in partitions]
    timer = call.call_at(router.clock_s() + seconds, lambda: later.set(None))
    try:
        await later
    finally:
        call.broker.timers.cancel(timer)
        for feed in feeds:
            feed.close()


def _wants(topic: str) -> bool:
    return True
