"""Which sealed segments keep their file and summary open: those that were read last, of all partitions together.

Used by the readers of one store. Each partition has the file of its active segment open besides, so 1,000 partitions
need 1,000 descriptors and not three or seventeen times as many.
"""
from __future__ import annotations

from collections import OrderedDict

from routing.log.segment import Segment

OPEN_SEGMENTS_MAX = 256         # a quarter of what limits.py keeps free for the log


class OpenSegments:
    """Loop thread only."""

    __slots__ = ("_recent", "count_max")

    def __init__(self, count_max: int = OPEN_SEGMENTS_MAX) -> None:
        self.count_max = count_max
        self._recent: OrderedDict[Segment, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def use(self, segment: Segment) -> None:
        """The segment is read now; the one that was not for the longest time goes for it."""
        self._recent[segment] = None
        self._recent.move_to_end(segment)
        if len(self._recent) > self.count_max:
            oldest, _ = self._recent.popitem(last=False)
            oldest.close()
            oldest.drop_summary()

    def forget(self, segment: Segment) -> None:
        self._recent.pop(segment, None)
        segment.close()
