"""Connections that break at any byte: what arrives is what was sent, whole, in order and once per connection."""
from __future__ import annotations

import asyncio
import random

import pytest

from mesh.link.protocol.frames import Relay
from mesh.link.settings import LinkTable
from tests.mesh.link.nodes import LinkNode, until
from tests.support.tcpproxy import TcpProxy


@pytest.mark.parametrize("seed", range(12))
async def test_frames_survive_whole_or_not_at_all(seed: int) -> None:
    rng = random.Random(seed)
    async with LinkNode("cloud", seed=seed) as cloud:
        await cloud.listen()
        async with TcpProxy(cloud.port) as proxy:
            proxy.close_after(rng.randrange(1, 400_000) if rng.random() < 0.8 else rng.randrange(1, 1_000))
            table = LinkTable(f"ws://127.0.0.1:{proxy.port}", "l1", compress=seed % 3 == 0)
            async with LinkNode("graz", links=(table,), seed=seed) as graz:
                sent = 0
                while proxy.accepted < 6:
                    for up in list(graz.overlay.up):
                        body = sent.to_bytes(4, "big") + rng.randbytes(rng.randrange(20_000))
                        sent += up.send(Relay("cloud", "graz", 16, 3, body), 3)
                    proxy.close_after(rng.randrange(1, 400_000) if rng.random() < 0.7 else rng.randrange(1, 1_000))
                    await asyncio.sleep(0.001)
                proxy.close_after(None)
                proxy.cut()
                await until(lambda: graz.overlay.up and cloud.overlay.up)
                last = Relay("cloud", "graz", 16, 3, b"last")
                await until(lambda: graz.overlay.up and graz.overlay.up[0].send(last, 3)
                            and any(frame == last for _, frame in cloud.overlay.frames))
        numbers = [int.from_bytes(frame.body[:4], "big") for _, frame in cloud.overlay.frames
                   if isinstance(frame, Relay) and frame.body != b"last"]
        assert numbers == sorted(set(numbers)) and all(number < sent for number in numbers)
        assert cloud.manager.counters["ended.bad_frame"] == graz.manager.counters["ended.flood"] == 0
