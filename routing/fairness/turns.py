"""Turns: how much one turn of the event loop may do for whom. The one rule that keeps anybody from holding the loop.

    something is to be done for a client ──► admits(share)? ── yes ──► do a slice of it, charge(share, seconds)
                                                  │ no
                                                  ▼
                            queue(share) ──► share.go_on() in a later turn, in the order of what each has had

Work for a client is done in slices: who is alone may have what is left of turn_s, others that wait have an equal part
each, and slice_s in any case. All slices of a turn together stay below about turn_s, and what is left goes on in the
next turn. Before it goes on, what the turn has published is dealt with, its answers leave, and the sockets are looked
at: who asks for little, while others fill the turns, waits for one of them and not for one at each of these steps. Who
waits is served in the order of start-time fair queueing: a share's tag is the time that it has been given so far, and
one that was idle begins at the tag that is served now; a little before it, if it was served before, so that a thousand
new connections at once do not come before the small reads of one that is known. So whoever asks for little comes next,
whatever others ask for, and nobody starves.

How to use it. A byte stream takes protocols/transport/slices.py. A loop of one's own that grows with what a client
sends or owns:

    class Export(Share):                        # with callbacks, sans-IO
        def go_on(self) -> float:
            with self.turns.slice(self) as slice:
                while self.rows and not slice.over:
                    …one row…
            if self.rows:
                self.turns.queue(self)
            return 0.0

    async def export(turns, rows):              # in a coroutine: scheduling/pace.py of protocols/,
        ...                                     # await pace.rest() between steps

Time is CPU time of this thread, or a busy machine would cut everything small, which costs more CPU time. Asking for it
costs a system call, so what took little by the clock goes for that, and what took more is compared with the last time
that anybody has asked: ask_cpu_s() before a piece of work that may be long makes that exact. What cannot be told apart
from an interruption looks expensive; what it is charged is bounded, so that costs its owner one place in the queue at
most. Sans-IO; loop thread only.
"""
from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from types import TracebackType

CHARGE_SLICES_MAX = 4       # one slice counts as at most so many in the queue's order
CREDIT_SLICES = 2           # who is known and was idle comes so much before who is new
NOTE_S = 0.0005             # below this no turn is watched: a callback per turn would cost more than the work


class Payer:
    """Who is charged."""

    __slots__ = ("tag",)

    def __init__(self) -> None:
        self.tag = 0.0              # loop time that it has been given; see Turns


class Share(Payer):
    """Something that waits for its part of the loop: a connection, a request, a job. Base class."""

    __slots__ = ("payer", "queued")

    def __init__(self, payer: Payer | None = None) -> None:
        """payer: who is charged for it, together with other shares; None: it pays for itself."""
        super().__init__()
        self.payer = payer          # not itself: a circle would be left to the collector
        self.queued = False

    def describe(self) -> str:
        """Who this is, for operators: protocol, peer, client, what is done."""
        return type(self).__name__

    def caused(self, seconds: float, own_s: float) -> None:
        """Its part of what the end of the turn took, such as the fan-out of what it has published in own_s."""

    def go_on(self) -> float:
        """Its turn has come: do one slice. Returns the seconds that it expects to need later in this same turn,
        when all it did was to let something begin (a stream that is read again), else 0. Must not raise.
        """
        raise NotImplementedError


class Turns:
    """One per loop. See the module's head."""

    __slots__ = ("_begun", "_by_ratio_s", "_call_soon", "_end_s", "_end_took_s", "_foreseen_s", "_heap", "_left_s",
                 "_noted", "_promised_s", "_sequence", "_served", "_tag_max", "asked_cpu_s", "clock_s", "cpu_s",
                 "end_turn", "slice_s", "spent_s", "tag", "turn_s", "worst", "worst_s")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], clock_s: Callable[[], float], *,
                 cpu_s: Callable[[], float] | None = None, slice_s: float = 0.002, turn_s: float = 0.006) -> None:
        """call_soon: work for the next turn of the loop, before its sockets are read. cpu_s: CPU time of this thread;
        None: clock_s.
        """
        self._call_soon = call_soon
        self.clock_s = clock_s
        self.cpu_s = cpu_s or clock_s
        self.slice_s = slice_s
        self.turn_s = turn_s
        self.tag = 0.0                          # of who is served now
        self.spent_s = 0.0                      # in this turn, by all
        self.worst: Share | str | None = None   # did the longest piece of work since somebody looked (LoopWatch)
        self.worst_s = 0.0
        self._tag_max = 0.0
        self._served: dict[Share, float] = {}   # had, or will have caused, more than NOTE_S in this turn
        self._foreseen_s = 0.0                  # of spent_s: what the end of this turn will take, in about: the more of
        self._by_ratio_s = 0.0                  # what slices have caused before, and
        self._promised_s = 0.0                  # what is known of it
        self._left_s = 0.0                      # what the end of the last turn has left to the next one
        self._heap: list[tuple[float, bool, int, Share]] = []
        self._sequence = 0
        self._noted = False                     # the next turn is ordered
        self._begun = False                     # it has begun: the sockets were looked at, now come those that wait
        self.end_turn: Callable[[], bool] = _nothing    # does what the turn has left to its end: was there anything?
        self._end_s = self._end_took_s = 0.0
        self.asked_cpu_s = self.cpu_s()         # when somebody asked last: whatever began later began after it

    @property
    def waiting(self) -> int:
        """How many shares wait."""
        return len(self._heap)

    @property
    def is_full(self) -> bool:
        """Some wait, and their turn is ordered, which calls end_turn() as it begins."""
        return self._noted and bool(self._heap)

    def admits(self, share: Share) -> bool:
        """May share do a slice now? Else it must queue().

        Who has had less than those who wait is let in beyond the turn's bound: its small reads come first.
        """
        if not self._heap:
            return self.spent_s < self.turn_s
        return (share.payer or share).tag <= self.tag and self.spent_s < 2 * self.turn_s

    def ask_cpu_s(self) -> float:
        """For the start of a piece of work that may be long."""
        self.asked_cpu_s = cpu_s = self.cpu_s()
        return cpu_s

    def used_s(self, start_s: float, start_cpu_s: float) -> float:
        """CPU time since then. start_cpu_s: of ask_cpu_s(); or asked_cpu_s, and what was done since counts, too."""
        seconds = self.clock_s() - start_s
        if seconds > NOTE_S:
            used_s = self.ask_cpu_s() - start_cpu_s
            if used_s < seconds:
                return used_s
        return seconds

    def room_s(self) -> float:
        """How long a slice may be that begins now: nobody waits, or so many do."""
        room_s = (self.turn_s - self.spent_s) / (len(self._heap) + 1)
        return room_s if room_s > self.slice_s else self.slice_s

    def aim_s(self) -> float:
        """How long slices may be as long as so many wait as now."""
        aim_s = self.turn_s / (len(self._heap) + 1)
        return aim_s if aim_s > self.slice_s else self.slice_s

    def charge(self, share: Share, seconds: float, foreseen_s: float = 0.0) -> None:
        """Share has had the loop for so long. foreseen_s: and will have caused so much at the end of the turn."""
        if foreseen_s:
            self._by_ratio_s += foreseen_s
            foreseen_s = max(self._by_ratio_s - self._foreseen_s, 0.0)      # beside what is promised already
            self._foreseen_s += foreseen_s
        self.spent_s = spent_s = self.spent_s + seconds + foreseen_s
        payer = share.payer or share
        tag = self._not_before(payer.tag)
        if seconds + foreseen_s > NOTE_S:       # most slices are small: what they do has to cost little
            if seconds > self.worst_s:
                self.worst, self.worst_s = share, seconds
            self._served[share] = self._served.get(share, 0.0) + seconds
            tag += min(seconds, CHARGE_SLICES_MAX * self.slice_s)
        else:
            tag += seconds
        payer.tag = tag
        if tag > self._tag_max:
            self._tag_max = tag
        if spent_s > NOTE_S and not self._noted:
            self._noted = True
            self._call_soon(self._next_turn)

    def _not_before(self, tag: float) -> float:
        """Where one with this tag begins: what it did not have in quiet times it gets later only for a little."""
        first = self.tag - CREDIT_SLICES * self.slice_s if tag else self.tag
        return tag if tag > first else first

    def promise(self, seconds: float) -> None:
        """The end of this turn will take so long for what was just done: nobody adds to that without end."""
        self._promised_s += seconds
        more_s = self._promised_s - self._foreseen_s
        if more_s > 0.0:
            self._foreseen_s += more_s
            self.spent_s += more_s

    def ending(self) -> None:
        """The end of the turn begins."""
        self._end_s = self.clock_s()
        if self._served:
            self.ask_cpu_s()

    def ended(self, what: str, left_s: float = 0.0) -> None:
        """The end of the turn is over. It took what it did because of its slices, and counts as theirs. left_s: it was
        too much, and goes on in the next turn, for about so long.
        """
        self._left_s = left_s
        self._end_took_s = seconds = self.used_s(self._end_s, self.asked_cpu_s)
        self.spent_s += seconds - self._foreseen_s
        self._foreseen_s = self._by_ratio_s = self._promised_s = 0.0
        if seconds > NOTE_S:
            self.note(what, seconds)
        if self._served:
            part = seconds / sum(self._served.values())
            for share, own_s in self._served.items():
                share.caused(part * own_s, own_s)

    def note(self, what: str, seconds: float) -> None:
        """Work that is nobody's in particular took so long; for the warning of LoopWatch only."""
        if seconds > self.worst_s:
            self.worst, self.worst_s = what, seconds

    def slice(self, share: Share) -> Slice:
        """Context of one slice: .over says when to stop; what it took is charged."""
        return Slice(self, share)

    def queue(self, share: Share) -> None:
        """Call share.go_on() when its turn comes. Nothing happens when it waits already."""
        if share.queued:
            return
        share.queued = True
        payer = share.payer or share
        was_idle = payer.tag < self.tag
        payer.tag = self._not_before(payer.tag)
        self._sequence += 1
        heappush(self._heap, (payer.tag, not was_idle, self._sequence, share))
        if not self._noted:
            self._noted = True
            self._call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._noted = False
        heap = self._heap
        if self._begun:
            self._begun = False
            if self.spent_s + self._end_took_s < self.turn_s / 2:
                self.end_turn()                 # of what came in by now: it was little
        else:
            had_an_end = self.end_turn()
            self._begin()
            if had_an_end and heap:             # it goes out, and who has little comes in, before those that wait
                self._begun = self._noted = True
                self._call_soon(self._next_turn)
                return
        due, expected_s = len(heap), 0.0        # who queues again now waits for the next turn
        while due and self.spent_s + expected_s < self.turn_s:
            due -= 1
            tag, _, _, share = heappop(heap)
            if tag > self.tag:
                self.tag = tag
            share.queued = False
            expected_s += share.go_on()
        if not self._noted and (heap or self.spent_s):
            self._noted = True
            self._call_soon(self._next_turn)

    def _begin(self) -> None:
        if self._served:
            self._served = {}
        if self._heap:
            self.tag += self.spent_s / (len(self._heap) + 1)    # else ever new shares would keep the others out
        else:
            # Nobody waits: what was had is forgotten, and all who are known come a little before who is new.
            self.tag = max(self.tag, self._tag_max + CREDIT_SLICES * self.slice_s)
        self.spent_s, self._left_s = self._left_s, 0.0
        self._foreseen_s = self._by_ratio_s = self._promised_s = 0.0


def _nothing() -> bool:
    return False


class Slice:
    """One slice of work, measured."""

    __slots__ = ("_share", "_start_cpu_s", "_start_s", "_turns")

    def __init__(self, turns: Turns, share: Share) -> None:
        self._turns = turns
        self._share = share
        self._start_s = self._start_cpu_s = 0.0

    def __enter__(self) -> Slice:
        self._start_cpu_s = self._turns.ask_cpu_s()
        self._start_s = self._turns.clock_s()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._turns.charge(self._share, self._turns.used_s(self._start_s, self._start_cpu_s))

    @property
    def over(self) -> bool:
        """The slice has had its time."""
        turns = self._turns
        return (turns.clock_s() - self._start_s >= turns.slice_s
                and turns.used_s(self._start_s, self._start_cpu_s) >= turns.room_s())
