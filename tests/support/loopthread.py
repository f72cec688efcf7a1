"""An event loop in a thread of its own, for the proxies that tests put between nodes."""
from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from tests.support.wait import DEADLINE_S

Result = TypeVar("Result")


class LoopThread:
    """inside: entered by the thread for its life, such as a network namespace."""

    def __init__(self, name: str, inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> None:
        self._loop = asyncio.new_event_loop()
        self._inside = inside
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it there, and wait here for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def call(self, work: Callable[[], object]) -> None:
        """Have it called there, soon."""
        self._loop.call_soon_threadsafe(work)

    def _run(self) -> None:
        with self._inside():
            self._loop.run_forever()
