"""A log that was put back from an older copy: `meshgate log restored DIR`, before its node starts.

What was stored after the copy was made is gone, but not unheard of: other nodes have pulled it, and they and Kafka
clients know its offsets. New events under the same offsets would be taken for those, and left out. So each partition
reserves as many as may have been given out since (committing/offsets.py), and the next start goes on behind them. The
name of the log stays: what others have of it they do not copy again.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from routing.log.committing.offsets import read_reservation, save_reservation
from routing.log.fs import RealFileSystem
from routing.log.inspect import ends
from routing.log.segments.index import RELATIVE_OFFSET_MAX

SKIPPED = RELATIVE_OFFSET_MAX       # of each partition: a thousand million events since the copy


def leave_out(root: Path) -> Iterator[tuple[Path, int]]:
    """Each partition of a data directory and the offset at which it will go on.

    Raises StorageError: a node has it open, or there is no log.
    """
    fs = RealFileSystem()
    lock = fs.lock(root / "lock")
    try:
        for directory, end in ends(root):
            said = read_reservation(fs, directory)
            if said - end < SKIPPED:                # else it was said already, and the node has not started since
                save_reservation(fs, directory, end + SKIPPED)
            yield directory, max(said, end + SKIPPED)
    finally:
        lock.release()
