"""Which events of one origin partition are wanted: filters that count for intervals of its offsets.

Selection answers, alike at both ends: is the event with this topic at this offset wanted? Its answer depends on nothing
but its wants and excludes, so a part of the log that is looked at twice gives the same events twice.
History is the destination's durable memory of what each filter has brought, so that a back-fill brings only the rest.

    a/#   ─────────[since ═══════════════════ until)──────[since ════════►      two intervals of one filter
    a/b   ═══════════════════ until)────────────────────────────────────
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesh.replication.caches import CacheMemory
from mesh.replication.messages import OPEN, Want
from routing.filters.filter_trie import FilterTrie
from routing.topic import KEPT_CHARS_MAX, filter_covers, filter_matches, filters_intersect

END = 1 << 62                   # stands for "no end" where intervals are compared
ANSWER_BYTES = 240              # of an answer beside its topic

Span = tuple[int, int]          # from, to (exclusive)
Spans = tuple[Span, ...]        # sorted, apart from each other

NEVER: Spans = ()
ALWAYS: Spans = ((0, END),)


def stop_of(want: Want) -> int:
    return END if want.until == OPEN else want.until


class Selection:
    """Wants that are all resolved (since ≥ 0) less excludes, of topics that every list in `only` allows."""

    __slots__ = ("_answers", "_except", "_first", "_is_open", "_memory", "_steady_from", "_stop", "_wants", "excludes",
                 "only", "wants")

    def __init__(self, wants: Sequence[Want], excludes: Sequence[Want] = (),
                 only: Iterable[Sequence[str]] = (), memory: CacheMemory | None = None) -> None:
        """memory: shared by the caches of many; let_go() when this one is not used any more."""
        self.wants = tuple(wants)
        self.excludes = tuple(excludes)
        self.only = tuple(tuple(patterns) for patterns in only)
        self._memory = memory or CacheMemory()
        self._answers: dict[str, Spans] = {}
        edges = [want.since for want in (*self.wants, *self.excludes)]
        edges += [want.until for want in (*self.wants, *self.excludes) if want.until != OPEN]
        self._steady_from = max(edges, default=0)
        self._first = min((want.since for want in self.wants), default=END)
        self._is_open = all(want.until == OPEN for want in self.wants)
        self._stop = max((stop_of(want) for want in self.wants), default=0)
        self._wants, self._except = FilterTrie(), FilterTrie()
        for trie, entries in ((self._wants, self.wants), (self._except, self.excludes)):
            for want in entries:
                trie.add(want.filter, want)

    def spans(self, topic: str) -> Spans:
        """The offsets for which the topic is wanted."""
        found = self._answers.get(topic)
        if found is None:
            found = self._spans(topic)
            if len(topic) <= KEPT_CHARS_MAX:
                self._memory.keep(self._answers, len(topic) + ANSWER_BYTES)
                self._answers[topic] = found
        return found

    def let_go(self) -> None:
        """Forget what is cached."""
        self._memory.forget(self._answers)
        self._answers.clear()

    def _spans(self, topic: str) -> Spans:
        for patterns in self.only:
            if not any(filter_matches(pattern, topic) for pattern in patterns):
                return NEVER
        plus = [(want.since, stop_of(want)) for want in self._wants.match(topic)]
        if not plus:
            return NEVER
        return subtract(union(plus), union((want.since, stop_of(want)) for want in self._except.match(topic)))

    def wants_event(self, topic: str, offset: int) -> bool:
        return any(start <= offset < stop for start, stop in self.spans(topic))

    def wants_from(self, topic: str, offset: int) -> bool:
        """True when some event of the topic at or after offset is wanted."""
        spans = self.spans(topic)
        return bool(spans) and spans[-1][1] > offset

    def next_from(self, offset: int) -> int:
        """The first offset at or after `offset` that some want reaches; END when there is none."""
        if self._is_open:                       # most are: no look at thousands of wants for each commit
            return max(self._first, offset)
        found = END
        for want in self.wants:
            if stop_of(want) > offset:
                found = min(found, max(want.since, offset))
        return found

    def stop(self) -> int:
        """Nothing is wanted from here on; END: there is no such offset."""
        return self._stop

    def steady_from(self) -> int:
        """Beyond this offset the answer depends on the topic alone, if nothing has an end there."""
        return self._steady_from


def union(spans: Iterable[Span]) -> Spans:
    out: list[Span] = []
    for start, stop in sorted(spans):
        if stop <= start:
            continue
        if out and start <= out[-1][1]:
            if stop > out[-1][1]:
                out[-1] = out[-1][0], stop
        else:
            out.append((start, stop))
    return tuple(out)


def subtract(spans: Spans, gone: Spans) -> Spans:
    """What of spans is not in gone."""
    if not gone:
        return spans
    out: list[Span] = []
    for start, stop in spans:
        at = start
        for low, high in gone:
            if high <= at or low >= stop:
                continue
            if low > at:
                out.append((at, low))
            at = max(at, high)
        if at < stop:
            out.append((at, stop))
    return tuple(out)


def strip_prefix(pattern: str, prefix: str) -> str | None:
    """The filter F' that matches t exactly when `pattern` matches prefix + t; None: there is no such t.

    prefix: "" or whole levels with a "/" at the end, as in "lyon/".
    """
    if not prefix:
        return pattern
    levels = pattern.split("/")
    for index, level in enumerate(prefix.rstrip("/").split("/")):
        if index >= len(levels):
            return None
        if levels[index] == "#":
            return "#"
        if levels[index] not in ("+", level) or (index == 0 and level[:1] == "$" and levels[0] == "+"):
            return None
    rest = levels[len(prefix.rstrip("/").split("/")):]
    return "/".join(rest) if rest else None


class History:
    """What the flows of one origin partition have brought, as wants; those that are open belong to the live flow.

    Nothing is known of offsets below `horizon`: what was brought there was forgotten, so nothing is brought again.
    """

    __slots__ = ("horizon", "intervals")

    def __init__(self, intervals: Iterable[Want] = (), horizon: int = 0) -> None:
        self.intervals = list(intervals)
        self.horizon = horizon

    def open(self) -> dict[str, int]:
        """Filters of the live flow → since."""
        return {want.filter: want.since for want in self.intervals if want.until == OPEN}

    def add(self, pattern: str, since: int, until: int = OPEN) -> None:
        if until == OPEN or until > since:
            self.intervals.append(Want(pattern, since, until))

    def close(self, pattern: str, until: int) -> None:
        """The live flow wants a filter no more, from offset until on."""
        found = [want for want in self.intervals if want.filter == pattern and want.until == OPEN]
        for want in found:
            self.intervals.remove(want)
            self.add(pattern, want.since, max(until, want.since))

    def counting(self, offset: int) -> list[Want]:
        """What may still count at or after offset."""
        return [want for want in self.intervals if stop_of(want) > offset]

    def missing(self, pattern: str, start: int, stop: int) -> Spans:
        """The parts of [start, stop) for which nothing brought every event of the filter."""
        had = union((want.since, stop_of(want)) for want in self.intervals if filter_covers(want.filter, pattern))
        start = max(start, self.horizon)
        return subtract(((start, stop),), had) if start < stop else ()

    def excludes(self, patterns: Iterable[str], start: int, stop: int) -> list[Want]:
        """What was brought of these filters in [start, stop)."""
        wanted = list(patterns)
        return [
            Want(want.filter, max(want.since, start), min(stop_of(want), stop)) for want in self.intervals
            if want.since < stop and stop_of(want) > start
            and any(filters_intersect(want.filter, pattern) for pattern in wanted)
        ]

    def compact(self, first: int, intervals_max: int) -> int:
        """Make it short. first: the origin has nothing below. Returns how far the horizon rose, 0: not at all."""
        by_filter: dict[str, list[Want]] = {}
        for want in self.intervals:
            if stop_of(want) > first:
                by_filter.setdefault(want.filter, []).append(want)
        self.intervals = [
            Want(pattern, start, OPEN if stop == END else stop)
            for pattern, wants in by_filter.items()
            for start, stop in union((want.since, stop_of(want)) for want in wants)
        ]
        if len(self.intervals) <= intervals_max:
            return 0
        self.intervals = [
            want for want in self.intervals
            if want.until == OPEN or not any(
                other is not want and other.since <= want.since and stop_of(other) >= want.until
                and other.filter != want.filter and filter_covers(other.filter, want.filter)
                for other in self.intervals)
        ]
        before = self.horizon
        closed = sorted((want for want in self.intervals if want.until != OPEN), key=lambda want: want.until)
        for want in closed[:max(0, len(self.intervals) - intervals_max)]:
            self.intervals.remove(want)
            self.horizon = max(self.horizon, want.until)
        return max(0, self.horizon - before)
