"""Interest: the topic filters of one consumer, and the answer to "does it want this event?".

A filter that was added later is fresh: it does not reach back before the moment it was added, even while the consumer
is still reading older events for its other filters.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from routing.event import Event
from routing.topic import filter_matches, is_wildcard

if TYPE_CHECKING:
    from routing.log.partition import Partition

TOPICS_CACHED = 50_000      # answers kept; beyond it the cache starts afresh


class Interest:
    """Filters, what is fresh among them, and a cache of answers per topic."""

    __slots__ = ("_answers", "_may_read", "_wild", "fresh", "patterns")

    def __init__(self, may_read: Callable[[str], bool]) -> None:
        """may_read(topic): the policy's answer for the consumer's owner."""
        self.patterns: dict[str, None] = {}
        self.fresh: dict[str, dict[Partition, int]] = {}    # pattern → first offset that it wants
        self._answers: dict[str, bool] = {}
        self._may_read = may_read
        self._wild: list[str] | None = None                 # the patterns with a wildcard

    def forget_answers(self) -> None:
        """Filters or rules are not what they were."""
        self._answers.clear()
        self._wild = None

    def from_the_start(self) -> Interest:
        """The same filters, all of which reach back as far as there is anything."""
        copy = Interest(self._may_read)
        copy.patterns = dict(self.patterns)
        return copy

    @property
    def exact_topics(self) -> Collection[str] | None:
        """The topics that it may want, when its filters have no wildcard. Whether it may read them is another thing."""
        return None if self._wildcards() else self.patterns

    def _wildcards(self) -> list[str]:
        if self._wild is None:
            self._wild = [pattern for pattern in self.patterns if is_wildcard(pattern)]
        return self._wild

    def wants(self, topic: str) -> bool:
        """True when a filter matches the topic and the owner may read it."""
        answer = self._answers.get(topic)
        if answer is None:
            answer = (topic in self.patterns or any(
                filter_matches(pattern, topic) for pattern in self._wildcards())) and self._may_read(topic)
            if len(self._answers) >= TOPICS_CACHED:
                self._answers.clear()
            self._answers[topic] = answer
        return answer

    def wants_event(self, event: Event) -> bool:
        """As wants(), and no filter reaches back before it was added."""
        if not self.wants(event.topic):
            return False
        if not self.fresh:
            return True
        return any(
            filter_matches(pattern, event.topic)
            and event.offset >= self.fresh.get(pattern, {}).get(event.partition, 0)
            for pattern in self.patterns
        )
