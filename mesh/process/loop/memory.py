"""Memory that is free goes back to the machine. Called by service.py once in a while.

What a client made the node take is freed when it leaves, but glibc keeps freed pieces below the top of its heap for
later: a burst of large bodies would leave a node as large as the burst for good, and who watches it could not tell
that from a leak. malloc_trim(3) gives whole free pages back, wherever they lie.
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final

GROWN_BYTES: Final = 32 * 1024 * 1024       # above the smallest size so far: worth a look
PAUSE_LOOKS_MAX: Final = 64         # between two attempts that gave nothing back: what is there may be in use
SETTLED_BYTES: Final = 8 * 1024 * 1024      # it still grows by more since the last look: not yet


class FreeMemory:
    """One per process."""

    def __init__(self, resident_bytes: Callable[[], int]) -> None:
        """resident_bytes(): memory that the process holds now."""
        self._resident_bytes = resident_bytes
        self._smallest = self._last = resident_bytes()
        self._trimmed: int | None = None        # the size when it was tried last
        self._pause = self._left = 0            # looks until it is tried again
        self._thread: threading.Thread | None = None
        self._trim: Callable[[int], int] | None
        try:
            self._trim = ctypes.CDLL(None).malloc_trim
        except (OSError, AttributeError):       # not glibc
            self._trim = None

    def look(self) -> None:
        """Give back what is free, in a thread (it takes milliseconds), when the process has grown and is calm again."""
        if self._trim is None or (self._thread is not None and self._thread.is_alive()):
            return
        now = self._resident_bytes()
        calm = abs(now - self._last) < SETTLED_BYTES
        self._last = now
        if self._trimmed is not None:
            if abs(now - self._trimmed) > GROWN_BYTES:      # it helped, or there is something new
                self._trimmed, self._pause = None, 0
            else:
                self._left -= 1
        self._smallest = min(self._smallest, now)
        if calm and now - self._smallest > GROWN_BYTES and (self._trimmed is None or self._left <= 0):
            self._trimmed = now
            self._pause = self._left = min(2 * self._pause, PAUSE_LOOKS_MAX) or 1
            self._thread = threading.Thread(target=self._trim, args=(0,), name="memory", daemon=True)
            self._thread.start()
