"""Reading a file of the log where the disk may fail: what cannot be read after several tries counts as zeros.

Used by segment.py on the loop. Zeros fail their checksum, so an unreadable page becomes damage of the batches on it,
and the rest is served. A page may be unreadable for a while only (a controller that resets, a network disk), so a
patient reader gets StorageError first and comes again.
"""
from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from routing.errors import StorageError
from routing.log.fs import File

PAGE_BYTES = 4096
EIO_TRIES = 3               # of one read, at once
UNREADABLE_SCANS = 20       # a page that failed in so many scans is damage; consumers scan again every 50 ms


class Pages:
    __slots__ = ("_file", "_path", "_unreadable", "patient")

    def __init__(self, file: Callable[[], File], path: Callable[[], Path]) -> None:
        """file: opens it where needed; path: for messages."""
        self.patient = False            # an unreadable page is tried again before it counts as damage
        self._file = file
        self._path = path
        self._unreadable: dict[int, int] = {}       # page → scans that could not read it

    def read(self, position: int, size: int) -> bytes:
        """Bytes of the file. A page that the disk cannot read comes back as zeros.

        When patient, that is so only after UNREADABLE_SCANS calls; until then StorageError tells to come again.
        """
        data = self._try(position, size)
        if data is not None:
            if self._unreadable:
                for page in range(position - position % PAGE_BYTES, position + size, PAGE_BYTES):
                    self._unreadable.pop(page, None)
            return data
        pages = []
        again_at = -1
        while size > 0:
            step = min(size, PAGE_BYTES - position % PAGE_BYTES)
            page = position - position % PAGE_BYTES
            data = self._try(position, step)
            if data is None:
                data = bytes(step)
                self._unreadable[page] = failures = self._unreadable.get(page, 0) + 1
                if self.patient and failures < UNREADABLE_SCANS:
                    again_at = position
            else:
                self._unreadable.pop(page, None)
            pages.append(data)
            if len(data) < step:
                break
            position += step
            size -= step
        if again_at >= 0:
            raise StorageError(f"{self._path()}: cannot read at {again_at}: input/output error")
        return b"".join(pages)

    def _try(self, position: int, size: int) -> bytes | None:
        """None when the disk cannot read it, at several tries."""
        for _ in range(EIO_TRIES):
            try:
                return self._file().pread(size, position)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise StorageError(f"{self._path()}: cannot read at {position}: {error.strerror}") from error
        return None
