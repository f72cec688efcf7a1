"""A router on a log in a temporary directory, turned by hand. For the parts of bench.micro."""
from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load.packets import PLAIN_PAYLOAD
from routing.event import Event
from routing.log.committing.workers import InlineWriter
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, Identity, Policy
from routing.router import Router
from routing.settings import Durability, Limits, StreamSettings

BATCH = 500


class Desk:
    """A router on a store in a temporary directory; the loop is turned by hand, the writer runs inline."""

    def __init__(self, root: Path, durability: Durability = Durability.WRITE) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self.root = root
        self.settings = StreamSettings("events", ("#",), durability=durability)
        self.open()

    def open(self) -> None:
        limits = Limits()
        self.store = LocalStore(self.root, call_on_loop=self.queue.append, clock_ms=lambda: 1_700_000_000_000,
                                pending_bytes_max=limits.pending_commit_bytes, spawn_writer=InlineWriter,
                                tail_cache_bytes=limits.tail_cache_bytes)
        self.router = Router(self.store, [self.settings], Policy((ALLOW_ALL,)), limits=limits,
                             call_soon=self.queue.append, clock_s=time.monotonic, clock_ms=lambda: 1_700_000_000_000)
        self.publisher = self.router.publisher(Identity(user="bench", protocol="mqtt", client_id="bench"))

    def run(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def reopen(self) -> None:
        """Like a restart: nothing is in memory."""
        self.router.close()
        self.open()


@contextmanager
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="micro-") as root:
        made = Desk(Path(root))
        try:
            yield made
        finally:
            made.router.close()


def events(count: int = BATCH, topic: str = "bench/micro/0") -> list[Event]:
    return [Event(topic, PLAIN_PAYLOAD, 1, "bench") for _ in range(count)]
