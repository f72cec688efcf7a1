"""The translation ledger: what converters had to drop or weaken, counted per route (source, target, field)."""
from __future__ import annotations

from collections import Counter

ROUTES_MAX = 10_000     # distinct (source, target, field); field names come from code, so this is never reached


class Ledger:
    """Nothing is lost in silence: each converter reports here, operators read the counts."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def lost(self, source: str, target: str, field: str, count: int = 1) -> None:
        """source and target: protocol names; field: what was dropped or weakened, such as "qos 2 to 1"."""
        key = (source, target, field)
        if key in self.counts or len(self.counts) < ROUTES_MAX:
            self.counts[key] += count

    def snapshot(self) -> list[dict[str, str | int]]:
        return [
            {"from": source, "to": target, "field": field, "count": count}
            for (source, target, field), count in sorted(self.counts.items())
        ]
