"""Late wishes: a filter counts from the moment when it was wanted here, not from when the other node heard of it.

    wish ───── the other node is cut off, or the question was lost ─────► asked: by the time of the wish
     │
     ├─ the live flow has not passed that moment: it brings the filter from there on, in order      the usual case
     └─ it has (only one direction was cut): a back-fill brings what was passed, see Branch.late

A node that we know is noted with every new filter until all flows from it count that filter. When a durable consumer or
[[replicate]] wanted a filter first is stored, so a restart in between makes no later wish of it; when a live
subscription did is not, the program subscribes again. Used by intake.py only.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.replication.filters import strip_prefix
from mesh.replication.incoming.wants import Needs, by_time, earliest
from mesh.replication.messages import EARLIEST, Want
from mesh.topology.interest.covering import Covering
from routing.filters.filter_trie import FilterTrie
from routing.topic import filter_covers, filters_intersect

if TYPE_CHECKING:
    from routing.state import StateTable

log = logging.getLogger(__name__)

NOTES_MAX: Final = 10_000       # per node; beyond it they are joined, which brings more than was wanted, never less
WITHDRAWN: Final = -1           # instead of a time: nobody wants it, but it lingers
STATE_PREFIX: Final = "wanted/"


class Wishes:
    """When each filter was first wanted here, and which nodes may not know of it yet. Loop thread only."""

    def __init__(self, state: StateTable, clock_ms: Callable[[], int], filters_max: int) -> None:
        self.since_ms: dict[str, int] = {}              # filter → when it was first wanted here, by our wall clock
        self._state = state
        self._clock_ms = clock_ms
        self._filters_max = filters_max
        self._unwanted_s: dict[str, float] = {}         # filter that went → when; forgotten after it has lingered
        self._untold: dict[str, dict[str, int]] = {}    # node → filter → when it was wanted, WITHDRAWN

    def restore(self, wanted: Iterable[str], counting: Iterable[tuple[str, Iterable[str]]]) -> None:
        """At start. counting: of every partition that is pulled its node, and the filters that count there."""
        alive = set(wanted)
        for pattern, ms in self._state.decoded(STATE_PREFIX, int, "wish"):
            if pattern in alive:
                self.since_ms[pattern] = ms
            else:
                self._state.delete(STATE_PREFIX + pattern)
        for node, filters in counting:
            known = Covering(filters)
            notes = self._untold.setdefault(node, {})
            notes.update((pattern, ms) for pattern, ms in self.since_ms.items() if not known.covers(pattern))

    # -- wishes -----------------------------------------------------------------------------------------------

    def want(self, pattern: str, nodes: Iterable[str], aggregated: Callable[[], Iterable[str]], *,
             changed: bool, durable: bool) -> None:
        """A filter is wanted here. nodes: all that we know; changed: what we want of them is more than it was.

        durable: it will be wanted after a restart, too, see keep().
        """
        again = self._unwanted_s.pop(pattern, None) is not None
        new = pattern not in self.since_ms
        if not (new or again):
            return
        now_ms = self._clock_ms()
        self.since_ms.setdefault(pattern, now_ms)
        if pattern[:1] == "$":
            return
        noted = changed
        for node in nodes:
            notes = self._untold.setdefault(node, {})
            if changed or notes:                        # else it lies within what that node knows already
                noted = True
                notes[pattern] = now_ms
                if len(notes) > NOTES_MAX:
                    self._join(node, notes, aggregated())
        if new and (noted or durable):
            self.keep(pattern)

    def keep(self, pattern: str) -> None:
        """Somebody wants the filter who will be there after a restart: nodes that are first seen then must know the
        moment, too, even when a wider filter covers it now.
        """
        if pattern in self.since_ms and pattern[:1] != "$" and self._state.get(STATE_PREFIX + pattern) is None:
            self._state.put(STATE_PREFIX + pattern, msgspec.msgpack.encode(self.since_ms[pattern]))

    def moment_ms(self, pattern: str) -> int:
        """When it was first wanted here."""
        return self.since_ms.get(pattern, self._clock_ms())

    def lower(self, pattern: str, ms: int) -> None:
        """It was wanted earlier, at another node, by somebody who is here now."""
        self.lower_unseen(pattern, ms)
        for notes in self._untold.values():
            if notes.get(pattern, WITHDRAWN) > ms:
                notes[pattern] = ms

    def lower_unseen(self, pattern: str, ms: int) -> None:
        """The same for nodes that we never had anything of."""
        if pattern in self.since_ms and ms < self.since_ms[pattern] and pattern[:1] != "$":
            self.since_ms[pattern] = ms
            self._state.put(STATE_PREFIX + pattern, msgspec.msgpack.encode(ms))

    def _join(self, node: str, notes: dict[str, int], aggregated: Iterable[str]) -> None:
        first_ms = min((ms for ms in notes.values() if ms != WITHDRAWN), default=self._clock_ms())
        log.warning("more than %d filters are new here since node %s was heard: they count from the first of them",
                    NOTES_MAX, node)
        notes.clear()
        notes.update(dict.fromkeys(aggregated, first_ms))

    def unwant(self, pattern: str, now_s: float) -> None:
        """Nobody wants it any more; it lingers."""
        self._unwanted_s[pattern] = now_s
        for notes in self._untold.values():
            if pattern in notes:
                notes[pattern] = WITHDRAWN

    def forget(self, before_s: float) -> None:
        """A filter that is wanted again after it had lingered is a new one."""
        for pattern in [pattern for pattern, at_s in self._unwanted_s.items() if at_s < before_s]:
            del self._unwanted_s[pattern], self.since_ms[pattern]
            if self._state.get(STATE_PREFIX + pattern) is not None:
                self._state.delete(STATE_PREFIX + pattern)
            for notes in self._untold.values():
                notes.pop(pattern, None)

    # -- nodes ------------------------------------------------------------------------------------------------

    @property
    def untold(self) -> list[str]:
        """Nodes that may not know of some filter yet."""
        return [node for node, notes in self._untold.items() if notes]

    def wants(self, node: str, captures: tuple[str, ...], fitting: list[str], counting: Iterable[str], prefix: str,
              skew_ms: int) -> dict[str, Want]:
        """What is asked of a pulled partition by the time of the wish, in the node's terms and by its clock.

        fitting: all that is wanted there, aggregated. A filter that lies within a wider one, but was wanted before
        it, is asked for beside it: the wider one must not reach back for its sake.
        """
        notes = self._untold.get(node)
        if not notes:
            return {}
        known = Covering(counting)
        found: dict[str, int] = {}
        for pattern, ms in notes.items():
            bare = strip_prefix(pattern, prefix)
            if ms != WITHDRAWN and bare is not None and may_hold(captures, bare) and not known.covers(bare):
                found[bare] = min(ms, found.get(bare, ms))
        if len(found) > self._filters_max:              # as many as one node may be asked for
            first_ms = min(found.values())
            return {wide: by_time(wide, first_ms + skew_ms) for wide in fitting if not known.covers(wide)}
        asked: dict[str, Want] = {}
        taken = Covering()
        for bare, ms in sorted(found.items(), key=lambda one: one[1]):
            if not taken.covers(bare):
                taken.add(bare)
                asked[bare] = by_time(bare, ms + skew_ms)
        return asked

    def first_wants(self, captures: tuple[str, ...], fitting: list[str], before: list[str], needs: Needs, prefix: str,
                    skew_ms: int) -> dict[str, Want]:
        """Of a partition that was never pulled. before: filters that were live on it before its log was made anew.

        As above: what was wanted before we knew of the partition is wanted from that moment on, and a filter that lies
        within a wider one is asked for beside it. It goes when the flow has come to where the wider one counts.
        """
        since_ms = {bare: ms for one, ms in self.since_ms.items()
                    if (bare := strip_prefix(one, prefix)) is not None and may_hold(captures, bare)}

        def first(pattern: str, ms: int) -> Want:
            need = next((need for one, need in needs.items() if filter_covers(one, pattern)), None)
            if any(filter_covers(wide, pattern) for wide in before) or (need and need.since == EARLIEST):
                return earliest(pattern)
            return by_time(pattern, (min(ms, need.since_ms) if need else ms) + skew_ms)

        trie = FilterTrie()
        for pattern in fitting:
            trie.add(pattern, pattern)
        below: dict[str, dict[str, int]] = {}
        for one, ms in since_ms.items():                # not each with each: both may be hundreds
            for pattern in trie.match(one):
                if filter_covers(pattern, one):
                    below.setdefault(pattern, {})[one] = ms
        wants: dict[str, Want] = {}
        for pattern in fitting:
            covered = below.get(pattern, {})
            wide_ms = since_ms.get(pattern, min(covered.values(), default=self._clock_ms()))
            wide = wants[pattern] = first(pattern, wide_ms)
            for one, ms in covered.items() if wide.since != EARLIEST else ():
                want = first(one, ms)
                if want.since == EARLIEST or want.since_ms < wide.since_ms:
                    wants[one] = want
        return wants

    def told(self, node: str, prefix: str, partitions: Iterable[tuple[tuple[str, ...], Iterable[str]]]) -> None:
        """partitions: captures and counting filters of all that is pulled of a node. What counts everywhere is told."""
        notes = self._untold.get(node)
        if not notes:
            return
        sets = [(captures, Covering(counting)) for captures, counting in partitions]
        for pattern in list(notes):
            bare = strip_prefix(pattern, prefix)
            if bare is not None and all(
                    known.covers(bare) or not may_hold(captures, bare) for captures, known in sets):
                del notes[pattern]


def may_hold(captures: tuple[str, ...], pattern: str) -> bool:
    """Can a stream with these captures hold an event of the filter?"""
    return any(filters_intersect(capture, pattern) for capture in captures)
