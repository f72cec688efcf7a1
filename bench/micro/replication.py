"""python -m bench.micro.replication [--events N]

What one replicated event costs at its origin (read the log, choose, encode) and at its destination (decode, check, put
into the log, commit without sync), in one process without links. Behind the tail: from disk; at the tail: from memory,
in commits of 500. CPU time; the best of RUNS counts.
"""
from __future__ import annotations

import argparse
import random
import time
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from bench.micro.desk import Desk, events
from mesh.publishers import Publishers
from mesh.replication.replication import Replication
from mesh.replication.settings import ReplicateSettings, ReplicationConfig

RUNS = 3
TURN_EVENTS = 500


class _Node:
    """A desk with replication whose messages wait in a queue, and the time spent in it."""

    def __init__(self, name: str, root: Path, replicate: tuple[ReplicateSettings, ...] = ()) -> None:
        self.name = name
        self.desk = Desk(root / name)
        self.peer: _Node | None = None
        self.sent: deque[bytes] = deque()
        self.spent_s = 0.0
        overlay: Any = self
        self.me = SimpleNamespace(name=name, epoch=self.desk.store.epoch)
        self.replication = Replication(self.desk.router, overlay, time.monotonic, lambda: 1_700_000_000_000,
                                       random.Random(1), ReplicationConfig(replicate), Publishers())

    @property
    def nodes(self) -> dict[str, Any]:
        peer = self.peer
        assert peer is not None
        stream = SimpleNamespace(name="events", partitions=1, captures=("#",))
        return {peer.name: SimpleNamespace(
            name=peer.name, epoch=peer.me.epoch, boot="1", skew_ms=0.0, streams=(stream,))}

    def send(self, to: str, body: bytes, priority: int) -> bool:
        self.sent.append(body)
        return True

    def edge(self, name: str) -> None:
        return None

    def take(self) -> None:
        """What the peer has sent."""
        peer = self.peer
        assert peer is not None
        started = time.process_time()
        while peer.sent:
            self.replication.on_message(peer.name, peer.sent.popleft())
        self.desk.run()
        self.replication.tick(time.monotonic())
        self.desk.run()
        self.spent_s += time.process_time() - started


def _run(count: int, *, tail: bool) -> tuple[float, float]:
    """Seconds at the origin and at the destination."""
    with TemporaryDirectory(prefix="micro-") as root:
        origin, destination = _Node("origin", Path(root)), _Node("destination", Path(root), (ReplicateSettings("#"),))
        origin.peer, destination.peer = destination, origin
        for node in (origin, destination):
            node.replication.start()
            node.desk.run()
        own = origin.desk.router.own_partitions()[0]
        mine = destination.desk.router.own_partitions()[0]
        if tail:
            _exchange(origin, destination, lambda: destination.replication.outlets is not None and bool(
                origin.replication.outlets.by_key) and not destination.sent and not origin.sent)
        written = 0
        origin.spent_s = destination.spent_s = 0.0
        while written < count:
            batch = events(TURN_EVENTS, f"bench/micro/{written // TURN_EVENTS % 16}")
            origin.desk.router.publish(batch, origin.desk.publisher, plain=True)
            if tail:
                outlet = next(iter(origin.replication.outlets.by_key.values()))
                origin.desk.router.feeds.pop(outlet.partition, None)       # the commit alone is not what is measured
                origin.desk.run()
                started = time.process_time()
                outlet.wake()
                origin.spent_s += time.process_time() - started
                destination.take()
                origin.take()
            else:
                origin.desk.run()
            written += TURN_EVENTS
        _exchange(origin, destination, lambda: mine.end_offset >= own.end_offset)
        for node in (origin, destination):
            node.desk.router.close()
    return origin.spent_s, destination.spent_s


def _exchange(origin: _Node, destination: _Node, until: Any) -> None:
    give_up_s = time.monotonic() + 60
    while not until() or origin.sent or destination.sent:
        assert time.monotonic() < give_up_s, "replication came to a stop"
        destination.take()
        origin.take()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.replication", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    count = parser.parse_args().events
    for name, tail in (("behind the tail, from disk", False), ("at the tail, from memory", True)):
        runs = [_run(count, tail=tail) for _ in range(RUNS)]
        best = [min(run[end] for run in runs) / count * 1e6 for end in (0, 1)]
        print(f"{name}: origin {best[0]:.2f} µs, destination {best[1]:.2f} µs per event "
              f"({1e6 / best[0]:,.0f} and {1e6 / best[1]:,.0f} events/s of one core each)")


if __name__ == "__main__":
    main()
