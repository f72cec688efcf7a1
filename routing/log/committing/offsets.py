"""Offsets are never used twice, even where a power failure takes committed events: durability "write".

With "fsync" nobody ever saw an event that was not on disk, so what recovery cuts off had no offset yet. With "write"
readers may have seen a suffix that is then lost, and may keep cursors behind the end. So such a partition reserves
offsets in a synced file before it uses them, RESERVED at a time, and after anything but a clean stop goes on where
the reservation ends. An empty batch stands for the offsets left out, so that the chain of batches has no hole.

    <partition>/reserved:  offset (8) | crc32c of it (4)        there while the partition is open, and after a crash
"""
from __future__ import annotations

import logging
import struct
from pathlib import Path

import google_crc32c

from routing.log.fs import FileSystem, read_whole, replace_whole

log = logging.getLogger(__name__)

RESERVED = 1_000_000
UNKNOWN = -1
FILE_NAME = "reserved"

_FORM = struct.Struct(">qI")
TRIM_NAME = "start"                 # <partition>/start, of the same form: records before it were deleted


def save_trim(fs: FileSystem, directory: Path, offset: int) -> None:
    """Make it last that records before offset are deleted."""
    number = struct.pack(">q", offset)
    replace_whole(fs, directory / TRIM_NAME, number + struct.pack(">I", google_crc32c.value(number)), durable=True)


def read_trim(fs: FileSystem, directory: Path) -> int:
    """The first offset that was not deleted; 0 when none was, or when that is not known any more."""
    found = _read(fs, directory / TRIM_NAME)
    if found == UNKNOWN:
        log.error("%s: damaged: records that were deleted may be read again", directory / TRIM_NAME)
    return max(found, 0)


def save_reservation(fs: FileSystem, directory: Path, offset: int) -> None:
    """Make it last that offsets below offset may have been used."""
    number = struct.pack(">q", offset)
    replace_whole(fs, directory / FILE_NAME, number + struct.pack(">I", google_crc32c.value(number)), durable=True)


def read_reservation(fs: FileSystem, directory: Path) -> int:
    """The offset below which all may have been used; 0 when nothing says so, UNKNOWN when the file is damaged."""
    return _read(fs, directory / FILE_NAME)


def _read(fs: FileSystem, path: Path) -> int:
    try:
        data = read_whole(fs, path)
    except FileNotFoundError:
        return 0
    if len(data) == _FORM.size:
        offset, crc = _FORM.unpack(data)
        if google_crc32c.value(data[:8]) == crc:
            return int(offset)
    return UNKNOWN


def drop_reservation(fs: FileSystem, directory: Path) -> None:
    """After a clean stop the end of the log says it all."""
    if fs.exists(directory / FILE_NAME):
        fs.remove(directory / FILE_NAME)
        fs.sync_directory(directory)
