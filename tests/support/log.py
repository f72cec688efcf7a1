"""A store for tests: no event loop, a clock that stands still, and a writer on a thread or inline."""
from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from pathlib import Path

from routing.event import Event
from routing.log.committing.workers import InlineWriter, Writer
from routing.log.fs import FileSystem
from routing.log.partition import Partition
from routing.log.store import LocalStore
from routing.settings import StreamSettings
from routing.ticket import Ticket
from tests.support.wait import DEADLINE_S


class ManualLoop:
    """Stands in for the event loop: what the writer calls back waits here until the test runs it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def call(self, work: Callable[[], None]) -> None:
        self._calls.put(work)

    def run_pending(self) -> None:
        while not self._calls.empty():
            self._calls.get()()

    def run_until(self, condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
        """Run what comes back until the condition holds; it waits on the queue, not on the clock."""
        while not condition():
            self._calls.get(timeout=timeout_s)()


class LogStore(LocalStore):
    """LocalStore with a loop of its own and a few shortcuts."""

    loop: ManualLoop
    now_ms: int

    def commit(self) -> None:
        """Write everything that waits and take the results."""
        self.kick()
        self.loop.run_until(lambda: self.pending_bytes == 0)
        self.loop.run_pending()

    def publish(self, partition: Partition, events: Sequence[Event]) -> Ticket:
        """Append events and return their ticket; not committed yet."""
        ticket = Ticket(events)
        partition.append(list(events), ticket)
        ticket.part_done()                  # the share of the publish call itself
        return ticket

    def store_events(self, partition: Partition, events: Sequence[Event]) -> Ticket:
        """Append and commit."""
        ticket = self.publish(partition, events)
        self.commit()
        return ticket


def make_store(
    root: Path,
    *,
    inline: bool = True,
    fs: FileSystem | None = None,
    tail_cache_bytes: int = 16 * 1024 * 1024,
    pending_bytes_max: int = 64 * 1024 * 1024,
    now_ms: int = 1_700_000_000_000,
    **options: object,
) -> LogStore:
    """A store under root. inline: commits run on this thread, within kick; else on the writer thread."""
    loop = ManualLoop()
    spawn: Callable[[str], Writer] | None = InlineWriter if inline else None
    options.setdefault("clock_ms", lambda: store.now_ms)
    store = LogStore(
        root, call_on_loop=loop.call, pending_bytes_max=pending_bytes_max,
        tail_cache_bytes=tail_cache_bytes, fs=fs, spawn_writer=spawn, **options,  # type: ignore[arg-type]
    )
    store.loop = loop
    store.now_ms = now_ms
    return store


def open_partition(store: LocalStore, **settings: object) -> Partition:
    """The one partition of a stream, named "events" if nothing else is said."""
    settings.setdefault("name", "events")
    return store.open_stream(StreamSettings(**settings))[0]  # type: ignore[arg-type]


def everything(topic: str) -> bool:
    return True


def scan_all(partition: Partition, offset: int = 0, wanted: Callable[[str], bool] = everything) -> list[Event]:
    """All wanted events from offset on, by as many scans as it takes."""
    events: list[Event] = []
    while True:
        scan = partition.scan(offset, wanted, max_events=1000, max_scanned=5000)
        events += scan.events
        offset = scan.next_offset
        if offset >= partition.end_offset:
            return events
