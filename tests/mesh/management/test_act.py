"""An act with an idempotency key is done once, also when it comes again before the first one is answered."""
from __future__ import annotations

import asyncio

import pytest

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call
from protocols.rest.problems import Problem
from routing.rights.policy import Identity


class Trail:
    """An audit trail whose disk takes a moment."""

    def __init__(self):
        self.records = []

    async def record(self, identity, act, target, **values):
        await asyncio.sleep(0)
        self.records.append(act)
        return len(self.records)


@pytest.mark.parametrize("fails", [False, True])
def test_the_same_key_at_the_same_time(fails):
    trail, done = Trail(), []
    acts = Acts(trail)
    call = Call(Identity("ana"), key="k")

    async def perform():
        await asyncio.sleep(0)
        done.append(1)
        if fails and len(done) == 1:
            raise Problem(503, "storage-failed", "once")
        return {"moved": 7}

    async def both():
        return await asyncio.gather(
            *(acts.run(call, Act("consumer.move", "jobs", {}, perform)) for _ in range(3)), return_exceptions=True)

    first, second, third = asyncio.run(both())
    if fails:
        assert isinstance(first, Problem) and second == third and len(done) == 2, "what failed is not remembered"
    else:
        assert first == second == third and len(done) == 1 and trail.records == ["consumer.move"]
    assert not acts._under_way
