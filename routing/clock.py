"""Time that nobody can push about: the wall clock is data until the node's own count agrees with it.

A wall clock jumps: an operator types a wrong year, a machine boots in 1970 and hears of NTP a minute later, a dead
battery makes it 2099. Whoever deletes by it deletes everything. So a node has two times, both counted by the clock
that runs since the machine was switched on (it goes on in suspend, and nobody can set it):

    now_ms      the wall clock as far as it is trusted: for stamps, for expiry of messages and tokens, for people.
                It follows the wall smoothly (RATE at most). A jump is noticed and said, and not followed until an
                operator confirms it or the wall clock has kept to the new time for CONFIRM_MS.
    steady_ms   milliseconds that the machine was on; begins at wall time and never jumps, whatever is confirmed. Ages
                are differences of it: retention, rolling, sessions. Hours off do not count: what is kept for a day is
                kept for a day in which somebody could have read it.

A note of both in the data directory (process/files/clockfile.py) carries them over restarts. While the machine was on,
the count tells how long the node was down. After the machine was off, nothing does: then the wall clock is believed
when it is at most OFF_MS later than the note, from the first moment on in which that is so.
"""
from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

log = logging.getLogger(__name__)

JUMP_MS = 10_000                    # what NTP steps and leap seconds make is less; it is followed smoothly
OFF_WITHOUT_NOTE_MS = 366 * 86_400_000      # the newest file may be old where nothing happened
RATE = 10                           # followed by one part in so many, 100 ms in a second: chrony slews up to 83 ms
CONFIRM_MS = 3_600_000              # a wall clock that keeps to its new time for so long is believed
OFF_MS = 7 * 86_400_000             # a machine that was off so long is believed at once: holidays, a repair
ASLEEP_MIN_MS = 100                 # two clocks cannot be read at once: less is not sleep
FLOOR_MS = 1_767_225_600_000        # 2026-01-01: an earlier time is that of a clock that was never set


class ClockNote(msgspec.Struct, frozen=True):
    """What is remembered over a restart. boot: which run of the machine; count_ms: its count at the note."""

    now_ms: int
    steady_ms: int
    settled_ms: int
    boot: str
    count_ms: int


class Jump(msgspec.Struct):
    """A wall clock that left the count: where it is (wall less count), and since when it keeps to that."""

    offset_ms: int
    since_ms: int


class GuardedClock:
    """One per node. watch() about once a second; the times may be asked from any thread."""

    def __init__(
        self, wall_ms: Callable[[], int], monotonic_ns: Callable[[], int], asleep_ms: Callable[[], int] = lambda: 0,
        *, boot: str = "", note: ClockNote | None = None, newest_ms: int | None = None,
    ) -> None:
        """monotonic_ns: cheap, but it may stand still while the machine sleeps; asleep_ms: for how long it did.

        boot: which run of the machine this is, "" if that cannot be known. newest_ms: when data was written last, for
        a data directory without a note; None: there is no data either.
        """
        self.jump: Jump | None = None
        self.jumps = 0                          # since the start
        self._wall_ms = wall_ms
        self._monotonic_ns = monotonic_ns
        self._ask_asleep_ms = asleep_ms
        self._asleep_ms = asleep_ms()
        self._boot = boot
        self._may_have_been_off = False
        self._off_ms = OFF_MS if note is not None else OFF_WITHOUT_NOTE_MS
        count_ms = self._watched_ms = self._count_ms()
        wall = wall_ms()
        if note is None and newest_ms is None:
            now_ms = steady_ms = settled_ms = max(wall, FLOOR_MS)
        elif note is not None and boot and note.boot == boot and count_ms >= note.count_ms:
            down_ms = count_ms - note.count_ms
            now_ms, steady_ms, settled_ms = note.now_ms + down_ms, note.steady_ms + down_ms, note.settled_ms
        else:
            now_ms = note.now_ms if note is not None else newest_ms or 0
            steady_ms = settled_ms = note.steady_ms if note is not None else now_ms
            self._may_have_been_off = True
        self._offset_ms = now_ms - count_ms                     # what to add to the count
        self._steady_offset_ms = steady_ms - count_ms
        self._now_shift_ms = self._steady_shift_ms = 0          # what to add to monotonic time: kept by _shift()
        self._settled_ms = settled_ms
        self._shift()
        self.watch()

    # -- the two times ----------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Wall time, as far as it is trusted."""
        return self._now_shift_ms + self._monotonic_ns() // 1_000_000

    def steady_ms(self) -> int:
        """The time that ages are measured by: it only ever counts."""
        return self._steady_shift_ms + self._monotonic_ns() // 1_000_000

    def settled_for_ms(self) -> int:
        """For how much steady time now_ms has run without a step: so far back its stamps can be compared."""
        return self.steady_ms() - self._settled_ms

    def ahead_ms(self) -> int:
        """How much later the wall clock is than now_ms."""
        return self._wall_ms() - self.now_ms()

    def taken_in_s(self) -> float | None:
        """Seconds until a jump is taken as right, if the wall clock keeps to it; None: there is none, or never."""
        jump = self.jump
        if jump is None or jump.offset_ms + self._watched_ms < FLOOR_MS:
            return None
        return max(0, jump.since_ms + CONFIRM_MS - self._count_ms()) / 1000

    def note(self) -> ClockNote:
        count_ms = self._count_ms()
        return ClockNote(self._offset_ms + count_ms, self._steady_offset_ms + count_ms, self._settled_ms, self._boot,
                         count_ms)

    # -- guarding ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Compare both clocks: follow, notice a jump, or believe one that has lasted."""
        asleep_ms = self._ask_asleep_ms()
        if abs(asleep_ms - self._asleep_ms) > ASLEEP_MIN_MS:
            self._asleep_ms = asleep_ms
        self._compare(self._count_ms())
        self._shift()

    def _compare(self, count_ms: int) -> None:
        elapsed_ms, self._watched_ms = count_ms - self._watched_ms, count_ms
        wall_offset_ms = self._wall_ms() - count_ms
        ahead_ms = wall_offset_ms - self._offset_ms
        if self._may_have_been_off and -JUMP_MS <= ahead_ms <= self._off_ms:
            self._may_have_been_off = False
            self._offset_ms += max(ahead_ms, 0)             # never back: that goes smoothly
            self._settled_ms = count_ms + self._steady_offset_ms
            ahead_ms = min(ahead_ms, 0)
        if abs(ahead_ms) <= JUMP_MS:
            if self.jump is not None:
                self.jump = None
                log.warning("clock: the wall clock is back where it should be")
            self._offset_ms += max(-elapsed_ms // RATE, min(ahead_ms, elapsed_ms // RATE))
            return
        jump = self.jump
        if jump is None or abs(wall_offset_ms - jump.offset_ms) > elapsed_ms // RATE + JUMP_MS // RATE:
            self.jump = Jump(wall_offset_ms, count_ms)
            log.error(
                "clock: the wall clock jumped %s by %.0f s; nothing is deleted or expires because of that. The node "
                "goes on with its own count until `meshgate clock confirm`, or until the wall clock has kept to the "
                "new time for %.0f minutes", "ahead" if ahead_ms > 0 else "back", abs(ahead_ms) / 1000,
                CONFIRM_MS / 60_000)
            return
        jump.offset_ms = wall_offset_ms
        if count_ms - jump.since_ms >= CONFIRM_MS and wall_offset_ms + count_ms >= FLOOR_MS:
            self._believe(jump, count_ms, "it has lasted")

    def confirm(self) -> bool:
        """An operator says that the wall clock is right. False: there is nothing to confirm."""
        self.watch()
        if self.jump is None:
            return False
        self._believe(self.jump, self._watched_ms, "an operator confirmed it")
        self._shift()
        return True

    def _believe(self, jump: Jump, count_ms: int, why: str) -> None:
        log.warning("clock: a jump of %.0f s is taken as right: %s", (jump.offset_ms - self._offset_ms) / 1000, why)
        self._offset_ms = jump.offset_ms
        self._settled_ms = self._steady_offset_ms + count_ms
        self._may_have_been_off = False
        self.jump = None
        self.jumps += 1

    def _count_ms(self) -> int:
        """Since the machine was switched on, as of the last watch."""
        return self._monotonic_ns() // 1_000_000 + self._asleep_ms

    def _shift(self) -> None:
        self._now_shift_ms = self._offset_ms + self._asleep_ms
        self._steady_shift_ms = self._steady_offset_ms + self._asleep_ms
