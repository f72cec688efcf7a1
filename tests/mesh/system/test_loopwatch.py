"""LoopWatch: what a turn took, by the clock and in CPU time, and who is named. With clocks that the test moves."""
from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque

import pytest

from mesh.system.loopwatch import HELD_S, LOOK_S, LoopWatch, stack_of
from routing.fairness.turns import Share, Turns

pytestmark = pytest.mark.measured


class Client(Share):
    def describe(self):
        return "MQTT client 'c' at 10.0.0.1:5"


class Rig:
    def __init__(self):
        self.now_s, self.cpu_s = 10.0, 1.0
        self.ready = deque()
        self.watch = LoopWatch(self.ready.append, clock_s=lambda: self.now_s, cpu_s=lambda: self.cpu_s)
        self.turns = self.watch.turns = Turns(self.watch.call_soon, lambda: self.now_s)

    def work(self, seconds, cpu_s=None):
        self.now_s += seconds
        self.cpu_s += seconds if cpu_s is None else cpu_s

    def turn(self):
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def idle(self, seconds):
        """The loop waits for its sockets, which it does only when nothing is ready."""
        while self.ready:
            self.turn()
        self.now_s += seconds

    @property
    def counts(self):
        return dict(self.watch.turns_s.cumulative()), dict(self.watch.turns_cpu_s.cumulative())


@pytest.fixture
def rig():
    return Rig()


def test_turns_are_counted_by_what_they_took_and_sleep_is_not(rig):
    for seconds in (0.0005, 0.004, 0.2):
        rig.watch.call_soon(lambda seconds=seconds: rig.work(seconds))
        rig.turn()
        rig.idle(5.0)
    wall, cpu = rig.counts
    assert wall == cpu
    assert wall["0.001"] == 1 and wall["0.005"] == 2 and wall["0.1"] == 2 and wall["0.25"] == 3 == wall["+Inf"]
    assert rig.watch.turns_s.sum_s == pytest.approx(0.2045)


def test_marks_end_when_there_is_nothing_to_do(rig):
    rig.watch.begin()
    rig.turn()
    assert not rig.ready and rig.watch.turns_s.cumulative()[-1] == ("+Inf", 0)


def test_every_turn_of_a_busy_loop_is_one(rig):
    rig.watch.begin()
    for _ in range(50):
        rig.work(0.003)
        rig.turn()
    assert rig.counts[0]["0.005"] == 50 and rig.counts[0]["0.0025"] == 0


def test_work_before_the_mark_was_ordered_counts_too(rig):
    """A read that was worked off for 80 ms, and only then published."""
    rig.idle(3.0)
    with rig.turns.slice(Client()):
        rig.work(0.08)
        rig.watch.begin()
    rig.turn()
    assert rig.counts[0]["0.05"] == 0 and rig.counts[0]["0.1"] == 1


def test_who_held_the_loop_is_named(rig, caplog):
    client = Client()
    with caplog.at_level(logging.WARNING):
        rig.watch.begin()
        with rig.turns.slice(client):
            rig.work(0.3)
        rig.turn()
    assert "held for 300 ms, 300 ms of CPU; 300 ms of it by MQTT client 'c' at 10.0.0.1:5" in caplog.text


def test_a_busy_machine_is_not_blamed_on_a_handler(rig, caplog):
    with caplog.at_level(logging.WARNING):
        rig.watch.begin()
        with rig.turns.slice(Client()):
            rig.work(0.3, cpu_s=0.004)
        rig.turn()
        assert not caplog.records
        rig.watch.begin()
        with rig.turns.slice(Client()):
            rig.work(0.9, cpu_s=0.004)
        rig.turn()
    assert "stood still for 900 ms and used 4 ms of CPU" in caplog.text and "client" not in caplog.text
    wall, cpu = rig.counts
    assert wall["0.25"] == 0 and cpu["0.005"] == 2


def test_lines_are_few(rig, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            rig.watch.begin()
            rig.work(0.06)
            rig.turn()
    assert len(caplog.records) == 2 and "more since" in caplog.records[1].getMessage()


def test_a_turn_that_nobody_began_is_seen_by_the_late_timer(rig):
    rig.watch.timer(0.0, 0.05)
    rig.idle(0.05)
    rig.work(0.4)
    rig.watch.timer(0.4, 0.05)
    rig.turn()
    assert rig.counts[1]["0.25"] == rig.counts[1]["+Inf"] - 1


def test_the_thread_names_the_code(caplog):
    """In a real loop: a callback that nobody knows of, busy until it was looked at."""
    looked = threading.Event()

    def a_slow_handler():
        began_s = time.thread_time()
        while not looked.is_set() or time.thread_time() < began_s + 2 * HELD_S:
            pass

    async def main():
        loop = asyncio.get_running_loop()
        watch = LoopWatch(loop.call_soon)
        watch.turns = Turns(watch.call_soon, loop.time)

        def look():
            while not watch._where:
                looked.wait(LOOK_S)
                watch.look()
            looked.set()

        thread = threading.Thread(target=look)
        watch.call_soon(a_slow_handler)
        thread.start()
        while watch._where or not watch.turns_s.longest_s:
            await asyncio.sleep(0)
        thread.join()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "a_slow_handler" in caplog.text


def test_a_stack_is_short():
    def deep(left):
        return deep(left - 1) if left else stack_of(sys._getframe())

    text = deep(50)
    assert text.count("▸") == 5 and text.endswith("deep")


def test_a_collection_has_its_own_name(rig, caplog):
    rig.watch._collecting("start", {"generation": 2})
    rig.watch.begin()
    rig.work(0.2)
    rig.watch._collecting("stop", {"generation": 2})
    with caplog.at_level(logging.WARNING):
        rig.turn()
    assert "by a garbage collection of generation 2" in caplog.text
