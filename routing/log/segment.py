"""One segment: a file of batches from a base offset on, with its indexes, its summary and its known damage.

Used by partition.py on the loop. The writer thread touches only `file`, and only within one job (commit.py). `size`
and `next_offset` are the committed end: nothing behind them is ever read.

Damage: a batch that fails its checks is skipped by readers and written down in `damage`, with position and offsets.
The file stays as it is.
"""
from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import msgspec

from routing.errors import StorageError
from routing.log.batch import HEADER_BYTES, BatchHeader, batch_at, crc_is_right
from routing.log.crash import crash_point
from routing.log.fs import File, FileSystem, read_whole, replace_whole
from routing.log.index import IndexBuilder, position_before, positions_after, relative_offset_before
from routing.log.summary import MARK_BYTES, Mark, Summary, decode_mark, decode_summary, encode_summary, freeze

log = logging.getLogger(__name__)

LOG, INDEX, TIMEINDEX, SUMMARY = ".log", ".index", ".timeindex", ".summary"
SUFFIXES = (LOG, INDEX, TIMEINDEX, SUMMARY)

READ_BYTES = 256 * 1024
_PAGE_BYTES = 4096
EIO_TRIES = 3               # of one read, at once
UNREADABLE_SCANS = 20       # a page that failed in so many scans is damage; consumers scan again every 50 ms


class Damage(msgspec.Struct, frozen=True):
    """A part of a segment that cannot be read. end_offset: the first offset that can."""

    path: str
    position: int
    end_position: int
    first_offset: int
    end_offset: int
    what: str

    def __str__(self) -> str:
        return (
            f"{self.path}: bytes {self.position} to {self.end_position} are damaged ({self.what}); "
            f"offsets {self.first_offset} to {self.end_offset - 1} cannot be read"
        )


class Found(msgspec.Struct, frozen=True):
    """A whole valid batch: it stands at `at` in data and at `position` in the file."""

    data: bytes
    at: int
    position: int
    header: BatchHeader

    def raw(self) -> bytes:
        return self.data[self.at:self.at + self.header.size]


def segment_name(base_offset: int) -> str:
    return f"{base_offset:020d}"


class Segment:
    __slots__ = (
        "_file", "_summary", "_unreadable", "allocated", "base_offset", "builder", "damage", "directory",
        "first_timestamp", "fs", "max_timestamp", "name", "next_offset", "on_damage", "patient",
        "record_count", "size", "suffix",
    )

    def __init__(self, fs: FileSystem, directory: Path, base_offset: int, *, suffix: str = LOG) -> None:
        self.fs = fs
        self.directory = directory
        self.base_offset = base_offset
        self.name = segment_name(base_offset)
        self.suffix = suffix
        self.size = 0
        self.allocated = 0                              # bytes reserved in the file; the writer thread's
        self.next_offset = base_offset
        self.record_count = 0
        self.first_timestamp = -1
        self.max_timestamp = -1
        self.builder: IndexBuilder | None = None        # of the active segment; a sealed one reads its files
        self.damage: list[Damage] = []
        self.on_damage: Callable[[Damage], None] = lambda damage: None
        self.patient = False                            # an unreadable page is tried again before it counts as damage
        self._unreadable: dict[int, int] = {}           # page → scans that could not read it
        self._summary: Summary | None = None
        self._file: File | None = None

    # -------------------------------------------------------------------------------------------- files

    def path(self, suffix: str | None = None) -> Path:
        return self.directory / (self.name + (self.suffix if suffix is None else suffix))

    def file(self) -> File:
        """The open file; opened when needed."""
        if self._file is None:
            self._file = self.fs.open(self.path(), writable=self.builder is not None)
        return self._file

    def adopt_file(self, file: File) -> None:
        self._file = file

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def mark(self, offsets: bytes, times: bytes) -> Mark:
        return Mark(
            self.size, self.next_offset, self.record_count, self.first_timestamp, self.max_timestamp,
            google_crc32c.value(offsets), google_crc32c.value(times),
        )

    def take(self, mark: Mark) -> None:
        """Become what a summary says."""
        self.size, self.next_offset, self.record_count = mark.position, mark.next_offset, mark.record_count
        self.first_timestamp, self.max_timestamp = mark.first_timestamp, mark.max_timestamp

    def sidecars(self) -> Callable[[], None]:
        """A function that writes index, time index and summary as of now. It may run on another thread."""
        assert self.builder is not None, "only a segment with its entries in memory writes them"
        self.builder.finish()
        offsets, times = bytes(self.builder.offsets), bytes(self.builder.times)
        mark, summary = self.mark(offsets, times), freeze(self.summary())
        fs, index, timeindex, target = self.fs, self.path(INDEX), self.path(TIMEINDEX), self.path(SUMMARY)

        def write() -> None:
            crash_point("at_index_save")
            try:
                replace_whole(fs, index, offsets, durable=False)
                crash_point("at_index_save")
                replace_whole(fs, timeindex, times, durable=False)
                replace_whole(fs, target, encode_summary(mark, summary), durable=False)
            except OSError as error:
                log.warning("%s: cannot be saved: %s; it is made again when it is needed", target, error)

        return write

    def read_mark(self) -> Mark | None:
        """The checkpoint of this segment, None when there is none that can be trusted."""
        try:
            file = self.fs.open(self.path(SUMMARY))
        except OSError:
            return None
        try:
            return decode_mark(file.pread(MARK_BYTES, 0))
        except OSError:
            return None
        finally:
            file.close()

    def read_indexes(self, mark: Mark) -> tuple[bytes, bytes] | None:
        """Both index files, None unless they are those that belong to mark."""
        offsets, times = self._read(INDEX), self._read(TIMEINDEX)
        if google_crc32c.value(offsets) != mark.index_crc or google_crc32c.value(times) != mark.timeindex_crc:
            return None
        return offsets, times

    def _read(self, suffix: str) -> bytes:
        try:
            return read_whole(self.fs, self.path(suffix))
        except OSError:
            return b""

    def _entries(self) -> tuple[bytes | bytearray, bytes | bytearray]:
        """Both indexes; empty where the files cannot be trusted."""
        if self.builder is not None:
            return self.builder.offsets, self.builder.times
        mark = self.read_mark()
        return (self.read_indexes(mark) if mark is not None and self._fits(mark) else None) or (b"", b"")

    def _fits(self, mark: Mark) -> bool:
        return mark.position == self.size and mark.next_offset == self.next_offset

    def summary(self) -> Summary:
        """Topics by block. Of a sealed segment it is read from its file; drop_summary forgets it."""
        if self._summary is None:
            found = None
            if self.builder is None:
                data = self._read(SUMMARY)
                mark = decode_mark(data)
                if mark is not None and self._fits(mark):
                    found = decode_summary(data)
                if found is None:
                    log.warning("%s: no usable summary; readers cannot skip this segment", self.path(SUMMARY))
            self._summary = found or Summary()
        return self._summary

    def adopt_summary(self, summary: Summary) -> None:
        self._summary = summary

    def read_summary(self) -> Summary | None:
        """The summary in the sidecar, None when it cannot be trusted."""
        return decode_summary(self._read(SUMMARY))

    def seal(self) -> Callable[[], None]:
        """Nothing more is written to this segment. Returns a function that saves the sidecars, for another thread.

        A damaged segment gets no summary, so that every start reads it again and says what is broken.
        """
        save = (lambda: None) if self.damage else self.sidecars()
        self.builder = None
        self.close()
        return save

    def release(self) -> None:
        """Go back to the files: index and summary are saved, the file has its final name."""
        self.builder = None
        self._summary = None
        self.close()

    def drop_summary(self) -> None:
        if self.builder is None:
            self._summary = None

    # -------------------------------------------------------------------------------------------- growing

    def committed(self, header: BatchHeader, topics: list[str]) -> None:
        """One more batch is in the file, at the end."""
        assert header.base_offset == self.next_offset and self.builder is not None
        self.note(self.size, header, topics)

    def note(self, position: int, header: BatchHeader, topics: list[str]) -> None:
        assert self.builder is not None
        self.builder.add(position, header)
        self.summary().add(position, header, topics)
        self.size = position + header.size
        self.next_offset = header.next_offset
        self.record_count += header.record_count
        if header.record_count:
            if self.first_timestamp < 0:
                self.first_timestamp = header.base_timestamp
            self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    # -------------------------------------------------------------------------------------------- reading

    def locate(self, offset: int) -> tuple[int, int]:
        """Position and base offset of a batch at or before the one that holds offset."""
        position = position_before(self._entries()[0], offset - self.base_offset)
        block = None
        blocks = self.summary().blocks
        if blocks:
            block = blocks[self.summary().block_index(offset)]
            if block.first_offset > offset:
                block = None
        if position:
            header = batch_at(self.read_bytes(position, HEADER_BYTES), 0)
            lowest = block.first_offset if block is not None else self.base_offset
            if header is not None and position < self.size and lowest <= header.base_offset <= offset:
                return position, header.base_offset
        if block is not None:
            return block.position, block.first_offset
        return 0, self.base_offset

    def offset_before_time(self, timestamp_ms: int) -> int:
        """An offset with nothing as late as timestamp_ms before it in this segment."""
        before = relative_offset_before(self._entries()[1], timestamp_ms)
        return min(self.base_offset + before, self.next_offset)

    def read_bytes(self, position: int, size: int) -> bytes:
        """Bytes of the file. A page that the disk cannot read comes back as zeros, which fail their checksum.

        When patient, that is so only after UNREADABLE_SCANS calls; until then StorageError tells to come again.
        """
        data = self._try_read(position, size)
        if data is not None:
            if self._unreadable:
                for page in range(position - position % _PAGE_BYTES, position + size, _PAGE_BYTES):
                    self._unreadable.pop(page, None)
            return data
        pages = []
        again_at = -1
        while size > 0:
            step = min(size, _PAGE_BYTES - position % _PAGE_BYTES)
            page = position - position % _PAGE_BYTES
            data = self._try_read(position, step)
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
            raise StorageError(f"{self.path()}: cannot read at {again_at}: input/output error")
        return b"".join(pages)

    def _try_read(self, position: int, size: int) -> bytes | None:
        """None when the disk cannot read it, at several tries."""
        for _ in range(EIO_TRIES):
            try:
                return self.file().pread(size, position)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise StorageError(f"{self.path()}: cannot read at {position}: {error.strerror}") from error
        return None

    def batches(self, position: int, expected: int) -> Iterator[Found]:
        """The valid batches from position on, whose base offset is expected. Damage is written down and skipped."""
        data, data_at = b"", position
        while position < self.size:
            at = position - data_at
            header = batch_at(data, at)
            if header is None or at + header.size > len(data):
                need = READ_BYTES if header is None else max(READ_BYTES, header.size)
                data, data_at, at = self.read_bytes(position, min(need, self.size - position)), position, 0
                header = batch_at(data, 0)
                if header is not None and header.size > len(data):
                    data = self.read_bytes(position, min(header.size, self.size - position))
            if (
                header is None
                or header.base_offset != expected
                or header.next_offset > self.next_offset
                or not crc_is_right(data, at, header)
            ):
                damage = self.find_damage(position, expected)
                position, expected = damage.end_position, damage.end_offset
                continue
            yield Found(data, at, position, header)
            position += header.size
            expected = header.next_offset

    def find_damage(self, position: int, expected: int) -> Damage:
        """The damage that begins at position: the known one, or a new one up to the next valid batch."""
        for damage in self.damage:
            if damage.position == position:
                return damage
        what = self._what_is_wrong(position, expected)
        found = self.next_valid(position, expected, self.size, self.next_offset, lambda header: True)
        end_position, end_offset = (self.size, self.next_offset) if found is None else found
        return self.add_damage(position, end_position, expected, end_offset, what)

    def add_damage(self, position: int, end_position: int, first_offset: int, end_offset: int, what: str) -> Damage:
        damage = Damage(str(self.path()), position, end_position, first_offset, end_offset, what)
        self.damage.append(damage)
        self.on_damage(damage)
        return damage

    def _what_is_wrong(self, position: int, expected: int) -> str:
        header = batch_at(self.read_bytes(position, HEADER_BYTES), 0)
        if header is None:
            return "no batch header"
        if header.base_offset != expected:
            return f"base offset {header.base_offset} where {expected} belongs"
        return "checksum mismatch"

    def next_valid(
        self, position: int, expected: int, end: int, offset_max: int, accept: Callable[[BatchHeader], bool]
    ) -> tuple[int, int] | None:
        """Position and base offset of the batch with which reading can go on behind an invalid one at position.

        The places that can be trusted come first: where the invalid batch says that it ends, and where the indexes
        know a batch. Else every byte is tried; there a batch counts only when a chain of valid ones leads from it to
        the end of the data, because a payload may hold the image of a batch.
        """
        broken = batch_at(self.read_bytes(position, HEADER_BYTES), 0)
        if broken is not None and broken.base_offset == expected:
            after = position + broken.size
            header = self._valid_at(after, end, broken.next_offset, broken.next_offset, offset_max)
            if header is not None and accept(header):
                return after, header.base_offset
        for known in self._known_positions(position):
            header = self._valid_at(known, end, expected + 1, offset_max, offset_max)
            if header is not None and accept(header):
                return known, header.base_offset
        return self._search(position + 1, expected + 1, end, offset_max, accept)

    def _valid_at(self, position: int, end: int, lowest: int, highest: int, offset_max: int) -> BatchHeader | None:
        """The header of a whole valid batch at position with a base offset in the range."""
        if position + HEADER_BYTES > end:
            return None
        header = batch_at(self.read_bytes(position, HEADER_BYTES), 0)
        if (
            header is None
            or not lowest <= header.base_offset <= highest
            or header.next_offset > offset_max
            or position + header.size > end
            or not crc_is_right(self.read_bytes(position, header.size), 0, header)
        ):
            return None
        return header

    def _known_positions(self, position: int) -> Iterator[int]:
        yield from positions_after(self._entries()[0], position)

    def _search(
        self, position: int, expected: int, end: int, offset_max: int, accept: Callable[[BatchHeader], bool]
    ) -> tuple[int, int] | None:
        while position + HEADER_BYTES <= end:
            data = self.read_bytes(position, min(READ_BYTES + HEADER_BYTES, end - position))
            magic_at = data.find(b"\x02", 16)
            while magic_at >= 0 and magic_at - 16 + HEADER_BYTES <= len(data):
                candidate = position + magic_at - 16
                header = batch_at(data, magic_at - 16)
                if header is not None and header.base_offset >= expected and candidate + header.size <= end:
                    header = self._valid_at(candidate, end, expected, offset_max, offset_max)
                    if header is not None and accept(header) and self._chain_holds(candidate, header, end, offset_max):
                        return candidate, header.base_offset
                magic_at = data.find(b"\x02", magic_at + 1)
            position += max(1, len(data) - HEADER_BYTES + 1)
        return None

    def _chain_holds(self, position: int, header: BatchHeader, end: int, offset_max: int) -> bool:
        """True when valid batches follow each other from position to the end of the data (or its reserved zeros)."""
        while position + header.size < end:
            position += header.size
            follower = self._valid_at(position, end, header.next_offset, header.next_offset, offset_max)
            if follower is None:
                return not self.read_bytes(position, min(HEADER_BYTES, end - position)).strip(b"\0")
            header = follower
        return True
