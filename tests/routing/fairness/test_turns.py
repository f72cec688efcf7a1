"""Turns: who may work in this turn of the loop, and who comes next. With a clock that only work moves."""
from __future__ import annotations

from collections import deque

import pytest

from routing.fairness.turns import Share, Turns


class Loop:
    """Turns are made by hand; a job costs what it says."""

    def __init__(self, **options):
        self.now_s = 100.0
        self.ready = deque()
        self.turns = Turns(self.ready.append, lambda: self.now_s, **options)
        self.log = []

    def turn(self):
        """What is ready now runs; what that makes ready runs in the next turn."""
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def run(self, turns=1_000):
        while self.ready and turns:
            self.turn()
            turns -= 1


class Job(Share):
    """So many slices of so many seconds."""

    def __init__(self, loop, name, slices, seconds=0.002):
        super().__init__()
        self.loop, self.name, self.left, self.seconds = loop, name, slices, seconds

    def go_on(self):
        with self.loop.turns.slice(self):
            self.loop.now_s += self.seconds
        self.loop.log.append(self.name)
        self.left -= 1
        if self.left:
            self.loop.turns.queue(self)
        return 0.0


def test_a_turn_has_a_bound_for_all_together():
    loop = Loop(slice_s=0.002, turn_s=0.006)
    for number in range(100):
        loop.turns.queue(Job(loop, number, 5))
    before, turns = 0, 0
    while loop.ready and turns < 1_000:
        loop.turn()
        turns += 1
        assert len(loop.log) - before <= 4
        before = len(loop.log)
    assert len(loop.log) == 500 and turns >= 125


def test_all_have_their_first_slice_before_anybody_has_the_second():
    loop = Loop()
    for number in range(50):
        loop.turns.queue(Job(loop, number, 3))
    loop.run()
    assert loop.log == list(range(50)) * 3


def test_who_asks_for_little_comes_next_whatever_others_ask_for():
    loop = Loop()
    for number in range(100):
        loop.turns.queue(Job(loop, number, 50))
    loop.run(turns=60)
    loop.turns.queue(Job(loop, "small", 1, 0.0001))
    loop.log.clear()
    loop.turn()
    assert "small" in loop.log[:2]


def test_nobody_starves():
    """A heavy job among ever new small ones has its part."""
    loop = Loop()
    heavy = Job(loop, "heavy", 1_000)
    loop.turns.queue(heavy)
    for _turn in range(300):
        for _ in range(5):
            loop.turns.queue(Job(loop, "new", 1))
        loop.turn()
    assert loop.log.count("heavy") >= 5


def test_a_charge_is_bounded_so_that_an_interruption_costs_a_place_only():
    loop = Loop(slice_s=0.002)
    unlucky = Job(loop, "unlucky", 2, 1.0)
    loop.turns.queue(unlucky)
    for number in range(3):
        loop.turns.queue(Job(loop, number, 100))
    loop.run()
    assert [at for at, name in enumerate(loop.log) if name == "unlucky"][1] < 20


def test_work_is_admitted_until_the_turn_is_full_and_again_in_the_next():
    loop = Loop(slice_s=0.002, turn_s=0.006)
    one, other = Job(loop, "one", 1), Job(loop, "other", 1)
    while loop.turns.admits(one):
        with loop.turns.slice(one):
            loop.now_s += 0.001
    assert 0.006 <= loop.turns.spent_s < 0.0071
    assert not loop.turns.admits(other)
    loop.turn()
    assert loop.turns.admits(one) and loop.turns.admits(other)


def test_small_reads_of_the_quiet_are_let_in_while_others_wait():
    loop = Loop(slice_s=0.002, turn_s=0.006)
    jobs = [Job(loop, number, 100) for number in range(20)]
    for job in jobs:
        loop.turns.queue(job)
    loop.turn()
    quiet = Job(loop, "quiet", 1)
    assert not loop.turns.admits(jobs[0]), "it has had its part"
    assert loop.turns.admits(quiet), "beyond the bound of the turn"


def test_what_was_had_in_quiet_times_is_not_held_against_anybody():
    loop = Loop()
    busy = Job(loop, "busy", 1)
    for _ in range(1_000):
        with loop.turns.slice(busy):
            loop.now_s += 0.004
        loop.run()
    for number in range(5):
        loop.turns.queue(Job(loop, number, 3))
    busy.left = 1
    loop.turns.queue(busy)
    loop.run()
    assert loop.log.index("busy") == 0, "it is known, the others are new"


def test_small_work_orders_no_turn():
    """A callback per turn would cost more than a small message."""
    loop = Loop()
    with loop.turns.slice(Job(loop, "small", 1)):
        loop.now_s += 0.0001
    assert not loop.ready


def test_the_longest_slice_is_remembered_for_the_watch():
    loop = Loop()
    for name, seconds in (("a", 0.001), ("b", 0.07), ("c", 0.01)):
        loop.turns.queue(Job(loop, name, 1, seconds))
    loop.run()
    assert loop.turns.worst.name == "b" and loop.turns.worst_s > 0.06


def test_a_slice_says_when_it_is_over():
    """Alone it may have the whole turn, beside others its part of it, and slice_s in any case."""
    for others, room_s in ((0, 0.006), (1, 0.003), (2, 0.002), (50, 0.002)):
        loop = Loop(slice_s=0.002, turn_s=0.006)
        for number in range(others):
            loop.turns.queue(Job(loop, number, 1))
        with loop.turns.slice(Job(loop, "a", 1)) as slice:
            loop.now_s += room_s - 0.0001
            assert not slice.over, others
            loop.now_s += 0.0002
            assert slice.over, others


def test_what_the_turn_has_had_already_is_not_given_again():
    loop = Loop(slice_s=0.002, turn_s=0.006)
    with loop.turns.slice(Job(loop, "a", 1)):
        loop.now_s += 0.003
    with loop.turns.slice(Job(loop, "b", 1)) as slice:
        loop.now_s += 0.0029
        assert not slice.over
        loop.now_s += 0.0002
        assert slice.over


def test_an_interruption_is_not_charged():
    """Another process had the processor for 50 ms: this thread has used what it has used."""
    loop = Loop(slice_s=0.002, turn_s=0.006)
    cpu_s = [0.0]
    loop.turns.cpu_s = lambda: cpu_s[0]
    job = Job(loop, "a", 1)
    with loop.turns.slice(job) as slice:
        loop.now_s += 0.05
        cpu_s[0] += 0.001
        assert not slice.over
    assert loop.turns.spent_s == 0.001 and loop.turns.admits(job)


def test_what_the_end_of_the_turn_took_counts_as_its_slices_part_by_part():
    loop = Loop()
    heard = {}

    class Heard(Job):
        def caused(self, seconds, own_s):
            heard[self.name] = round(seconds, 6), round(own_s, 6)

    for name, seconds in (("a", 0.001), ("b", 0.003), ("a2", 0.0001)):
        job = Heard(loop, name, 1)
        for _ in range(2):
            with loop.turns.slice(job):
                loop.now_s += seconds / 2 if seconds > 0.001 else seconds
    loop.turns.ending()
    loop.now_s += 0.010
    loop.turns.ended("the end")
    assert heard == {"a": (0.004, 0.002), "b": (0.006, 0.003)}
    assert round(loop.turns.spent_s, 6) == 0.0152


def test_what_is_foreseen_of_the_end_of_the_turn_counts_at_once_and_only_once():
    loop = Loop(slice_s=0.002, turn_s=0.006)
    job = Job(loop, "a", 1)
    loop.turns.charge(job, 0.001, 0.005)
    assert not loop.turns.admits(job)
    loop.turns.ending()
    loop.now_s += 0.004
    loop.turns.ended("the end")
    assert round(loop.turns.spent_s, 6) == 0.005


def test_what_is_promised_of_the_end_of_the_turn_counts_at_once_and_only_once():
    """A hundred streams publish to a hundred receivers for the first time: nobody has caused anything before."""
    loop = Loop()
    share = Share()
    loop.turns.promise(0.004)
    assert loop.turns.admits(share) and loop.turns.spent_s == pytest.approx(0.004)
    loop.turns.charge(share, 0.001, 0.003)                  # what it is known to cause is in the promise
    assert loop.turns.spent_s == pytest.approx(0.005)
    loop.turns.promise(0.002)
    assert not loop.turns.admits(share)
    loop.turns.ending()
    loop.now_s += 0.006
    loop.turns.ended("end")
    assert loop.turns.spent_s == pytest.approx(0.007)


def test_what_a_turn_leaves_to_the_next_one_comes_before_anything_new():
    loop = Loop()
    share = Share()
    loop.turns.charge(share, 0.001)
    loop.turns.ending()
    loop.turns.ended("end", 0.020)
    loop.turn()
    assert not loop.turns.admits(share)
    loop.turns.queue(Job(loop, "next", 1))
    loop.turn()
    assert loop.log == ["next"] and loop.turns.admits(share)


def test_between_two_full_turns_the_end_is_done_and_the_sockets_are_looked_at():
    """Who asks for little waits for one turn of the others: not for the next one before what he said is stored, and
    not for one more before he is answered."""
    loop = Loop()
    due = []

    def end():
        if not due:
            return False
        due.clear()
        loop.log.append("end")
        return True

    loop.turns.end_turn = end
    loop.turns.queue(Job(loop, "much", 50, 0.006))
    loop.turn()
    due.append("of what it has published")
    loop.log.clear()
    loop.turn()
    assert loop.log == ["end"], "its answers leave, and what is small comes in"
    due.append("of that")
    loop.turn()
    assert loop.log == ["end", "end", "much"], "goes to the disk while those who want much go on"


def test_an_end_that_takes_long_is_not_done_twice_in_a_turn():
    loop = Loop()
    due = []

    def end():
        if not due:
            return False
        due.clear()
        loop.turns.ending()
        loop.now_s += 0.005
        loop.turns.ended("deliveries")
        loop.log.append("end")
        return True

    loop.turns.end_turn = end
    loop.turns.queue(Job(loop, "much", 50, 0.006))
    loop.turn()
    due.append(1)
    loop.log.clear()
    loop.turn()
    due.append(2)
    loop.turn()
    assert loop.log == ["end", "much"]


def test_an_end_in_every_turn_does_not_keep_those_that_wait():
    loop = Loop()
    loop.turns.end_turn = lambda: True
    loop.turns.queue(Job(loop, "much", 10, 0.006))
    loop.run(turns=25)
    assert loop.log == ["much"] * 10


def test_a_thousand_that_are_new_do_not_come_before_one_that_is_known():
    loop = Loop()
    known = Job(loop, "known", 1, 0.0001)
    loop.turns.queue(known)                     # alone, so that nobody was given more than it
    loop.run()
    for number in range(1_000):
        loop.turns.queue(Job(loop, number, 50))
    for turn in range(20):
        loop.turn()
        known.left = 1
        loop.log.clear()
        loop.turns.queue(known)
        loop.turn()
        assert loop.log[0] == "known", turn


def test_who_was_idle_for_long_has_no_more_than_a_little_before_the_others():
    loop = Loop()
    known = Job(loop, "known", 1)
    loop.turns.queue(known)
    loop.run()
    others = [Job(loop, number, 1_000) for number in range(3)]
    for job in others:
        loop.turns.queue(job)
    loop.run(turns=500)
    loop.log.clear()
    known.left = 1_000
    loop.turns.queue(known)
    loop.run(turns=40)
    assert loop.log[:40].count("known") <= 40 / 4 + 4
