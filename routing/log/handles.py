"""Which sealed segments keep their file and summary open: those that were read last, of all partitions together.

Used by the readers of one store. Each partition has the file of its active segment open besides, so 1,000 partitions
need 1,000 descriptors and not three or seventeen times as many.
"""
from __future__ import annotations

from collections import OrderedDict

from routing.log.segments.segment import Segment

SUMMARIES_BYTES_MAX = 64 * 1024 * 1024      # of all of them; one takes 15 MiB at the most
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
        if self._recent and next(reversed(self._recent)) is segment:
            return
        self._recent[segment] = None
        self._recent.move_to_end(segment)
        self._bound_summaries()
        if len(self._recent) > self.count_max:
            oldest, _ = self._recent.popitem(last=False)
            oldest.close()
            oldest.drop_summary()

    def _bound_summaries(self) -> None:
        """Those that were used last keep theirs; the one in use now may not be read yet and counts with the next."""
        size = 0
        for segment in reversed(self._recent):
            size += segment.summary_bytes
            if size > SUMMARIES_BYTES_MAX:
                segment.drop_summary()

    def forget(self, segment: Segment) -> None:
        self._recent.pop(segment, None)
        segment.close()
