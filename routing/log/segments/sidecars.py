"""The files beside a segment: `.index`, `.timeindex` and `.summary`. All can be made again from the segment.

Used by segment.py. They are never synced. The mark at the head of the summary (mark.py) has the checksums of all three
and says of which bytes of the segment they were made; whoever reads one compares that first.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import msgspec

from routing.errors import StorageError
from routing.log.crash import crash_point
from routing.log.fs import SHORTAGE, FileSystem, read_whole, replace_whole
from routing.log.segments.mark import MARK_BYTES, Mark, body_of, decode_mark, encode_sidecar
from routing.log.segments.summary import Frozen, Summary, decode_summary, encode_summary

log = logging.getLogger(__name__)

LOG, INDEX, TIMEINDEX, SUMMARY = ".log", ".index", ".timeindex", ".summary"
SIDECARS = (INDEX, TIMEINDEX, SUMMARY)
SUFFIXES = (LOG, *SIDECARS)


class Sidecars:
    """Those of one segment."""

    __slots__ = ("_directory", "_fs", "_name")

    def __init__(self, fs: FileSystem, directory: Path, name: str) -> None:
        self._fs = fs
        self._directory = directory
        self._name = name

    def path(self, suffix: str) -> Path:
        return self._directory / (self._name + suffix)

    def saving(self, mark: Mark, offsets: bytes, times: bytes, summary: Frozen) -> Callable[[], None]:
        """A function that writes all three; it may run on another thread. mark lacks the checksums of the indexes."""
        mark = msgspec.structs.replace(
            mark, index_crc=google_crc32c.value(offsets), timeindex_crc=google_crc32c.value(times))

        def write() -> None:
            crash_point("at_index_save")
            try:
                replace_whole(self._fs, self.path(INDEX), offsets, durable=False)
                crash_point("at_index_save")
                replace_whole(self._fs, self.path(TIMEINDEX), times, durable=False)
                replace_whole(
                    self._fs, self.path(SUMMARY), encode_sidecar(mark, encode_summary(summary)), durable=False)
            except OSError as error:
                log.warning("%s: cannot be saved: %s; it is made again when it is needed", self.path(SUMMARY), error)

        return write

    def mark(self) -> Mark | None:
        """None when there is none, or it is damaged."""
        return decode_mark(self._read(SUMMARY, MARK_BYTES))

    def indexes(self, mark: Mark) -> tuple[bytes, bytes] | None:
        """Both index files, None unless they are those that belong to mark."""
        offsets, times = self._read(INDEX), self._read(TIMEINDEX)
        if google_crc32c.value(offsets) != mark.index_crc or google_crc32c.value(times) != mark.timeindex_crc:
            return None
        return offsets, times

    def summary(self) -> tuple[Mark, Summary] | None:
        """The summary and the mark that it was written with; None when it is damaged."""
        data = self._read(SUMMARY)
        mark, body = decode_mark(data), body_of(data)
        found = decode_summary(body) if body is not None else None
        return (mark, found) if mark is not None and found is not None else None

    def _read(self, suffix: str, size: int | None = None) -> bytes:
        """The file, or the first size bytes; empty when it cannot be read. Raises StorageError when it can be later."""
        try:
            return read_whole(self._fs, self.path(suffix), size)
        except OSError as error:
            if error.errno in SHORTAGE:
                raise StorageError(f"{self.path(suffix)}: {error.strerror}") from error
            return b""
