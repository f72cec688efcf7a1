"""The file `<partition>/origins`: where batches come from that other nodes sent as they had stored them.

    crc32c [first, next, offset there, flow, node, epoch, stream, index]    a line for each run of batches in a commit

A line is on disk before its batches are written, so no batch of another node is ever taken for one of ours. What a line
says of offsets that the log has not got, after a crash, is taken off when the partition is opened; and a commit that
fails takes its lines back.

Loaded by the loop at start. Then the writer appends, within one commit at a time (commit.py).
"""
from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Final

import msgspec

from routing.log.fs import SHORTAGE, File, FileSystem, read_whole, replace_whole
from routing.log.records.origins import OriginTable, Span, decode_line, encode_line

log = logging.getLogger(__name__)

NAME: Final = "origins"
SHORTEN_AT: Final = 256 * 1024          # bytes; a file that is longer, and has four times what is needed, is made anew
LINE_BYTES: Final = 150                 # of a usual line
CUT_TRIES: Final = 5


class OriginFile:
    def __init__(self, fs: FileSystem, directory: Path) -> None:
        self.path = directory / NAME
        self.size = 0                               # bytes that count
        self._fs = fs
        self._file: File | None = None              # while a commit is under way that has appended

    def load(self, table: OriginTable, next_offset: int) -> list[str]:
        """Fill an empty table. next_offset: where the log ends. Returns what is damaged. Raises OSError."""
        if not self._fs.exists(self.path):
            return []
        data = read_whole(self._fs, self.path)
        lines = data.split(b"\n")
        spans = [decode_line(line) for line in lines[:-1]]
        torn = bool(lines[-1])
        while spans and spans[-1] is None:          # a loss of power left more than one page of it
            spans.pop()
            torn = True
        damaged: list[str] = []
        for span in spans:
            if span is None:
                damaged.append(f"{self.path}: a line is damaged; what it told of counts as this node's own from now on")
            elif span.first < next_offset and span.first >= (table.spans[-1].next if table else 0):
                table.add(msgspec.structs.replace(span, next=min(span.next, next_offset)))
        self.size = len(data)
        if torn or any(span is None or span.next > next_offset for span in spans) or self.wants_shortening(table):
            self.shorten(table.spans)
        return damaged

    def append(self, lines: bytes) -> None:
        """Make them last. Raises OSError; then, and when the commit fails, cut() must be called, else close()."""
        self._file = self._fs.open(self.path, create=True)
        if self._file.pwrite(lines, self.size) != len(lines):
            raise OSError(errno.ENOSPC, "short write", str(self.path))
        self._file.datasync()
        if not self.size:
            self._fs.sync_directory(self.path.parent)

    def cut(self) -> None:
        """Take back what was appended last. Raises OSError."""
        for tries_left in reversed(range(CUT_TRIES)):
            if self._file is None:
                return                              # nothing was
            try:
                self._file.truncate(self.size)
                self._file.datasync()
                self.close()
            except OSError as error:
                if not tries_left or error.errno not in SHORTAGE:
                    raise

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def shorten(self, spans: list[Span]) -> None:
        """Make it anew, with these only. Raises OSError, and is then as it was."""
        data = b"".join(map(encode_line, spans))
        replace_whole(self._fs, self.path, data, durable=True)
        self.size = len(data)

    def wants_shortening(self, table: OriginTable) -> bool:
        return self.size > max(SHORTEN_AT, 4 * LINE_BYTES * len(table.spans))
