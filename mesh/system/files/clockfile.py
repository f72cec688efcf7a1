"""The clock of this machine, and the note of it in the data directory: <data>/clock. See routing/clock.py.

    {"now_ms", "steady_ms", "settled_ms", "boot", "count_ms"} in JSON, then a line with the crc32c of that line

Read before the log is opened, written once a minute and at the end, only while this process has the log open. A note
that is lost or damaged is replaced by the time of the newest file of the log, so that a wrong clock at the next start
still has something to be compared with.
"""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import msgspec

from routing.clock import ClockNote, GuardedClock
from routing.log.fs import RealFileSystem, read_whole, replace_whole

logger = logging.getLogger(__name__)

FILE_NAME = "clock"
NOTE_EVERY_S = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def wall_clock_ms() -> int:
    """What the machine says; may be anything. Only the guarded clock asks it."""
    return time.time_ns() // 1_000_000


def asleep_ms() -> int:
    """How long this machine has slept since it was switched on, which monotonic time leaves out; 0 if unknown."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1_000_000


def boot_id() -> str:
    """Which run of the machine this is; "" when it does not say, and then each start counts as one after a reboot."""
    try:
        return _BOOT_ID.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def load_clock(root: Path, wall_ms: Callable[[], int] = wall_clock_ms) -> GuardedClock:
    """The node's clock, from the note in its data directory."""
    note = read_note(root / FILE_NAME)
    newest_ms = newest_file_ms(root / "streams") if note is None else None
    if newest_ms is not None:
        logger.warning("%s: no usable note of the clock; going on from the newest file of the log", root / FILE_NAME)
    return GuardedClock(wall_ms, time.monotonic_ns, asleep_ms, boot=boot_id(), note=note, newest_ms=newest_ms)


def read_note(path: Path) -> ClockNote | None:
    try:
        line, _, rest = read_whole(RealFileSystem(), path).partition(b"\n")
    except OSError:
        return None
    try:
        crc = int(rest.strip() or b"-1", 16)
        note = msgspec.json.decode(line, type=ClockNote)
    except (ValueError, msgspec.MsgspecError):
        return None
    return note if google_crc32c.value(line) == crc else None


def write_note(root: Path, note: ClockNote) -> None:
    """A disk that is full or broken is somebody else's to report."""
    line = msgspec.json.encode(note)
    try:
        replace_whole(
            RealFileSystem(), root / FILE_NAME, line + b"\n%08x\n" % google_crc32c.value(line), durable=True)
    except OSError as error:
        logger.debug("%s: cannot be written: %s", root / FILE_NAME, error)


def newest_file_ms(streams: Path) -> int | None:
    """When a segment was written last; None when there is none."""
    newest = None
    for directory, _, names in os.walk(streams):
        for name in names:
            if name.endswith(".log"):
                try:
                    modified_ms = os.stat(os.path.join(directory, name)).st_mtime_ns // 1_000_000
                except OSError:
                    continue
                newest = modified_ms if newest is None else max(newest, modified_ms)
    return newest
