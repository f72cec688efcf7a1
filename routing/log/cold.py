"""Cold reads: what stands neither in memory nor in the page cache is read by a thread, never on the loop.

    reader on the loop ── not cached ──► Cold is raised ── when_read(call) ──► thread reads it, and some more behind it
            ▲                                                                        │
            └────── reads again: the bytes are there ◄────── call() on the loop ◄────┘

Used by reader.py for whoever said that he may wait. The others have the loop wait for the disk.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from routing.errors import StorageError
from routing.log.segments.sidecars import SIDECARS

if TYPE_CHECKING:
    from pathlib import Path

    from routing.log.fs import FileSystem
    from routing.log.segments.segment import Segment

AHEAD_BYTES: Final = 1024 * 1024        # read in one go from where somebody waits: a block of the summary
STEP_BYTES: Final = 256 * 1024          # of it at a time
BROUGHT_BYTES: Final = 8 * 1024 * 1024  # held for those who asked for them; the page cache has the rest
BROUGHT_MAX: Final = 64

Key = tuple["Segment", int]             # position; SIDECARS_OF for the files beside the segment
SIDECARS_OF: Final = -1


class Cold(StorageError):
    """The disk has to be asked first. Whoever gets it asks when_read() to be called, and comes again then."""

    def __init__(self, reads: ColdReads, segment: Segment, position: int, size: int) -> None:
        super().__init__(f"{segment.path()}: not in memory at {position}")
        self._reads = reads
        self._segment = segment
        self._position = position
        self._size = size

    def when_read(self, call: Callable[[], None]) -> None:
        """Have it read, and call once that is done, whatever came of it."""
        self._reads.ask(self._segment, self._position, self._size, call)



class ColdReads:
    """One per store. Loop thread only, but for what _fetch does."""

    __slots__ = ("_aside", "_brought", "_bytes", "_on_loop", "_waiting")

    def __init__(self, aside: Callable[[Callable[[], None]], None],
                 on_loop: Callable[[Callable[[], None]], None]) -> None:
        """aside: runs on a thread that may wait for the disk. on_loop: back to the loop."""
        self._aside = aside
        self._on_loop = on_loop
        self._brought: OrderedDict[Key, bytes | None] = OrderedDict()       # None: it could not be read
        self._bytes = 0
        self._waiting: dict[Key, list[Callable[[], None]]] = {}

    def read(self, segment: Segment, position: int, size: int) -> bytes:
        """As Segment.read_bytes(). Raises Cold where the disk would have to be asked."""
        key = segment, position
        if key in self._brought:
            data = self._brought[key]
            if data is None:                            # let the loop find out what is wrong with it, as ever
                del self._brought[key]
                return segment.read_bytes(position, size)
            if len(data) >= size:
                return data
        cached = segment.read_cached(position, size)
        if cached is None:
            raise Cold(self, segment, position, size)
        return cached

    def open(self, segment: Segment) -> None:
        """Before a sealed segment is read whose summary is not in memory. Raises Cold: its sidecars are read first."""
        if not segment.has_summary and (segment, SIDECARS_OF) not in self._brought:
            raise Cold(self, segment, SIDECARS_OF, 0)

    def ask(self, segment: Segment, position: int, size: int, call: Callable[[], None]) -> None:
        """As Cold.when_read(). Who waits for the same place waits for the same read."""
        key = segment, position
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(call)
            return
        self._waiting[key] = [call]
        if position == SIDECARS_OF:
            work = partial(self._fetch_sidecars, key, segment.fs, [segment.path(suffix) for suffix in SIDECARS])
        else:
            work = partial(self._fetch, key, segment.fs, segment.path(), size, segment.size)
        self._aside(work)

    def _fetch(self, key: Key, fs: FileSystem, path: Path, size: int, end: int) -> None:
        """On a thread: bring what is asked for, then have the system read ahead."""
        position = key[1]
        data: bytes | None = None
        try:
            file = fs.open(path)
            try:
                data = file.pread(size, position)
                self._on_loop(partial(self._take, key, data))
                for at in range(position + size, min(position + AHEAD_BYTES, end), STEP_BYTES):
                    file.pread(STEP_BYTES, at)
            finally:
                file.close()
        except OSError:                                 # renamed or gone meanwhile, or broken: the loop looks again
            if data is None:
                self._on_loop(partial(self._take, key, None))

    def _fetch_sidecars(self, key: Key, fs: FileSystem, paths: list[Path]) -> None:
        """On a thread: only for the page cache."""
        for path in paths:
            try:
                file = fs.open(path)
                try:
                    file.pread(file.size(), 0)
                finally:
                    file.close()
            except OSError:
                pass
        self._on_loop(partial(self._take, key, b""))

    def _take(self, key: Key, data: bytes | None) -> None:
        self._bytes += len(data or b"") - len(self._brought.pop(key, None) or b"")
        self._brought[key] = data
        while len(self._brought) > 1 and (self._bytes > BROUGHT_BYTES or len(self._brought) > BROUGHT_MAX):
            self._bytes -= len(self._brought.popitem(last=False)[1] or b"")
        for call in self._waiting.pop(key, ()):
            call()
