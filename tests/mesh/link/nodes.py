"""Link managers with real sockets for tests: a recording overlay, a listener, a tick."""
from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

from mesh.link.manager import LinkManager
from mesh.link.proof.prepare import prepare_links
from mesh.link.protocol.frames import Gossip, Relay
from mesh.link.protocol.neighbour import Neighbour
from mesh.link.protocol.peer import Me
from mesh.link.settings import LinkLimits, LinkPeerTable, LinkTable
from routing.errors import Refusal
from tests.support.wait import DEADLINE_S

TICK_S = 0.01


def fast_limits(**changes: Any) -> LinkLimits:
    """Short times for what a test waits for. Long ones for what must not run out: the machine may stand still for a
    second or two. A test of such a time asks for a short one.
    """
    values: dict[str, Any] = {
        "heartbeat_s": 0.1, "blocked_after_s": 5.0, "stale_after_s": 20.0, "connect_timeout_s": 10.0,
        "handshake_timeout_s": 10.0, "retry_min_s": 0.02, "retry_max_s": 0.2, "good_after_s": 0.1,
        "drain_timeout_s": 10.0,
    }
    return LinkLimits(**{**values, **changes})


class Recorder:
    """A LinkEvents that keeps what it is told."""

    def __init__(self) -> None:
        self.up: list[Neighbour] = []
        self.downs: list[tuple[str, str]] = []
        self.frames: list[tuple[str, Gossip | Relay]] = []
        self.refuse: Callable[[Neighbour], Refusal | None] = lambda neighbour: None

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        refusal = self.refuse(neighbour)
        if refusal is None:
            self.up.append(neighbour)
        return refusal

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None:
        self.up.remove(neighbour)
        self.downs.append((neighbour.node, reason))

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None:
        assert neighbour in self.up
        self.frames.append((neighbour.node, frame))


class LinkNode:
    """A node that has links and nothing else."""

    def __init__(
        self, name: str, *, links: tuple[LinkTable, ...] = (), peers: tuple[LinkPeerTable, ...] = (),
        limits: LinkLimits | None = None, users: bool = False, boot: str | None = None, seed: int = 1,
        protocols: tuple[int, int] = (1, 1), clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        me = Me(name, f"site-{name}", f"epoch-{name}", boot or f"boot-{name}-{seed}", "0.1", *protocols)
        self.name = name
        self.overlay = Recorder()
        self.manager = LinkManager(
            me, limits or fast_limits(), self.overlay, clock_s=time.monotonic, clock_ms=clock_ms,
            rng=random.Random(seed))
        self.users = users
        self.peers = peers
        self.apply(links, peers)
        self.port = 0
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    def apply(self, links: tuple[LinkTable, ...], peers: tuple[LinkPeerTable, ...] | None = None) -> None:
        self.peers = self.peers if peers is None else peers
        self.manager.apply(prepare_links(links, self.peers, users=self.users))

    async def __aenter__(self) -> LinkNode:
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen(self, context: ssl.SSLContext | None = None, port: int = 0) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.manager.accept, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await asyncio.wait_for(self.manager.shutdown(), 30)
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def die(self) -> None:
        """Vanish without a word: nothing is sent or closed by us any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    async def _tick(self) -> None:
        while True:
            self.manager.tick(time.monotonic())
            await asyncio.sleep(TICK_S)

    def link(self, identifier: str) -> dict[str, Any]:
        return next(link for link in self.manager.snapshot() if link["id"] == identifier)


async def until(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        await asyncio.sleep(0.005)
