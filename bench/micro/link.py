"""python -m bench.micro.link [--size BYTES] [--seconds S] [--compress]

What a link carries: relay frames of one size from one process to another over loopback, as many as go. Frames per
second, and the processor time that a frame costs at each end, which a busy machine changes less.
"""
from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection

import uvloop

from mesh.link.manager import LinkManager
from mesh.link.proof.prepare import prepare_links
from mesh.link.protocol.frames import PRIORITY_DATA, Gossip, Relay
from mesh.link.protocol.neighbour import Neighbour
from mesh.link.protocol.peer import Me
from mesh.link.settings import LinkLimits, LinkTable
from routing.errors import Refusal

TICK_S = 0.05
AHEAD_BYTES = 1024 * 1024       # queued per turn of the loop


class Counting:
    """The overlay of either end."""

    def __init__(self) -> None:
        self.neighbour: Neighbour | None = None
        self.frames = 0

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        self.neighbour = neighbour
        return None

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None:
        self.neighbour = None

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None:
        self.frames += 1


def make_manager(name: str, overlay: Counting, links: tuple[LinkTable, ...] = ()) -> LinkManager:
    manager = LinkManager(
        Me(name, "bench", "epoch", f"boot-{name}", "0"), LinkLimits(), overlay, clock_s=time.monotonic,
        clock_ms=lambda: time.time_ns() // 1_000_000, rng=random.Random(1))
    manager.apply(prepare_links(links, (), users=False))
    return manager


async def tick(manager: LinkManager) -> None:
    while True:
        manager.tick(time.monotonic())
        await asyncio.sleep(TICK_S)


async def receive(pipe: Connection, seconds: float) -> None:
    overlay = Counting()
    manager = make_manager("near", overlay)
    server = await asyncio.get_running_loop().create_server(manager.accept, "127.0.0.1", 0)
    ticker = asyncio.create_task(tick(manager))
    pipe.send(server.sockets[0].getsockname()[1])
    while not overlay.frames:
        await asyncio.sleep(0.01)
    frames, started_s, cpu_s = overlay.frames, time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    frames = overlay.frames - frames
    pipe.send((frames / (time.monotonic() - started_s), (time.process_time() - cpu_s) / max(1, frames)))
    ticker.cancel()
    server.close()
    await manager.shutdown()


async def send(pipe: Connection, table: LinkTable, size: int) -> tuple[float, float, float]:
    """Frames per second, processor seconds per frame at the receiver and here."""
    overlay = Counting()
    manager = make_manager("far", overlay, (table,))
    ticker = asyncio.create_task(tick(manager))
    while overlay.neighbour is None:
        await asyncio.sleep(0.01)
    frame = Relay("near", "far", 16, PRIORITY_DATA, os.urandom(size // 2) + bytes(size - size // 2))
    sent, cpu_s = 0, time.process_time()
    while not pipe.poll():
        for _ in range(max(1, AHEAD_BYTES // size)):
            if overlay.neighbour is None or not overlay.neighbour.send(frame, PRIORITY_DATA):
                break
            sent += 1
        await asyncio.sleep(0)
    rate, receiver_s = pipe.recv()
    sender_s = (time.process_time() - cpu_s) / max(1, sent)
    ticker.cancel()
    await manager.shutdown()
    return rate, receiver_s, sender_s


def _receiver(pipe: Connection, seconds: float) -> None:
    uvloop.run(receive(pipe, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16_384, help="bytes of a frame's body")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_receiver, args=(theirs, options.seconds), daemon=True)
    process.start()
    table = LinkTable(f"ws://127.0.0.1:{ours.recv()}", "bench", compress=options.compress)
    rate, receiver_s, sender_s = uvloop.run(send(ours, table, options.size))
    process.join(5)
    print(f"{options.size} bytes: {rate:,.0f} frames/s, {rate * options.size / 1e6:,.0f} MB/s; processor time per "
          f"frame {sender_s * 1e6:.1f} µs sending, {receiver_s * 1e6:.1f} µs receiving")


if __name__ == "__main__":
    main()
