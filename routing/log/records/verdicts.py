"""Verdicts: what a reader wants, asked at most once per topic; and, if it has filters, what these may be found by."""
from __future__ import annotations

from collections.abc import Callable, Collection

from routing.log.records.prints import PROBED_MAX, Probes, probes_of


class Verdicts(dict[str, bool]):
    """topic → wanted?"""

    __slots__ = ("_ask", "exact", "probes")

    def __init__(self, ask: Callable[[str], bool], patterns: Collection[str] | None = None) -> None:
        """patterns: filters of which one matches whatever is wanted; None: nothing is known of what is wanted."""
        super().__init__()
        self._ask = ask
        self.probes: Probes | None = None
        self.exact: Collection[str] | None = None       # the only topics that can be wanted, when they are few
        if patterns is not None and len(patterns) <= PROBED_MAX:
            self.probes = probes_of(patterns)
            if not any("+" in pattern or "#" in pattern for pattern in patterns):
                self.exact = patterns

    def __missing__(self, topic: str) -> bool:
        verdict = self[topic] = self._ask(topic)
        return verdict
