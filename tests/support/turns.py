"""How long the event loop of a test was held in one turn, in CPU time of its thread: a busy machine does not count."""
from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager


class Turn:
    cpu_s = 0.0


@asynccontextmanager
async def longest_turn():
    """Yields a Turn whose cpu_s is the longest so far. Without collections: they are the process's, not a request's."""
    loop = asyncio.get_running_loop()
    turn, before = Turn(), time.thread_time()

    def look():
        nonlocal before, handle
        now = time.thread_time()
        turn.cpu_s = max(turn.cpu_s, now - before)
        before = now
        handle = loop.call_soon(look)

    gc.disable()
    handle = loop.call_soon(look)
    try:
        yield turn
    finally:
        handle.cancel()
        gc.enable()
