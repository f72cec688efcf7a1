"""The guarded clock, and a model of a node whose wall clock somebody plays with.

The model knows the true time. Whatever the wall clock does, while the machine runs, sleeps, is off or boots anew,
nothing may go before it is as old, in true time, as was promised.
"""
from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from routing.clock import CONFIRM_MS, FLOOR_MS, JUMP_MS, OFF_MS, RATE, GuardedClock
from routing.event import Event
from tests.support.disk import SimulatedDisk
from tests.support.log import make_store, open_partition

YEAR_MS = 366 * 86_400_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
START_MS = 1_800_000_000_000


class Machine:
    """True time, and the clocks of a machine: its wall clock is off by `error_ms`."""

    def __init__(self) -> None:
        self.true_ms = START_MS
        self.error_ms = 0
        self.booted_ms = START_MS - 5_000
        self.boots = 1
        self.note = None
        self.clock = self.start()

    def start(self, newest_ms: int | None = None) -> GuardedClock:
        self.clock = GuardedClock(
            lambda: self.true_ms + self.error_ms, lambda: (self.true_ms - self.booted_ms) * 1_000_000,
            boot=f"boot {self.boots}", note=self.note, newest_ms=newest_ms)
        return self.clock

    def run(self, seconds: float) -> None:
        """Time passes, watched once a second (or once a minute, where it is long)."""
        left = round(seconds * 1000)
        step = 1_000 if left <= 60_000 else 60_000
        while left > 0:
            self.true_ms += min(step, left)
            left -= step
            self.clock.watch()

    def restart(self, seconds: float = 0.0, *, reboot: bool = False) -> None:
        self.note = self.clock.note()
        self.true_ms += round(seconds * 1000)
        if reboot:
            self.boots += 1
            self.booted_ms = self.true_ms - 20_000
        self.start()

    @property
    def wrong_ms(self) -> int:
        return self.clock.now_ms() - self.true_ms


@pytest.mark.parametrize("jump_ms", [8 * DAY_MS, -8 * DAY_MS, 10 * YEAR_MS, -10 * YEAR_MS, JUMP_MS + 1])
def test_a_jump_for_some_seconds_changes_nothing(jump_ms, caplog):
    machine = Machine()
    machine.error_ms = jump_ms
    machine.run(3)
    assert machine.clock.jump is not None and "jumped" in caplog.text
    assert machine.wrong_ms == 0
    machine.error_ms = 0
    machine.run(1)
    assert machine.clock.jump is None and machine.wrong_ms == 0 and machine.clock.jumps == 0


def test_a_small_difference_is_followed_smoothly():
    machine = Machine()
    machine.error_ms = 5_000
    machine.run(10)
    assert 900 <= machine.wrong_ms <= 1_100
    machine.run(60)
    assert machine.wrong_ms == 5_000 and machine.clock.jumps == 0


def test_a_clock_that_keeps_to_its_new_time_is_believed_but_ages_do_not_jump():
    machine = Machine()
    steady_ms = machine.clock.steady_ms()
    machine.error_ms = 30 * DAY_MS
    machine.run(CONFIRM_MS / 1000 - 120)
    assert machine.wrong_ms == 0
    machine.run(180)
    assert machine.wrong_ms == 30 * DAY_MS and machine.clock.jumps == 1
    assert machine.clock.steady_ms() - steady_ms == CONFIRM_MS + 60_000


def test_a_clock_that_does_not_keep_to_a_time_is_never_believed():
    machine = Machine()
    for days in range(40):
        machine.error_ms = (8 + days) * DAY_MS
        machine.run(CONFIRM_MS / 1000 / 2)
    assert machine.wrong_ms == 0


def test_an_operator_confirms_at_once():
    machine = Machine()
    assert not machine.clock.confirm()
    machine.error_ms = 30 * DAY_MS
    assert machine.clock.confirm() and machine.wrong_ms == 30 * DAY_MS


def test_a_boot_in_1970_goes_on_from_the_last_note_until_the_clock_is_set():
    machine = Machine()
    machine.run(100)
    machine.error_ms = -machine.true_ms
    machine.restart(30, reboot=True)
    assert machine.clock.jump is not None and machine.wrong_ms == -30_000
    machine.run(2 * CONFIRM_MS / 1000)
    assert machine.wrong_ms == -30_000, "a clock that was never set is not believed, however long it runs"
    machine.error_ms = 0
    machine.run(1)
    assert machine.clock.jump is None and machine.wrong_ms == 0


def test_a_boot_in_2099_is_a_jump_too():
    machine = Machine()
    machine.error_ms = 70 * YEAR_MS
    machine.restart(30, reboot=True)
    assert machine.clock.jump is not None and machine.wrong_ms == -30_000


def test_a_first_start_in_1970_begins_no_earlier_than_this_program():
    machine = Machine()
    machine.error_ms = -machine.true_ms
    machine.note = None
    assert machine.start().now_ms() == FLOOR_MS and machine.clock.jump is not None


def test_a_lost_note_is_replaced_by_the_newest_file():
    machine = Machine()
    machine.error_ms = 70 * YEAR_MS
    machine.boots += 1
    assert machine.start(newest_ms=START_MS - HOUR_MS).now_ms() == START_MS - HOUR_MS
    machine.error_ms = 0
    machine.run(1)
    assert machine.wrong_ms == 0
    assert machine.clock.steady_ms() == START_MS - HOUR_MS + 1_000


def test_a_restart_knows_how_long_the_node_was_down_whatever_the_wall_clock_says():
    machine = Machine()
    steady_ms = machine.clock.steady_ms()
    machine.error_ms = 8 * DAY_MS
    machine.restart(600)
    assert machine.clock.jump is not None and machine.wrong_ms == 0
    assert machine.clock.steady_ms() - steady_ms == 600_000


def test_a_machine_that_was_off_believes_its_clock_within_a_bound():
    machine = Machine()
    steady_ms = machine.clock.steady_ms()
    machine.restart(OFF_MS / 1000 - 60, reboot=True)
    assert machine.clock.jump is None and machine.wrong_ms == 0
    assert machine.clock.steady_ms() == steady_ms, "time off is nobody's time to read"
    machine.restart(OFF_MS / 1000 + 60, reboot=True)
    assert machine.clock.jump is not None


def play(machine: Machine, rng: random.Random) -> str:
    """One thing that happens to a machine or its clock."""
    what = rng.choice(("run", "run", "long", "jump", "jump", "right", "restart", "reboot", "boot 1970"))
    if what == "run":
        machine.run(rng.uniform(1, 30))
    elif what == "long":
        machine.run(rng.uniform(600, 2 * CONFIRM_MS / 1000))
    elif what == "jump":
        size = rng.choice((20_000, HOUR_MS, 8 * DAY_MS, YEAR_MS, 10 * YEAR_MS))
        machine.error_ms += round(rng.uniform(-size, size))
        machine.run(rng.uniform(0, 5))
    elif what == "right":
        machine.error_ms = 0
        machine.run(1)
    elif what == "restart":
        machine.error_ms += rng.choice((0, 0, 8 * DAY_MS, -10 * YEAR_MS))
        machine.restart(rng.uniform(0, 3_600))
    else:
        machine.error_ms = -machine.true_ms if what == "boot 1970" else rng.choice((0, 0, 10 * YEAR_MS))
        machine.restart(rng.uniform(0, 5 * 86_400), reboot=True)
    return what


@pytest.mark.parametrize("seed", range(200))
def test_ages_never_run_ahead_of_true_time(seed):
    """And never behind it while the machine is on; now_ms leaves true time only by what was confirmed."""
    rng = random.Random(seed)
    machine = Machine()
    for _ in range(40):
        true_ms, steady_ms, on_ms = machine.true_ms, machine.clock.steady_ms(), machine.booted_ms
        what = play(machine, rng)
        aged_ms, passed_ms = machine.clock.steady_ms() - steady_ms, machine.true_ms - true_ms
        assert 0 <= aged_ms <= passed_ms, what
        if machine.booted_ms == on_ms:
            assert aged_ms == passed_ms, what


@pytest.mark.parametrize("seed", range(200))
def test_stamps_leave_true_time_only_by_lasting_jumps(seed):
    """Jumps that do not last for CONFIRM_MS, in a run of the machine: what expires goes by true time, but for RATE."""
    rng = random.Random(seed)
    machine = Machine()
    for _ in range(60):
        before_ms, true_ms = machine.clock.now_ms(), machine.true_ms
        size = rng.choice((2_000, 20_000, HOUR_MS, 8 * DAY_MS, 10 * YEAR_MS))
        machine.error_ms = rng.choice((0, round(rng.uniform(-size, size))))
        if rng.random() < 0.2:
            machine.restart(rng.uniform(0, 600))
        machine.run(rng.uniform(0, 60))
        passed_ms = machine.true_ms - true_ms
        assert abs(machine.clock.now_ms() - before_ms - passed_ms) <= passed_ms // RATE + 1
        assert machine.clock.jumps == 0


@pytest.mark.parametrize("seed", range(60))
def test_nothing_that_was_acked_is_deleted_early(seed):
    """A log with retention by age on a simulated disk, compacted and not, over jumps and restarts of all kinds."""
    rng = random.Random(seed)
    disk, root = SimulatedDisk(), Path("/data")
    machine = Machine()
    compact = seed % 3 == 0
    retention_ms = rng.choice((HOUR_MS, DAY_MS, 7 * DAY_MS))
    acked: dict[int, int] = {}          # offset → true time of its ack

    def open_log():
        store = make_store(
            root, fs=disk, clock_ms=lambda: machine.clock.now_ms(), steady_ms=lambda: machine.clock.steady_ms(),
            settled_for_ms=lambda: machine.clock.settled_for_ms())
        return store, open_partition(
            store, segment_bytes=600, segment_ms=retention_ms // 4, retention_ms=retention_ms, compact=compact)

    store, partition = open_log()
    for step in range(40):
        stamp = 0 if rng.random() < 0.8 else machine.true_ms + rng.randint(-10 * YEAR_MS, 10 * YEAR_MS)
        events = [Event("t", bytes(100), 1, key=b"%d" % step, timestamp_ms=stamp) for _ in range(rng.randint(1, 4))]
        store.store_events(partition, events)
        acked.update((event.offset, machine.true_ms) for event in events[-1 if compact else 0:])
        notes = machine.boots, machine.clock
        if rng.random() < 0.5:
            store.close() if rng.random() < 0.5 else disk.locks.clear()     # a clean stop, or kill -9
            play(machine, rng)
            store, partition = open_log()
        elif play(machine, rng) and notes[1] is not machine.clock:
            disk.locks.clear()
            store, partition = open_log()
        for _ in range(3):
            store.maintain(machine.clock.steady_ms())
            store.loop.run_pending()
        held = partition.start_offset
        early = [offset for offset, true_ms in acked.items()
                 if offset < held and machine.true_ms - true_ms <= retention_ms]
        assert not early, f"seed {seed} step {step}: offsets {early} went early"
    machine.error_ms = 0
    for _ in range(8):                  # and what is old does go
        machine.run(retention_ms / 1000 / 2)
        store.maintain(machine.clock.steady_ms())
        store.loop.run_pending()
    assert partition.start_offset == partition.end_offset


def test_the_note_is_plain_data():
    note = Machine().clock.note()
    assert msgspec.json.decode(msgspec.json.encode(note), type=type(note)) == note
