"""Verdicts: what a reader wants, asked at most once per topic; and, if it has filters, what these may be found by."""
from __future__ import annotations

from collections.abc import Callable, Collection

from routing.log.records.prints import PROBED_MAX, Probes, probes_of


class Verdicts(dict[str, bool]):
    """topic → wanted?"""

    __slots__ = ("_ask", "_patterns", "_probed", "_probes", "exact", "mark")

    def __init__(self, ask: Callable[[str], bool], patterns: Collection[str] | None = None) -> None:
        """patterns: filters of which one matches whatever is wanted; None: nothing is known of what is wanted."""
        super().__init__()
        self.mark = b""                                 # bytes that a batch has which may hold what is wanted
        self._ask = ask
        self._patterns = patterns if patterns is not None and len(patterns) <= PROBED_MAX else None
        self._probes: Probes | None = None
        self._probed = self._patterns is None
        self.exact: Collection[str] | None = None       # the only topics that can be wanted, when they are few
        if self._patterns is not None and not any("+" in pattern or "#" in pattern for pattern in self._patterns):
            self.exact = patterns

    @property
    def probes(self) -> Probes | None:
        """What the filters may be found by; worked out when a block is asked for it: at the tail none is."""
        if not self._probed:
            self._probed = True
            self._probes = probes_of(self._patterns or ())
        return self._probes

    def __missing__(self, topic: str) -> bool:
        verdict = self[topic] = self._ask(topic)
        return verdict
