"""A queue drains by itself: nobody has to send more, and no tick is needed. On both kinds of event loop."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

from mesh.link.protocol.frames import Relay
from mesh.link.settings import LinkTable
from tests.mesh.link.nodes import LinkNode, fast_limits, until

FRAMES = 300


async def drain() -> int:
    """Frames that arrived of what was queued in one turn, 19 MiB, with the sender's clock stopped."""
    limits = fast_limits(stale_after_s=600.0, heartbeat_s=300.0)
    async with LinkNode("cloud", limits=limits) as cloud:
        port = await cloud.listen()
        async with LinkNode("graz", links=(LinkTable(f"ws://127.0.0.1:{port}", "l1"),), limits=limits) as graz:
            await until(lambda: graz.overlay.up and cloud.overlay.up)
            assert graz._ticker is not None
            graz._ticker.cancel()
            for number in range(FRAMES):
                assert graz.overlay.up[0].send(Relay("cloud", "graz", 16, 3, bytes([number % 256]) * 65_000), 3)
            try:
                await until(lambda: len(cloud.overlay.frames) == FRAMES)
            except AssertionError:
                pass
    return len(cloud.overlay.frames)


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_what_was_queued_in_one_turn_leaves_without_another(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    found: list[int] = []

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            found.append(runner.run(drain()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(90)
    assert found == [FRAMES]
