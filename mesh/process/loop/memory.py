"""Memory that is free goes back to the machine. Called by service.py once in a while.

What a client made the node take is freed when it leaves, but glibc keeps freed pieces below the top of its heap for
later: a burst of large bodies would leave a node as large as the burst for good, and who watches it could not tell
that from a leak. malloc_trim(3) gives whole free pages back, wherever they lie. What is remembered only to be quick
(routing/idle.py) goes before that, when the node has had nothing to do for some looks.
"""
from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Final

GROWN_BYTES: Final = 8 * 1024 * 1024        # above the smallest size so far: worth a look
MORE_BYTES: Final = 32 * 1024 * 1024        # since it was tried last: there is something new
PAUSE_LOOKS_MAX: Final = 64         # between two attempts that gave nothing back: what is there may be in use
SETTLED_BYTES: Final = 8 * 1024 * 1024      # it still grows by more since the last look: not yet
IDLE_CPU: Final = 0.1               # of a core, between two looks: less is nothing to do
IDLE_LOOKS: Final = 3               # one after the other


class FreeMemory:
    """One per process."""

    def __init__(self, resident_bytes: Callable[[], int], forget: Callable[[], None] = lambda: None, *,
                 clock_s: Callable[[], float] = time.monotonic, cpu_s: Callable[[], float] = time.process_time) -> None:
        """resident_bytes(): memory that the process holds now. forget(): lets go of what is remembered only to be
        quick, once the process has grown and has nothing to do.
        """
        self._resident_bytes = resident_bytes
        self._forget = forget
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._looked = clock_s(), cpu_s()
        self._idle_looks = 0
        self._forgot = False                    # since it was at work last
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
        now = self._resident_bytes()
        calm = abs(now - self._last) < SETTLED_BYTES
        self._last = now
        self._smallest = min(self._smallest, now)
        if self._is_idle() and not self._forgot and now - self._smallest > GROWN_BYTES:
            self._forgot = True
            self._trimmed, self._pause = None, 0            # there will be something to give back
            self._forget()
            return
        if self._trim is None or (self._thread is not None and self._thread.is_alive()):
            return
        if self._trimmed is not None:
            if abs(now - self._trimmed) > MORE_BYTES:       # it helped, or there is something new
                self._trimmed, self._pause = None, 0
            else:
                self._left -= 1
        if calm and now - self._smallest > GROWN_BYTES and (self._trimmed is None or self._left <= 0):
            self._trimmed = now
            self._pause = self._left = min(2 * self._pause, PAUSE_LOOKS_MAX) or 1
            self._thread = threading.Thread(target=self._trim, args=(0,), name="memory", daemon=True)
            self._thread.start()

    def _is_idle(self) -> bool:
        looked_s, looked_cpu_s = self._looked
        now_s, now_cpu_s = self._looked = self._clock_s(), self._cpu_s()
        if now_cpu_s - looked_cpu_s < IDLE_CPU * (now_s - looked_s):
            self._idle_looks += 1
        else:
            self._idle_looks = 0
            self._forgot = False
        return self._idle_looks >= IDLE_LOOKS
