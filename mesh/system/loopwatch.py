"""How long the turns of the event loop take, in time and in CPU time, and who held one for too long.

    work begins ──► begin() ── call_soon ──► mark ──► mark ──► … ──► a turn in which little was done: no more marks
                                              └ a turn ┘

uvloop has no hook for a turn. So while there is work, a callback marks the beginning of each turn; the time between
two marks is work alone, because a loop that has callbacks ready does not wait for its sockets. When a turn was empty
the marks end, and the loop sleeps. They begin again with whatever orders work (call_soon of the router and its turns,
timers). What is done in a turn that nobody began is seen by the timer that comes too late because of it.

CPU time is the loop thread's own: a turn that took 300 ms and 2 ms of CPU was held up by the machine or the disk, not
by a handler. A thread looks 40 times a second whether a turn takes too long, and if so where the loop is: that names
the code, whatever it is; the longest slice of the turn (routing/fairness/turns.py) names the client.
"""
from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from routing.fairness.turns import Share, Turns

logger = logging.getLogger(__name__)

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HELD_S = 0.05               # CPU time of one turn from which on somebody held the loop
STOOD_S = 0.5               # time of one turn without that CPU time: the machine, or a disk
EMPTY_S = 0.00005           # a shorter turn had nothing to do: the marks end
FINE_S = 0.001              # CPU time is asked for from here on, or when so much time has gone by in smaller turns:
UNASKED_S = 0.005           # by as much a turn may look busier than it was
LOOK_S = 0.025              # the thread looks so often
SAY_AGAIN_S = 1.0           # at most one line per
FRAMES_MAX = 6              # of the loop's stack, innermost last

_HERE = str(Path(__file__).resolve().parents[3]) + "/"


class Histogram:
    """Seconds by bucket. Plain ints, read at scrape time."""

    __slots__ = ("counts", "longest_s", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0
        self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds
        if seconds > self.longest_s:
            self.longest_s = seconds

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, turns up to it), the last one "+Inf"."""
        total = 0
        found = []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts):
            total += count
            found.append((bound, total))
        return found


class LoopWatch:
    """One per loop; loop thread only, but for look()."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], *,
                 clock_s: Callable[[], float] = time.monotonic, cpu_s: Callable[[], float] = time.thread_time,
                 watching: bool = True) -> None:
        """watching: False until start_looking(), while the node starts and nobody is served."""
        self.turns_s = Histogram()
        self.turns_cpu_s = Histogram()
        self.turns: Turns | None = None             # whose worst slice is told
        self._call_soon = call_soon
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._watching = watching
        self._marking = False
        self._ordered = False                       # work for the next turn, since the last mark
        self._began_s = clock_s()                   # the turn, or the pause
        self._asked_cpu_s = cpu_s()
        self._unasked_s = 0.0                       # time of small turns since then
        self._due_s: float | None = None            # of the next timer
        self._where = ""                            # the loop's stack, when the thread found the turn too long
        self._said_s = float("-inf")
        self._unsaid = 0
        self._loop_thread = threading.get_ident()
        self._collection_s = 0.0

    # -- the loop ---------------------------------------------------------------------------------------------

    def call_soon(self, work: Callable[[], None]) -> None:
        """Like the loop's; the turn that does the work is watched."""
        self._call_soon(work)
        if self._marking:
            self._ordered = True                    # behind the mark
        else:
            self.begin()

    def begin(self, late_s: float = 0.0) -> None:
        """Work is being done in this turn, or was ordered for the next. late_s: the turn has lasted so long already."""
        if not self._marking and self._watching:
            self._marking = True
            self._began_s = self._clock_s() - late_s
            self._call_soon(self._mark)

    def timer(self, late_s: float, next_s: float) -> None:
        """A timer has come, so much too late; the next one comes in next_s."""
        self._due_s = self._clock_s() + next_s
        self.begin(max(late_s, 0.0))

    def _mark(self) -> None:
        now_s = self._clock_s()
        took_s = now_s - self._began_s
        self._began_s = now_s
        if self.turns is not None and self.turns.worst_s > took_s:
            took_s = self.turns.worst_s             # it began before the turn was known to be one
        if took_s >= EMPTY_S:
            self._turn(took_s, self._cpu_of(took_s))
        if took_s < FINE_S and not self._ordered:
            self._marking = False
            return
        self._ordered = False
        self._call_soon(self._mark)

    def _cpu_of(self, took_s: float) -> float:
        """CPU time of a turn. Asking for it costs microseconds, so small turns go for what they took."""
        self._unasked_s += took_s
        if took_s < FINE_S and self._unasked_s < UNASKED_S:
            return took_s
        cpu_s = self._cpu_s()
        used_s, self._asked_cpu_s, self._unasked_s = cpu_s - self._asked_cpu_s, cpu_s, 0.0
        return min(took_s, used_s)

    def _turn(self, took_s: float, took_cpu_s: float) -> None:
        self.turns_s.add(took_s)
        self.turns_cpu_s.add(took_cpu_s)
        turns, where = self.turns, self._where
        self._where = ""
        if took_cpu_s >= HELD_S or took_s >= STOOD_S:
            self._say(took_s, took_cpu_s, turns.worst if turns is not None else None,
                      turns.worst_s if turns is not None else 0.0, where)
        if turns is not None:
            turns.worst, turns.worst_s = None, 0.0

    def _say(self, took_s: float, took_cpu_s: float, worst: Share | str | None, worst_s: float, where: str) -> None:
        now_s = self._clock_s()
        if now_s - self._said_s < SAY_AGAIN_S:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last line)" if self._unsaid else ""
        self._said_s, self._unsaid = now_s, 0
        if took_cpu_s < HELD_S:
            logger.warning(
                "the loop stood still for %.0f ms and used %.0f ms of CPU: the machine or the disk was busy%s",
                took_s * 1000, took_cpu_s * 1000, more)
            return
        who = worst.describe() if isinstance(worst, Share) else worst
        by = f"; {worst_s * 1000:.0f} ms of it by {who}" if who is not None and worst_s > took_s / 4 else ""
        at = f"; seen in {where}" if where else ""
        logger.warning("the loop was held for %.0f ms, %.0f ms of CPU%s%s%s",
                       took_s * 1000, took_cpu_s * 1000, by, at, more)

    # -- garbage collection -----------------------------------------------------------------------------------

    def watch_collections(self) -> None:
        """A long collection holds the loop in the name of whoever allocated last: give it its own."""
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_s = self._clock_s()
        elif self.turns is not None:
            self.turns.note(f"a garbage collection of generation {info['generation']}",
                            self._clock_s() - self._collection_s)

    # -- the thread -------------------------------------------------------------------------------------------

    def start_looking(self) -> None:
        self._watching = True
        self._asked_cpu_s = self._cpu_s()
        threading.Thread(target=self._look_for_ever, name="loop watch", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Where is the loop, if its turn takes too long? Called by a thread of its own; reads, and sets one text."""
        began_s = self._began_s if self._marking else self._due_s
        if not self._where and began_s is not None and self._clock_s() - began_s > HELD_S:
            self._where = stack_of(sys._current_frames().get(self._loop_thread))


def stack_of(frame: FrameType | None) -> str:
    """Our own functions on a stack, outermost first; with the one that they call last."""
    calls: list[str] = []
    first = True
    while frame is not None and len(calls) < FRAMES_MAX:
        file = frame.f_code.co_filename
        if first or file.startswith(_HERE):
            calls.append(f"{file.removeprefix(_HERE)}:{frame.f_lineno} {frame.f_code.co_name}")
        first = False
        frame = frame.f_back
    return " ▸ ".join(reversed(calls))
