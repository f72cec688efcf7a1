"""What is left out of the audit trail is counted, and the count is on record: with the next record, or later."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mesh.management.acts.audit import AuditRefused
from mesh.management.security.throttle import TELL_S, Throttle
from mesh.management.security.trail import WAITING_MAX, Trail
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        self.due.append((self.now_s + delay_s, work))

    def go_to(self, now_s: float) -> None:
        self.now_s = now_s
        ready, self.due = [work for due_s, work in self.due if due_s <= now_s], [
            one for one in self.due if one[0] > now_s]
        for work in ready:
            work()


def throttle(clock: Clock, told: list[int]) -> Throttle:
    return Throttle(3, 1.0, lambda: clock.now_s, clock.later, told.append)


def test_the_next_record_says_how_many_were_left_out_before_it() -> None:
    clock, told = Clock(), list[int]()
    limited = throttle(clock, told)
    assert [limited.take() for _ in range(8)] == [""] * 3 + [None] * 5
    clock.go_to(2.0)
    assert limited.take() == "; 5 more before it were not written down"
    assert limited.take() == "" and limited.untold == 0
    clock.go_to(TELL_S + 1)
    assert told == [], "it was said"


def test_what_no_record_came_after_is_said_all_the_same_and_once() -> None:
    clock, told = Clock(), list[int]()
    limited = throttle(clock, told)
    for _ in range(7):
        limited.take()
    clock.go_to(TELL_S - 1)
    assert told == []
    clock.go_to(TELL_S)
    assert told == [4] and limited.untold == 0
    clock.go_to(3 * TELL_S)
    assert told == [4] and clock.due == []


class Disk:
    """An audit trail whose disk can be full."""

    def __init__(self) -> None:
        self.full = False
        self.records: list[tuple[str, str]] = []

    async def record(self, who: Identity, act: str, target: str, **_: Any) -> int:
        if self.full:
            raise AuditRefused(Refusal(Reason.STORAGE_FULL, "the disk is full"))
        self.records.append((act, target))
        return len(self.records)


def made(disk: Disk) -> Trail:
    trail = Trail.__new__(Trail)
    trail._audit, trail._tasks, trail._left_out = disk, set(), 0       # type: ignore[assignment]
    return trail


async def written(trail: Trail) -> None:
    async with asyncio.timeout(10):
        while trail._tasks:
            await asyncio.sleep(0)


async def test_records_that_the_disk_refused_are_counted_in_one_that_it_takes() -> None:
    disk = Disk()
    trail = made(disk)
    disk.full = True
    for number in range(3):
        trail._write(Identity("ana"), "login", str(number), "failed", "", None, via="mqtt")
    await written(trail)
    disk.full = False
    trail._write(Identity("ana"), "login", "last", "failed", "", None, via="mqtt")
    await written(trail)
    assert disk.records == [("login", "last"), ("audit", "3 records")]


async def test_records_for_which_there_was_no_room_are_counted() -> None:
    disk = Disk()
    trail = made(disk)
    for number in range(WAITING_MAX + 5):
        trail._write(Identity("ana"), "login", str(number), "failed", "", None, via="mqtt")
    await written(trail)
    assert disk.records.count(("audit", "5 records")) == 1 and len(disk.records) == WAITING_MAX + 1
