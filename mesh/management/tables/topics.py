"""Topics of the stored events, as a tree with counts.

    topics                    the first level        topics?under=plant/graz      what is below of it
    topics?flat=1             all topics

Counted from the summaries of the segments (routing/log/segments/summary.py), so nothing is read but where a segment has
more topics than its summary lists. What was counted is kept, and only what was added since is looked at; when retention
has taken something, a partition is counted afresh. Topics beyond TOPICS_MAX are counted together.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.router import Router

TOPICS_MAX: Final = 100_000         # of a node: some 20 MB with their counts
STEP_SCANNED: Final = 2_048
PASS: Final = 500                   # topics put in the tree in one step


class Counted:
    """Of one partition."""

    __slots__ = ("counts", "next", "others", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.next = start
        self.counts: Counter[str] = Counter()
        self.others = 0             # events of topics that found no room


class TopicCounts:
    """One per node. Loop thread only."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._by_partition: dict[Partition, Counted] = {}

    def rows(self, under: str = "", *, flat: bool = False) -> Iterator[dict[str, Any] | None]:
        """Levels below a topic, each with what is at it and below it. In steps; None: a step without a row."""
        for partition in self._known():
            yield from self._count(partition)
        found: dict[str, dict[str, Any]] = {}
        prefix = f"{under}/" if under else ""
        number = 0
        for partition, counted in list(self._by_partition.items()):
            for topic, count in list(counted.counts.items()):
                number += 1
                if number % PASS == 0:
                    yield None
                if prefix and not topic.startswith(prefix):
                    continue
                level = topic if flat else topic[len(prefix):].partition("/")[0]
                full = topic if flat else prefix + level
                row = found.get(full)
                if row is None:
                    row = found[full] = {"topic": full, "level": level, "events": 0, "below": 0, "topics": 0,
                                         "streams": []}
                row["topics"] += 1
                row["events" if topic == full else "below"] += count
                if partition.stream not in row["streams"]:
                    row["streams"].append(partition.stream)
        yield from found.values()

    def extra(self) -> dict[str, Any]:
        """others: events whose topics are not listed, for there are too many."""
        return {"topics_counted": self._size(), "others": sum(one.others for one in self._by_partition.values())}

    def _known(self) -> list[Partition]:
        found = [partition for stream in list(self._router.streams) for partition in stream.partitions]
        self._by_partition = {partition: counted for partition, counted in self._by_partition.items()
                              if partition in set(found)}
        return found

    def _size(self) -> int:
        return sum(len(counted.counts) for counted in self._by_partition.values())

    def _count(self, partition: Partition) -> Iterator[None]:
        counted = self._by_partition.get(partition)
        if counted is None or counted.start != partition.start_offset:
            counted = self._by_partition[partition] = Counted(partition.start_offset)
        room = TOPICS_MAX - self._size()
        end = partition.end_offset
        while counted.next < end:
            found = partition.tally(counted.next, until=end, max_scanned=STEP_SCANNED)
            for topic, count in found.counts.items():
                if topic in counted.counts:
                    counted.counts[topic] += count
                elif room > 0:
                    room -= 1
                    counted.counts[topic] = count
                else:
                    counted.others += count
            counted.next = max(found.next_offset, counted.next + 1)
            yield None
