"""Interest: the topic filters of one consumer, and the answer to "does it want this event?".

A filter that was added later is fresh: it does not reach back before the moment it was added, even while the consumer
is still reading older events for its other filters.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from routing.event import Event
from routing.filters.filter_trie import FilterTrie
from routing.topic import KEPT_CHARS_MAX, filter_matches, is_wildcard

if TYPE_CHECKING:
    from routing.log.partition import Partition

ANSWER_BYTES = 160          # of an answer beside its topic
LINEAR_MAX = 16             # more filters than this stand in a trie, too


def _nothing(topic: str) -> bool:
    return False


class AnswerMemory:
    """What the answers of all consumers together take. When it is too much, all of them start afresh."""

    __slots__ = ("_bytes", "_bytes_max", "_tables")

    def __init__(self, bytes_max: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._tables: list[dict[str, bool]] = []        # those that have something in them

    def keep(self, answers: dict[str, bool], topic: str) -> None:
        """One more answer will be kept in this table."""
        self._bytes += len(topic) + ANSWER_BYTES
        if self._bytes > self._bytes_max():
            for table in self._tables:
                table.clear()
            self._tables.clear()
            self._bytes = len(topic) + ANSWER_BYTES
        if not answers:
            self._tables.append(answers)


class Judge(Protocol):
    """What decides where the topic does not: the bindings of a queue."""

    @property
    def needed(self) -> bool:
        """Is there anything to decide?"""
        ...

    def take(self, event: Event, patterns: list[str]) -> bool:
        """patterns: the filters that match its topic."""
        ...


class Interest:
    """Filters, what is fresh among them, and a cache of answers per topic."""

    __slots__ = ("_answers", "_may_read", "_memory", "_trie", "_wild", "fresh", "judge", "patterns", "unstored")

    def __init__(self, may_read: Callable[[str], bool], memory: AnswerMemory) -> None:
        """may_read(topic): the policy's answer for the consumer's owner."""
        self._memory = memory
        self.patterns: dict[str, None] = {}                 # changed by add() and remove() only
        self.unstored: dict[str, None] = {}                 # those that the registry has not stored
        self.fresh: dict[str, dict[Partition, int]] = {}    # pattern → first offset that it wants
        self.judge: Judge | None = None
        self._answers: dict[str, bool] = {}
        self._may_read = may_read
        self._wild = 0                                      # how many of the patterns have a wildcard
        self._trie: FilterTrie | None = None                # of the patterns, once there are many and somebody asks

    def let_go(self) -> None:
        """The consumer is gone. Without this it would stay until a garbage collection: it is in may_read."""
        self._may_read = _nothing
        self._answers = {}
        self.judge = None

    @property
    def by_event(self) -> bool:
        """wants() is not enough: ask wants_event()."""
        return bool(self.fresh) or (self.judge is not None and self.judge.needed)

    def add(self, pattern: str) -> None:
        if pattern in self.patterns:
            return
        self.patterns[pattern] = None
        self.unstored[pattern] = None
        self._wild += is_wildcard(pattern)
        if self._trie is not None:
            self._trie.add(pattern, pattern)

    def remove(self, pattern: str) -> None:
        del self.patterns[pattern]
        self.unstored.pop(pattern, None)
        self.fresh.pop(pattern, None)
        self._wild -= is_wildcard(pattern)
        if self._trie is not None:
            self._trie.remove(pattern, pattern)

    def matching(self, topic: str) -> list[str]:
        """The filters that match a topic."""
        if not self._wild:
            return [topic] if topic in self.patterns else []
        if len(self.patterns) <= LINEAR_MAX:
            return [pattern for pattern in self.patterns if filter_matches(pattern, topic)]
        if self._trie is None:
            self._trie = FilterTrie()
            for pattern in self.patterns:
                self._trie.add(pattern, pattern)
        return self._trie.match(topic)

    def forget_answers(self) -> None:
        """Filters or rules are not what they were."""
        if self._answers:
            self._answers = {}

    def from_the_start(self) -> Interest:
        """The same filters, all of which reach back as far as there is anything."""
        copy = Interest(self._may_read, self._memory)
        copy.patterns = dict(self.patterns)
        copy._wild = self._wild
        copy.judge = self.judge
        return copy

    @property
    def exact_topics(self) -> Collection[str] | None:
        """The topics that it may want, when its filters have no wildcard. Whether it may read them is another thing."""
        return None if self._wild else self.patterns

    def wants(self, topic: str, *, matched: bool = False) -> bool:
        """True when a filter matches the topic, which who asks may know already, and the owner may read it."""
        answer = self._answers.get(topic)
        if answer is None:
            answer = (matched or bool(self.matching(topic))) and self._may_read(topic)
            if len(topic) <= KEPT_CHARS_MAX:
                self._memory.keep(self._answers, topic)
                self._answers[topic] = answer
        return answer

    def wants_event(self, event: Event) -> bool:
        """As wants(), and no filter reaches back before it was added."""
        if not self.wants(event.topic):
            return False
        if self.judge is not None and self.judge.needed and not self.judge.take(event, self.matching(event.topic)):
            return False
        if not self.fresh:
            return True
        return any(
            event.offset >= self.fresh.get(pattern, {}).get(event.partition, 0)
            for pattern in self.matching(event.topic)
        )
