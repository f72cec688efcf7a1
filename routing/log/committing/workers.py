"""The threads that work for the log: those that commit, and the keeper.

Used by store.py. Partitions commit independently: a disk syncs several files at once about as fast as one, and a file
that is slow or broken holds up nobody else. The keeper does one thing after the other.
"""
from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger(__name__)

# Measured on two cores with 50 partitions written at once: docs/log.md. A thread that waits for its sync costs nothing.
COMMITTERS_MAX = 16


class Writer(Protocol):
    """Runs functions, each once."""

    def submit(self, work: Callable[[], None], told: Callable[[], None] | None = None) -> None:
        """Run work, and told behind it."""

    def close(self) -> None: ...


_Task = tuple[Callable[[], None], Callable[[], None] | None]


class ParallelWriter:
    """Threads that run what they are given at the same time; they are started when they are needed.

    The thread that was busy last comes first, so that a node with little to do has one thread that does it all: to wake
    another one for each commit costs twice the context switches.
    """

    def __init__(self, name: str, threads_max: int = COMMITTERS_MAX) -> None:
        self._name = name
        self._threads_max = threads_max
        self._threads: list[threading.Thread] = []
        self._queues: list[SimpleQueue[_Task | None]] = []      # of each thread
        self._idle: list[SimpleQueue[_Task | None]] = []        # of those that wait, the latest at the end
        self._waiting: deque[_Task] = deque()                   # for a thread
        self._lock = threading.Lock()                           # of the last two

    def submit(self, work: Callable[[], None], told: Callable[[], None] | None = None) -> None:
        """told is called when the thread is free again: what is submitted because of it may have the same thread."""
        task = work, told
        with self._lock:
            if self._idle:
                queue = self._idle.pop()
            elif len(self._threads) < self._threads_max:
                queue = self._start()
            else:
                self._waiting.append(task)
                return
        queue.put(task)

    def _start(self) -> SimpleQueue[_Task | None]:
        queue: SimpleQueue[_Task | None] = SimpleQueue()
        thread = threading.Thread(
            target=self._run, args=(queue,), name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        self._queues.append(queue)
        thread.start()
        return queue

    def close(self) -> None:
        """Run what is waiting, then end."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, queue: SimpleQueue[_Task | None]) -> None:
        while (task := queue.get()) is not None:
            following: _Task | None = task
            while following is not None:
                work, told = following
                _run(work)
                with self._lock:
                    following = self._waiting.popleft() if self._waiting else None
                    if following is None:
                        self._idle.append(queue)
                if told is not None:
                    _run(told)


def one_behind_the_other(work: Callable[[], None], told: Callable[[], None] | None) -> Callable[[], None]:
    """A task as one function, for writers that have no threads."""
    if told is None:
        return work

    def both() -> None:
        work()
        told()

    return both


def _run(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        log.exception("a task of the log failed")


class ThreadWriter(ParallelWriter):
    """One thread, which runs what it is given in order."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1)


class InlineWriter:
    """Runs what it is given at once, on the caller's thread: for tests that must be the same every time."""

    def __init__(self, name: str) -> None:
        pass

    def submit(self, work: Callable[[], None], told: Callable[[], None] | None = None) -> None:
        one_behind_the_other(work, told)()

    def close(self) -> None:
        pass
