"""The sampler looks at 100,000 consumers that have caught up in steps, though it keeps nothing of most of them; while
nothing is stored, at some of them only.
"""
from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from mesh.management.figures.sampler import CONSUMERS_IN_TURN, CONSUMERS_SAMPLED_MAX, Sampler
from routing.consumers.definition.spec import ConsumerSpec
from tests.support.routing import ANA, Desk

MANY = 3 * CONSUMERS_SAMPLED_MAX


class Rig:
    """A sampler of consumers that count how often they are looked at."""

    def __init__(self, monkeypatch, count: int) -> None:
        self.looked: list[int] = []
        self.lags = [0] * count
        self.partition = SimpleNamespace(end_offset=5, size_bytes=1)
        self.consumers = [
            SimpleNamespace(name=f"c{number}", closed=number % 7 == 0, lag=lambda number=number: self._lag(number),
                            acked=0, spec=SimpleNamespace(durable=number % 5 > 0)) for number in range(count)]
        router = SimpleNamespace(streams=[SimpleNamespace(name="s", partitions=[self.partition])],
                                 registry=SimpleNamespace(awake=lambda: self.consumers))
        monkeypatch.setattr(Sampler, "_links", lambda self: iter(()))
        monkeypatch.setattr(Sampler, "_own", lambda self, passed_s, lag: {"lag_events": lag})
        self.sampler = Sampler(SimpleNamespace(router=router, name="n"))

    def _lag(self, number: int) -> SimpleNamespace:
        self.looked.append(number)
        return SimpleNamespace(events=self.lags[number], seconds=0.0, exact=True)

    def sample(self) -> dict[str, dict[str, float]]:
        """What is kept of each subject."""
        self.looked.clear()
        return {subject: figures for _, subject, figures in filter(None, self.sampler._figures(1.0))}


@pytest.fixture
def rig(monkeypatch):
    return lambda count: Rig(monkeypatch, count)


def test_each_consumer_is_a_step_whatever_is_kept_of_it(rig) -> None:
    """Those that have caught up were one step: 270 ms of a turn with 100,000 queues."""
    many = rig(MANY)
    steps = kept = 0
    for figure in many.sampler._figures(1.0):
        steps += 1
        kept += figure is not None
        assert len(many.looked) <= steps
    assert steps == MANY + 2 and kept == CONSUMERS_SAMPLED_MAX + 2


def test_while_nothing_is_stored_a_few_of_those_that_have_caught_up_are_looked_at(rig) -> None:
    many = rig(10 * CONSUMERS_IN_TURN)
    late = 9_998
    many.lags[late] = 3
    first = many.sample()
    looked = len(many.looked)
    assert looked > 6 * CONSUMERS_IN_TURN and first["n"]["lag_events"] == 3
    turns = set()
    for _ in range(10):
        assert many.sample().keys() == first.keys()                 # nobody's history has a gap
        assert len(many.looked) <= CONSUMERS_IN_TURN + CONSUMERS_SAMPLED_MAX + 1 and late in many.looked
        turns.update(many.looked)
    assert len(turns) == looked                                     # each has had its turn


def test_who_falls_behind_is_seen_at_once_and_who_is_set_back_in_its_turn(rig) -> None:
    many = rig(10 * CONSUMERS_IN_TURN)
    many.sample()
    many.sample()
    many.lags[9_998], many.partition.end_offset = 1, 6
    assert many.sample()["c9998"]["lag_events"] == 1
    many.lags[8_999] = 7                                            # reads again, nothing new was stored
    assert any("c8999" in many.sample() for _ in range(10))
    assert many.sample()["n"]["lag_events"] == 8
    many.lags[9_998] = many.lags[8_999] = 0
    assert many.sample()["n"]["lag_events"] == 0
    many.consumers.append(many.consumers[8_998])                    # one more: it may begin at the earliest
    many.lags[8_998] = 2
    assert many.sample()["c8998"]["lag_events"] == 2


@pytest.mark.measured
def test_a_second_in_which_nothing_was_stored_costs_less_than_half_of_one_in_which_something_was(
        monkeypatch, tmp_path) -> None:
    """With consumers of a real router: a fifth, as measured with 10,000."""
    monkeypatch.setattr(Sampler, "_links", lambda self: iter(()))
    monkeypatch.setattr(Sampler, "_own", lambda self, passed_s, lag: {"lag_events": lag})
    desk = Desk(tmp_path)
    try:
        for number in range(5 * CONSUMERS_IN_TURN):
            desk.router.open_consumer(ConsumerSpec(f"c{number}", (f"t{number % 100}/a",)), ANA)
        desk.run()
        sampler = Sampler(SimpleNamespace(router=desk.router, name="n"))

        def cost_s() -> float:
            begun_s = time.thread_time()
            for _ in sampler._figures(1.0):
                pass
            return time.thread_time() - begun_s

        busy, quiet = [], []
        for _ in range(5):
            desk.publish("nobody/reads")
            busy.append(cost_s())
            quiet += cost_s(), cost_s()
        assert min(quiet) < min(busy) / 2
    finally:
        desk.close()
