"""A day at the terminal, by a clock that is moved: memory stays flat, whatever passes over the screen."""
from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc

from rich.cells import cell_len

from tests.tui.fake import FakeNode, consumer, event, terminal
from tui.views.events.browse import Tail

BEATS = 86_400 if os.environ.get("MESHGATE_SOAK") else 720        # of a second each
VISIT_BEATS = 8                 # on one screen, then another one
WARM = max(BEATS // 3, 45 * VISIT_BEATS)        # all views that are kept behind each other are there by then
GROWTH_BYTES_MAX = 512 * 1024    # one screen holds some 250 KB more than another; bounded caches are full before
CACHED = 4_096                  # widths of texts that rich remembers
SCREENS = ("pulse", "map", "consumers", "links", "tail plant/#", "topics", "queues", "help", "journey events:0:2")


async def test_after_a_day_memory_is_what_it_was() -> None:
    node = FakeNode()
    node.tables["consumers"] = [consumer(f"c-{number:03}", number) for number in range(50)]
    await node.start()
    try:
        async with terminal(node, (80, 24), first="consumers") as at:
            await at.until("c-040")
            at.app.feed.paused = True
            for number in range(CACHED):
                cell_len(f"fills the caches of rich {number}")
            tracemalloc.start()
            before = 0
            for beat in range(BEATS):
                at.clock.now_s += 86_400 / BEATS
                if beat % VISIT_BEATS == 0:                 # another screen, and back again
                    at.app.command(SCREENS[beat // VISIT_BEATS % len(SCREENS)])
                    node.beat()                             # whose stream was left hears of it
                    node.seen.clear()
                    await at.pilot.pause()
                view = at.app.view
                assert view is not None
                if isinstance(view, Tail):
                    view.took({"events": [event(beat * 3 + number) for number in range(3)], "remaining": 0,
                               "scanned": 3, "cursor": None, "done": True})
                elif view.NAME == "consumers" and view.loaded:
                    rows = [{**consumer(f"c-{(beat + number) % 997:03}", beat + number), "at": "cloud-eu"}
                            for number in range(50)]
                    view.took({"consumers": rows, "total": 50, "matched": 50, "next": None, "nodes": node.answered})
                at.app.say(f"beat {beat}") if beat % 50 == 0 else None
                await asyncio.sleep(0)
                if beat == WARM:
                    gc.collect()
                    before = tracemalloc.get_traced_memory()[0]
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            print(f"{grown} bytes more")
            assert grown <= GROWTH_BYTES_MAX, f"{grown} bytes more after {BEATS - WARM} beats"
            assert len(at.app.views) <= 30
    finally:
        tracemalloc.stop()
        await node.stop()
