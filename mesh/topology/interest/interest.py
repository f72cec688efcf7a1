"""Interest: what this node wants from the others, made small; and which of the others want a topic. Sans-IO."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from mesh.topology.interest.covering import Covering, shorten, widen
from mesh.topology.linkstate.nodestate import FILTER_LEVELS_MAX
from routing.filters.filter_trie import FilterTrie

TOPICS_CACHED = 50_000          # answers kept; beyond it the cache starts afresh
REBUILD_STEP = 1_000            # filters looked at per tick while the set is made anew, some 5 ms; making it smaller …
WIDEN_COST = 250                # … takes as long as looking at so many of them
REBUILD_EVERY_S = 1.0           # filters that go one after the other do not have it made anew without end
CHANGE_STEP = 200               # filters of others that are put in or taken out at a time: about 2 ms
LEVELS_OWN_MAX = FILTER_LEVELS_MAX // 2


class OwnInterest:
    """The filters of this node, aggregated: covered ones left out, capped by widening, kept a while when they go.

    A filter that comes is in the set at once. One that goes stays for linger_s; then the set is made anew, step by
    step, so that 100,000 subscriptions cost no pause.
    """

    def __init__(self, *, filters_max: int, linger_s: float) -> None:
        self._filters_max = filters_max
        self._linger_s = linger_s
        self._wanted: dict[str, None] = {}
        self._going: dict[str, float] = {}              # filter → when it is forgotten; in order of time
        self._set = Covering()
        self._next: Covering | None = None              # under construction
        self._todo: Iterator[str] = iter(())
        self._rebuilt_wide = False
        self._rebuild_due_s = -REBUILD_EVERY_S
        self._stale = False                             # something was forgotten: the set may be too wide
        self.widened = False                            # the cap was reached

    @property
    def filters(self) -> tuple[str, ...]:
        """What to tell the others, sorted."""
        return tuple(sorted(self._set.filters))

    @property
    def wanted_count(self) -> int:
        return len(self._wanted)

    def want(self, pattern: str) -> bool:
        """True when the set has changed. Topics that begin with $ do not leave a node, but for replies (direct.py)."""
        if pattern[:1] == "$":
            return False
        self._going.pop(pattern, None)
        self._wanted[pattern] = None
        pattern = shorten(pattern)
        if self._next is not None:
            self._put(self._next, pattern)
        if self._set.covers(pattern):
            return False
        self.widened = self._put(self._set, pattern) or self.widened
        return True

    def unwant(self, pattern: str, now_s: float) -> None:
        if pattern in self._wanted:
            self._going.pop(pattern, None)
            self._going[pattern] = now_s + self._linger_s

    def tick(self, now_s: float) -> bool:
        """True when the set has changed."""
        while self._going:
            pattern, until_s = next(iter(self._going.items()))
            if until_s > now_s:
                break
            del self._going[pattern]
            del self._wanted[pattern]
            self._stale = self._stale or self.widened or shorten(pattern) in self._set
            if self._next is not None:
                self._stale = True                      # it may be in what is being made
        if self._next is None:
            if not self._stale or now_s < self._rebuild_due_s:
                return False
            self._stale = False
            self._rebuild_due_s = now_s + REBUILD_EVERY_S
            self._next = Covering()
            self._rebuilt_wide = False
            self._todo = iter(list(self._wanted))
        return self._step()

    def _step(self) -> bool:
        assert self._next is not None
        budget = REBUILD_STEP
        while budget > 0:
            budget -= 1
            pattern = next(self._todo, None)
            if pattern is None:
                changed = self._next.filters.keys() != self._set.filters.keys()
                self._set, self._next = self._next, None
                self.widened = self._rebuilt_wide
                return changed
            if pattern in self._wanted and self._put(self._next, shorten(pattern)):
                self._rebuilt_wide = True
                budget -= WIDEN_COST
        return False

    def _put(self, covering: Covering, pattern: str) -> bool:
        """True when the cap made the set wider than what is wanted."""
        covering.add(pattern)
        if len(covering) <= self._filters_max and covering.levels <= LEVELS_OWN_MAX:
            return False
        widen(covering, max(1, self._filters_max * 3 // 4), LEVELS_OWN_MAX * 3 // 4)    # room for the next ones
        return True


class Wants:
    """The interest of all other nodes: which of them want a topic?"""

    def __init__(self) -> None:
        self._trie = FilterTrie()
        self._filters: dict[str, set[str]] = {}         # as they are in the trie
        self._due: dict[str, frozenset[str]] = {}       # node → what it wants, where the trie is not there yet
        self._answers: dict[str, tuple[str, ...]] = {}

    def set(self, node: str, filters: Iterable[str]) -> None:
        """No filters: the node is gone. A usual change is there at once; one of thousands of filters with some step().
        """
        self._due.pop(node, None)
        self._due[node] = frozenset(filters)
        if len(self._due) == 1:                         # else step() gets there: no more than one of them in a turn
            self.step()

    @property
    def is_behind(self) -> bool:
        return bool(self._due)

    def step(self) -> bool:
        """CHANGE_STEP of what is left: first what is wanted, then what is not wanted any more. True: there is more."""
        budget = CHANGE_STEP
        while self._due and budget > 0:
            node, wanted = next(iter(self._due.items()))
            has = self._filters.setdefault(node, set())
            before = budget
            for pattern in islice(wanted - has, budget):
                self._trie.add(pattern, node)
                has.add(pattern)
                budget -= 1
            for pattern in islice(has - wanted, budget):
                self._trie.remove(pattern, node)
                has.discard(pattern)
                budget -= 1
            if budget < before:
                self._answers.clear()
            if budget > 0:                              # all of it was done
                del self._due[node]
                if not has:
                    del self._filters[node]
        return bool(self._due)

    def of(self, topic: str) -> tuple[str, ...]:
        """Names of the nodes with a filter that matches, each once, sorted."""
        found = self._answers.get(topic)
        if found is None:
            if len(self._answers) >= TOPICS_CACHED:
                self._answers.clear()
            found = self._answers[topic] = tuple(sorted(set(self._trie.match(topic))))
        return found

    @property
    def count(self) -> int:
        """Filters of all nodes."""
        return self._trie.count

