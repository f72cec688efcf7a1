"""Throttle: records of one kind that strangers can cause. Some are written, the others counted, and the count is told.

    take() ──┬── there is room: what is to be added to this record, "" or how many were left out before it
             └── None: left out. When none comes in which that could stand, tell(count) says it TELL_S later
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mesh.topology.linkstate.pace import Bucket

TELL_S: Final = 60.0        # how long what was left out waits for a record that is written anyway

Later = Callable[[float, Callable[[], None]], object]       # as call_later() of a loop


class Throttle:
    """Loop thread only."""

    def __init__(self, burst: float, per_s: float, clock_s: Callable[[], float], later: Later,
                 tell: Callable[[int], None]) -> None:
        """burst: at once, and per_s afterwards."""
        self._bucket = Bucket(burst, per_s, clock_s())
        self._clock_s = clock_s
        self._later = later
        self._tell = tell
        self._asked = False                             # _say() will be called
        self.untold = 0

    def take(self) -> str | None:
        if self._bucket.take(1, self._clock_s()):
            untold, self.untold = self.untold, 0
            return f"; {untold} more before it were not written down" if untold else ""
        self.untold += 1
        if not self._asked:
            self._asked = True
            self._later(TELL_S, self._say)
        return None

    def _say(self) -> None:
        self._asked = False
        untold, self.untold = self.untold, 0
        if untold:
            self._tell(untold)
