"""The threads that work for the log: those that commit, and the keeper.

Used by store.py. Partitions commit independently: a disk syncs several files at once about as fast as one, and a file
that is slow or broken holds up nobody else. The keeper does one thing after the other.
"""
from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger(__name__)

# Measured on two cores with 50 partitions written at once: docs/log.md. A thread that waits for its sync costs nothing.
COMMITTERS_MAX = 16


class Writer(Protocol):
    """Runs functions, each once."""

    def submit(self, work: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class ParallelWriter:
    """Threads that run what they are given at the same time; they are started when they are needed."""

    def __init__(self, name: str, threads_max: int = COMMITTERS_MAX) -> None:
        self._name = name
        self._threads_max = threads_max
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._unfinished = 0
        self._lock = threading.Lock()       # of the count

    def submit(self, work: Callable[[], None]) -> None:
        """One thread only may call this."""
        with self._lock:
            self._unfinished += 1
            start = self._unfinished > len(self._threads) and len(self._threads) < self._threads_max
        if start:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(work)

    def close(self) -> None:
        """Run what is waiting, then end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("a task of the log failed")
            with self._lock:
                self._unfinished -= 1


class ThreadWriter(ParallelWriter):
    """One thread, which runs what it is given in order."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1)


class InlineWriter:
    """Runs what it is given at once, on the caller's thread: for tests that must be the same every time."""

    def __init__(self, name: str) -> None:
        pass

    def submit(self, work: Callable[[], None]) -> None:
        work()

    def close(self) -> None:
        pass
