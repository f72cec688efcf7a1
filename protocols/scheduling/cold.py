"""Scans of the log by coroutines: what has to be read from disk first is waited for, and not by the loop."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.log.cold import Cold

if TYPE_CHECKING:
    from routing.log.contents import Scan
    from routing.log.partition import Partition


async def scan(partition: Partition, offset: int, wanted: Callable[[str], bool], *, max_events: int, max_scanned: int,
               ) -> Scan:
    """As Partition.scan() with may_wait: the caller gives others a turn, and comes again."""
    while True:
        try:
            return partition.scan(offset, wanted, max_events=max_events, max_scanned=max_scanned, may_wait=True)
        except Cold as cold:
            await _read(cold)


async def _read(cold: Cold) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cold.when_read(lambda: None if done.done() else done.set_result(None))
    await done
