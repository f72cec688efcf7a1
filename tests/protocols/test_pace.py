"""A coroutine in the turns of the loop: measured step by step, resting when its slice is over, cancelled anywhere."""
from __future__ import annotations

import asyncio

import pytest

from protocols.scheduling.pace import Client, Pace
from routing.fairness.turns import Turns


class Clock:
    def __init__(self):
        self.now_s = 1.0

    def __call__(self):
        return self.now_s


@pytest.fixture
async def world():
    clock = Clock()
    return clock, Turns(asyncio.get_running_loop().call_soon, clock)


async def test_every_step_is_charged(world):
    clock, turns = world
    pace = Pace(turns)

    async def work():
        clock.now_s += 0.001
        await asyncio.sleep(0)
        clock.now_s += 0.002
        return "done"

    assert await pace.run(work()) == "done"
    assert pace.tag == pytest.approx(0.003)


async def test_rest_gives_the_loop_away_only_when_the_slice_is_over(world):
    clock, turns = world
    pace = Pace(turns)
    others = []

    async def work():
        for number in range(4):
            clock.now_s += 0.0031                           # alone a slice has 6 ms
            asyncio.get_running_loop().call_soon(others.append, number)
            await pace.rest()
            yielded.append(list(others))

    yielded = []
    await pace.run(work())
    assert yielded[0] == [] and yielded[1] == [0, 1] == yielded[2] and yielded[3] == [0, 1, 2, 3]


async def test_of_many_that_work_a_turn_has_room_for_few(world):
    """All of them end, none starves, and one that comes in between is served before those who have had much."""
    clock, turns = world
    order, spent = [], []

    async def work(name, steps):
        for _ in range(steps):
            clock.now_s += 0.002
            order.append(name)
            await pace_of[name].rest()

    pace_of = {name: Pace(turns) for name in range(50)}
    tasks = [asyncio.create_task(drive(pace_of[name], work(name, 10))) for name in range(49)]
    for _ in range(20):
        before = clock.now_s
        await asyncio.sleep(0)
        spent.append(clock.now_s - before)
    small = asyncio.create_task(drive(pace_of[49], work(49, 1)))
    at = len(order)
    await asyncio.gather(*tasks, small)
    assert order.index(49) - at < 10, order[at:at + 12]
    assert max(spent) <= 0.013, spent           # twice the bound at worst, while nothing is known of them
    assert all(order.count(name) == 10 for name in range(49))


async def drive(pace, coroutine):
    await pace.admitted()
    return await pace.run(coroutine)


async def test_what_is_raised_and_thrown_in_goes_through(world):
    _, turns = world
    seen = []

    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise ValueError("out") from None

    async def run():
        await Pace(turns).run(work())

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ValueError, match="out"):
        await task
    assert seen == ["cancelled"]


async def test_who_is_cancelled_while_it_waits_for_its_turn_takes_nobody_elses(world):
    _, turns = world
    pace = Pace(turns)
    turns.charge(Pace(turns), 1.0)
    task = asyncio.create_task(drive(pace, asyncio.sleep(0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(3):
        await asyncio.sleep(0)
    assert not turns.waiting and not pace.queued


async def test_fifty_connections_of_one_client_get_no_more_than_one_of_another(world):
    clock, turns = world
    one, other = Client(), Client()
    order = []

    async def work(name, pace, steps):
        for _ in range(steps):
            clock.now_s += 0.002
            order.append(name)
            await pace.rest()

    tasks = []
    for number in range(51):
        pace = Pace(turns)
        pace.payer = other if number == 50 else one
        tasks.append(asyncio.create_task(drive(pace, work(pace.payer is other, pace, 100 if number == 50 else 10))))
    await asyncio.gather(*tasks)
    assert sum(order[150:350]) > 60, "about half of the turns are the other one's"
