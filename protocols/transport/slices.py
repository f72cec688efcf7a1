"""A byte stream whose reads are worked off in slices, so that no peer holds the loop. Base of the channels. Sans-IO.

    read ──► take(data) ── little, and the turn has time ──► _deliver(data)
                  │ much, or others come first
                  ▼
             kept, the stream is stopped ──► a slice per turn (fairness/turns.py) ──► nothing left: it is read again

How long a slice is in bytes follows what its bytes cost in CPU time: it gets shorter when one took more than
Turns.aim_s() and a slice_s, and twice as long when that would be less; what it has caused at the end of the turn
counts, too. So a stream whose bytes cost little is read whole while nobody else waits. A stream begins with
SLICE_BYTES_START. What is kept is never more than one read gave, because the stream is stopped meanwhile; a stream that
can (sockets.py) does not even read more than slice_bytes at once, so that most of what waits does so in the kernel.

A slice ends where its bytes do, in the middle of a message or not: handlers take a byte stream. Bytes that cost much
may follow bytes that cost little, so a handler that takes many small things asks over() now and then, and puts back
what it has not looked at: then no content makes a slice long.

Nothing is delivered while the handler does not want it (pause_reading), nor while the peer asks without taking the
answers, that is from ANSWER_BYTES_MAX in its write buffer until that has drained.
"""
from __future__ import annotations

from routing.fairness.turns import NOTE_S, Share, Turns

SLICE_BYTES_START = 4 * 1024        # 2,048 of the smallest MQTT packets: some milliseconds
SLICE_BYTES_MIN = 64
BUSY_READ_BYTES = 4 * 1024      # read at most this much from a channel whose turn it is not: it may have to be kept
SLICE_BYTES_MAX = 256 * 1024        # what uvloop reads at once
ANSWER_BYTES_MAX = 2 * 1024 * 1024  # twice the mark above which nothing but answers is written to an MQTT client
MEASURED_BYTES = 4 * 1024           # from here on a slice is worth the microsecond that asking for CPU time costs
CAUSED_MAX = 100.0                  # times its own time: more is not foreseen for one slice
SHORTEST_S = 1e-6                   # of a slice, or its causes had no measure
SHRINK_MAX = 8                      # of one step
_NOT_BEGUN = float("inf")

_HANDLER, _ANSWERS = 1, 2           # who holds the delivery


class Slices(Share):
    """See the module's head."""

    __slots__ = ("_blocked", "_caused_ratio", "_held", "_last_s", "_later", "_later_at", "_start_cpu_s", "_start_s",
                 "_stopped", "_suspect", "_turns", "slice_bytes")

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.slice_bytes = SLICE_BYTES_START
        self._turns = turns
        self._later = b""               # was read, waits for its slice, from _later_at on
        self._later_at = 0
        self._last_s = 0.0              # of the last slice
        self._caused_ratio = 0.0        # seconds at the end of the turn that a second of slices has caused
        self._suspect = False           # a slice looked long, and that was not measured
        self._blocked = False           # the write buffer is over its high-water mark
        self._held = 0                  # _HANDLER | _ANSWERS
        self._stopped = False           # the stream is not read
        self._start_s = _NOT_BEGUN      # of the slice
        self._start_cpu_s = 0.0

    # -- what a stream does -----------------------------------------------------------------------------------

    def _deliver(self, data: bytes) -> None:
        """Hand one slice to the handler. Must not raise."""
        raise NotImplementedError

    def _stop_stream(self) -> None:
        """Read nothing more for now."""
        raise NotImplementedError

    def _start_stream(self) -> None:
        """Read again."""
        raise NotImplementedError

    def _worked_off(self) -> None:
        """Nothing waits any more."""

    def buffered_bytes(self) -> int:
        """Written, and not yet taken by the peer."""
        raise NotImplementedError

    # -- what it calls ----------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Everything that one read gave."""
        turns = self._turns
        if self._later or self._held or not turns.admits(self):
            self._keep(data)
            return
        size = self.slice_bytes
        if len(data) > size:
            self._later, self._later_at = data, size
            data = data[:size]
        self._work(data)
        if self.waits or (turns.spent_s >= turns.turn_s and len(data) >= min(size, BUSY_READ_BYTES)):
            self._wait()                    # else uvloop would read on in this same turn, as it does after a full read

    def _keep(self, data: bytes) -> None:
        """A stream that was stopped may still bring what it had under way."""
        self._later = self._later[self._later_at:] + data if self._later else data
        self._later_at = 0
        self._wait()

    def over(self) -> bool:
        """Within a slice: it has had its time."""
        turns = self._turns
        if turns.clock_s() - self._start_s < turns.slice_s / (1.0 + self._caused_ratio):
            return False
        return turns.used_s(self._start_s, self._start_cpu_s) * (1.0 + self._caused_ratio) >= turns.room_s()

    def put_back(self, data: bytes) -> None:
        """The handler takes this later: it comes again, before everything else."""
        self._later = data + self._later[self._later_at:] if self._later else data
        self._later_at = 0
        self._wait()

    def _wait(self) -> None:
        """Something waits: read nothing more, and have a turn for it."""
        self._stop()
        if not self._held:
            self._turns.queue(self)

    @property
    def waits(self) -> bool:
        """Something was read and not yet delivered."""
        return bool(self._later)

    def drop_later(self) -> None:
        """Nobody wants what waits."""
        self._later = b""
        self._later_at = 0

    def pause_reading(self) -> None:
        self._hold(_HANDLER)

    def resume_reading(self) -> None:
        self._release(_HANDLER)

    def release(self) -> None:
        """Whoever holds the delivery, it goes on: the stream is about to end."""
        self._release(_HANDLER | _ANSWERS)

    def write_buffer_full(self, full: bool) -> None:
        """The write buffer has passed its high-water mark, or is below its low one again."""
        self._blocked = full
        if not full:
            self._release(_ANSWERS)

    # -- within -----------------------------------------------------------------------------------------------

    def go_on(self) -> float:
        if self._held:
            return 0.0
        if self.waits:
            later, at = self._later, self._later_at
            end = at + self.slice_bytes
            if end < len(later):
                self._later_at = end
                self._work(later[at:end])
            else:
                self._later, self._later_at = b"", 0
                self._work(later[at:] if at else later)
            if self.waits:
                if not self._held:
                    self._turns.queue(self)
                return 0.0
            self._worked_off()
        if self._held:
            return 0.0
        self._start()
        return self._last_s                             # what comes now in this turn may cost as much again

    def _work(self, data: bytes) -> None:
        turns = self._turns
        size = len(data)
        measured = size >= MEASURED_BYTES or self._suspect
        self._start_cpu_s = turns.ask_cpu_s() if measured else turns.asked_cpu_s
        self._start_s = start_s = turns.clock_s()
        self._deliver(data)
        seconds = turns.clock_s() - start_s
        if seconds > NOTE_S:
            seconds = turns.used_s(start_s, self._start_cpu_s)
        self._last_s = seconds
        self._start_s = _NOT_BEGUN
        if self._caused_ratio:
            foreseen_s = seconds * self._caused_ratio
            turns.charge(self, seconds, foreseen_s)
            seconds += foreseen_s
        else:
            turns.charge(self, seconds)
        if self._blocked and self.buffered_bytes() > ANSWER_BYTES_MAX:
            self._hold(_ANSWERS)
        if size >= self.slice_bytes or seconds > turns.slice_s:
            self._adapt(size, seconds, measured)

    def _adapt(self, size: int, seconds: float, measured: bool) -> None:
        aim_s = self._turns.aim_s()
        long_s = aim_s + self._turns.slice_s
        if seconds > long_s and size:
            if measured:
                self._shorten(size, seconds / aim_s)
            self._suspect = not measured
        else:
            self._suspect = False
            if size >= self.slice_bytes and 2 * seconds < long_s:
                self.slice_bytes = min(2 * self.slice_bytes, SLICE_BYTES_MAX)

    def _shorten(self, size: int, times: float) -> None:
        shorter = max(int(size / times), size // SHRINK_MAX, SLICE_BYTES_MIN)
        self.slice_bytes = min(self.slice_bytes, shorter)

    def caused(self, seconds: float, own_s: float) -> None:
        ratio = seconds / max(own_s, SHORTEST_S)
        self._caused_ratio = min((self._caused_ratio + ratio) / 2, CAUSED_MAX)
        aim_s = self._turns.aim_s()
        seconds = self._last_s * (1.0 + ratio)
        if seconds > aim_s + self._turns.slice_s:
            self._shorten(self.slice_bytes, seconds / aim_s)

    def _hold(self, why: int) -> None:
        self._held |= why
        self._stop()

    def _release(self, why: int) -> None:
        if self._held & why:
            self._held &= ~why
            if not self._held:
                if self.waits:
                    self._turns.queue(self)
                elif not self.queued:
                    self._start()

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._stop_stream()

    def _start(self) -> None:
        if self._stopped:
            self._stopped = False
            self._start_stream()
