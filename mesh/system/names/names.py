"""Names: host names to addresses, on a few threads of their own for each use, so that no use waits for another's names.

libc's resolver blocks a thread for as long as a name server is silent, 5 to 30 s. On threads shared by all, twenty
webhooks to names that nobody answers for kept every link from being dialled. So links and webhooks have a Names each;
within one a name is asked once at a time, its answer serves for a while, and one without an answer is left alone for
longer and longer. libc and not a resolver of our own: /etc/hosts, search domains and mDNS count as for any program.

The threads are daemons: a node that stops does not wait for a name server.
"""
from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

WAITING_MAX = 256           # names asked at a time; who asks for more is told so
KEPT_MAX = 4_096            # answers; beyond it the oldest goes
FRESH_S = 10.0              # an answer serves so long: a webhook's next connection does not ask again
FAILED_FIRST_S = 0.5        # a name without an answer is left alone for so long, then twice as long, up to a bound

Info: TypeAlias = tuple[Any, Any, int, str, tuple[Any, ...]]       # as socket.getaddrinfo has it
Key: TypeAlias = tuple[str, int, int]


def look_up(host: str, family: int, flags: int) -> list[Info]:
    """Blocks."""
    found: list[Info] = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM, flags=flags)
    return found


class Names:
    """Of one use. Event loop only, but for the look-up itself."""

    def __init__(self, threads: int, now_s: Callable[[], float], *, failed_max_s: float = 60.0,
                 look_up: Callable[[str, int, int], list[Info]] = look_up) -> None:
        self._threads_max = threads
        self._threads = 0
        self._now_s = now_s
        self._failed_max_s = failed_max_s
        self._look_up = look_up
        self._work: queue.SimpleQueue[tuple[Key, asyncio.AbstractEventLoop]] = queue.SimpleQueue()
        self._asked: dict[Key, asyncio.Future[list[Info]]] = {}
        self._fresh: dict[Key, tuple[float, list[Info]]] = {}           # until when
        self._failed: dict[Key, tuple[float, float, str]] = {}          # until when, how long, why

    async def resolve(self, host: str, port: int, family: int = 0, flags: int = 0) -> list[Info]:
        """Addresses with the port put in. Raises OSError. The caller bounds the time."""
        key = host, family, flags
        found = self._literal(key) or await self._found(key)
        return [(kind, sort, protocol, name, (address[0], port, *address[2:]))
                for kind, sort, protocol, name, address in found]

    def _literal(self, key: Key) -> list[Info] | None:
        host, family, _ = key
        try:
            return look_up(host, family, socket.AI_NUMERICHOST)         # never asks anybody
        except (OSError, UnicodeError):
            return None

    async def _found(self, key: Key) -> list[Info]:
        now_s = self._now_s()
        fresh = self._fresh.get(key)
        if fresh is not None and now_s < fresh[0]:
            return fresh[1]
        failed = self._failed.get(key)
        if failed is not None and now_s < failed[0]:
            raise OSError(f"{failed[2]} (asked again in {failed[0] - now_s:.1f} s)")
        future = self._asked.get(key)
        if future is None:
            if len(self._asked) >= WAITING_MAX:
                raise OSError(f"{WAITING_MAX} other names wait for an answer")
            future = self._ask(key)
        return await asyncio.shield(future)

    def _ask(self, key: Key) -> asyncio.Future[list[Info]]:
        loop = asyncio.get_running_loop()
        future = self._asked[key] = loop.create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())     # nobody may wait any more
        self._work.put((key, loop))
        if self._threads < min(self._threads_max, len(self._asked)):
            self._threads += 1
            threading.Thread(target=self._run, name="names", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            key, loop = self._work.get()
            found: list[Info] | OSError
            try:
                found = self._look_up(*key)
            except UnicodeError as error:
                found = OSError(f"no name of a host: {error}")
            except OSError as error:
                found = error
            try:
                loop.call_soon_threadsafe(self._answered, key, found)
            except RuntimeError:                        # the loop has been closed
                return

    def _answered(self, key: Key, found: list[Info] | OSError) -> None:
        future = self._asked.pop(key)
        now_s = self._now_s()
        if isinstance(found, OSError):
            _, waited_s, _ = self._failed.pop(key, (0.0, FAILED_FIRST_S / 2, ""))
            wait_s = min(2 * waited_s, self._failed_max_s)
            self._keep(self._failed, key, (now_s + wait_s, wait_s, found.strerror or str(found)))
            future.set_exception(found)
        else:
            self._failed.pop(key, None)
            self._keep(self._fresh, key, (now_s + FRESH_S, found))
            future.set_result(found)

    @staticmethod
    def _keep(kept: dict[Key, Any], key: Key, value: Any) -> None:
        kept.pop(key, None)
        if len(kept) >= KEPT_MAX:
            del kept[next(iter(kept))]
        kept[key] = value
