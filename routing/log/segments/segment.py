"""One segment: a file of batches from a base offset on, with its indexes, its summary and its known damage.

Used by partition.py on the loop. The writer thread touches only `file`, and only within one job (commit.py). `size`
and `next_offset` are the committed end: nothing behind them is ever read.

Damage: a batch that fails its checks is skipped by readers and written down in `damage`, with position and offsets.
The file stays as it is.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from routing.log.fs import File, FileSystem
from routing.log.records.batch import HEADER_BYTES, BatchHeader, batch_at, crc_is_right
from routing.log.segments.damage import READ_BYTES, Damage, next_valid, what_is_wrong
from routing.log.segments.index import IndexBuilder, position_before, positions_after, relative_offset_before
from routing.log.segments.mark import UNKNOWN, Identity, Mark
from routing.log.segments.pages import Pages
from routing.log.segments.sidecars import LOG, SUMMARY, Sidecars
from routing.log.segments.summary import Summary, freeze

log = logging.getLogger(__name__)


Read = Callable[[int, int], bytes]      # position, size


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
        "_file", "_first_crc", "_last_crc", "_last_position", "_sidecars", "_summary", "allocated", "appended_ms",
        "base_offset", "builder", "damage", "directory", "first_timestamp", "fs", "had_producers", "max_timestamp",
        "name",
        "next_offset", "on_damage", "on_unusable", "opened_ms", "pages", "producers_seen", "read_from",
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
        self.first_timestamp = -1                       # what events say: data only, see opened_ms
        self.max_timestamp = -1
        self.opened_ms = UNKNOWN                        # steady ms of the first append and of the last: its age
        self.appended_ms = UNKNOWN
        self.had_producers = False                      # its mark says that a list of producers was saved with it
        self.producers_seen: list[tuple[BatchHeader, int]] = []     # by recovery: batches of producers, control kinds
        self.read_from = -1                             # the offset from which recovery has read it, -1: it has not
        self.builder: IndexBuilder | None = None        # of the active segment; a sealed one reads its files
        self.damage: list[Damage] = []
        self.on_damage: Callable[[Damage], None] = lambda damage: None
        self.on_unusable: Callable[[Segment], None] = lambda segment: None      # its summary: somebody may remake it
        self.pages = Pages(self.file, self.path)
        self._first_crc = self._last_position = self._last_crc = 0
        self._sidecars = Sidecars(fs, directory, self.name)
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

    @property
    def identity(self) -> Identity:
        """Which bytes this segment is."""
        return Identity(self._first_crc, self._last_position, self._last_crc)

    def take(self, mark: Mark) -> None:
        """Become what a mark says."""
        self.size, self.next_offset, self.record_count = mark.position, mark.next_offset, mark.record_count
        self.first_timestamp, self.max_timestamp = mark.first_timestamp, mark.max_timestamp
        self.opened_ms, self.appended_ms = mark.opened_ms, mark.appended_ms
        identity = mark.identity or Identity()
        self._first_crc, self._last_position = identity.first_crc, identity.last_position
        self._last_crc = identity.last_crc
        self.had_producers = mark.had_producers

    def age_from(self, opened_ms: int, appended_ms: int) -> None:
        """Set what no mark could tell. Steady milliseconds."""
        self.opened_ms = opened_ms if self.opened_ms == UNKNOWN else self.opened_ms
        self.appended_ms = max(appended_ms, self.appended_ms)

    def sidecars(self) -> Callable[[], None]:
        """A function that writes index, time index and summary as of now. It may run on another thread."""
        assert self.builder is not None, "only a segment with its entries in memory writes them"
        self.builder.finish()
        mark = Mark(self.size, self.next_offset, self.record_count, self.first_timestamp, self.max_timestamp, 0, 0,
                    self.opened_ms, self.appended_ms, self.identity, self.had_producers)
        return self._sidecars.saving(
            mark, bytes(self.builder.offsets), bytes(self.builder.times), freeze(self.summary()))

    def read_mark(self) -> Mark | None:
        """The checkpoint of this segment, None when there is none that can be trusted."""
        mark = self._sidecars.mark()
        return mark if mark is not None and self._describes(mark) else None

    def _describes(self, mark: Mark) -> bool:
        """True when a mark was made of this very file: its batches are where the mark says."""
        if mark.position == 0:
            return mark.next_offset == self.base_offset
        first = batch_at(self.read_bytes(0, HEADER_BYTES), 0)
        if first is None or first.base_offset != self.base_offset:
            return False
        identity = mark.identity
        if identity is None:                            # of the first form: that is all that it tells
            return True
        last = batch_at(self.read_bytes(identity.last_position, HEADER_BYTES), 0)
        return (
            first.crc == identity.first_crc and last is not None and last.crc == identity.last_crc
            and last.next_offset == mark.next_offset and identity.last_position + last.size == mark.position
        )

    def read_indexes(self, mark: Mark) -> tuple[bytes, bytes] | None:
        """Both index files, None unless they are those that belong to mark."""
        return self._sidecars.indexes(mark)

    def _entries(self) -> tuple[bytes | bytearray, bytes | bytearray]:
        """Both indexes; empty where the files cannot be trusted."""
        if self.builder is not None:
            return self.builder.offsets, self.builder.times
        mark = self._sidecars.mark()
        return (self.read_indexes(mark) if mark is not None and self._fits(mark) else None) or (b"", b"")

    def _fits(self, mark: Mark) -> bool:
        """True when a mark was made of what this segment is known to be."""
        return (
            mark.position == self.size and mark.next_offset == self.next_offset
            and (mark.identity is None or mark.identity == self.identity)
        )

    def summary(self) -> Summary:
        """Topics by block. Of a sealed segment it is read from its file; drop_summary forgets it."""
        if self._summary is None:
            found = None
            if self.builder is None:
                found = self._sidecars.summary()
                if found is None or not self._fits(found[0]):
                    found = None
                    log.warning("%s: no usable summary; readers cannot skip this segment", self.path(SUMMARY))
                    self.on_unusable(self)
            self._summary = Summary() if found is None else found[1]
        return self._summary

    def adopt_summary(self, summary: Summary) -> None:
        self._summary = summary

    def read_summary(self) -> Summary | None:
        """The summary in the sidecar, None when it cannot be trusted."""
        found = self._sidecars.summary()
        return None if found is None else found[1]

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

    @property
    def has_summary(self) -> bool:
        """It need not be read from its file."""
        return self._summary is not None or self.builder is not None

    @property
    def summary_bytes(self) -> int:
        """What its summary takes in memory now, about."""
        return self._summary.bytes if self._summary is not None else 0

    def drop_summary(self) -> None:
        if self.builder is None:
            self._summary = None

    # -------------------------------------------------------------------------------------------- growing

    def committed(self, header: BatchHeader, topics: Iterable[str]) -> None:
        """One more batch is in the file, at the end."""
        assert header.base_offset == self.next_offset and self.builder is not None
        self.note(self.size, header, topics)

    def note(self, position: int, header: BatchHeader, topics: Iterable[str]) -> None:
        """topics: of the records, repeats kept, or a Counter of them."""
        assert self.builder is not None
        self.builder.add(position, header)
        self.summary().add(position, header, topics)
        if position == 0:
            self._first_crc = header.crc
        self._last_position, self._last_crc = position, header.crc
        self.size = position + header.size
        self.next_offset = header.next_offset
        self.record_count += header.record_count
        if header.record_count:
            if self.first_timestamp < 0:
                self.first_timestamp = header.base_timestamp
            self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    # -------------------------------------------------------------------------------------------- reading

    def locate(self, offset: int, read: Read | None = None) -> tuple[int, int]:
        """Position and base offset of a batch at or before the one that holds offset. read: as in batches()."""
        if offset <= self.base_offset:
            return 0, self.base_offset
        position = position_before(self._entries()[0], offset - self.base_offset)
        block = None
        blocks = self.summary().blocks
        if blocks:
            block = blocks[self.summary().block_index(offset)]
            if block.first_offset > offset:
                block = None
        if position:
            header = batch_at((read or self.read_bytes)(position, HEADER_BYTES), 0)
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
        """Bytes of the file; zeros for what the disk cannot read (pages.py)."""
        return self.pages.read(position, size)

    def read_cached(self, position: int, size: int) -> bytes | None:
        """Bytes of the file without waiting for the disk; None: it would have to be asked, or something is wrong."""
        try:
            return self.file().pread_cached(size, position)
        except OSError:
            return None

    def batches(self, position: int, expected: int, read: Read | None = None) -> Iterator[Found]:
        """The valid batches from position on, whose base offset is expected. Damage is written down and skipped.

        read: brings at least so many bytes from a position, if the file has them. None: read_bytes().
        """
        read = read or self.read_bytes
        data, data_at = b"", position
        while position < self.size:
            at = position - data_at
            header = batch_at(data, at)
            if header is None or at + header.size > len(data):
                need = READ_BYTES if header is None else max(READ_BYTES, header.size)
                data, data_at, at = read(position, min(need, self.size - position)), position, 0
                header = batch_at(data, 0)
                if header is not None and header.size > len(data):
                    data = read(position, min(header.size, self.size - position))
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

    # -------------------------------------------------------------------------------------------- damage

    def find_damage(self, position: int, expected: int) -> Damage:
        """The damage that begins at position: the known one, or a new one up to the next valid batch."""
        for damage in self.damage:
            if damage.position == position:
                return damage
        what = what_is_wrong(self, position, expected)
        found = self.next_valid(position, expected, self.size, self.next_offset, lambda header: True)
        end_position, end_offset = (self.size, self.next_offset) if found is None else found
        return self.add_damage(position, end_position, expected, end_offset, what)

    def add_damage(self, position: int, end_position: int, first_offset: int, end_offset: int, what: str) -> Damage:
        damage = Damage(str(self.path()), position, end_position, first_offset, end_offset, what)
        self.damage.append(damage)
        self.on_damage(damage)
        return damage

    def next_valid(
        self, position: int, expected: int, end: int, offset_max: int, accept: Callable[[BatchHeader], bool]
    ) -> tuple[int, int] | None:
        """Where reading can go on behind an invalid batch at position (damage.py)."""
        known = positions_after(self._entries()[0], position)
        return next_valid(self, known, position, expected, end, offset_max, accept)
