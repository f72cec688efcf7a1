"""The sampler looks at 100,000 consumers that have caught up in steps, though it keeps nothing of most of them."""
from __future__ import annotations

from types import SimpleNamespace

from mesh.management.figures.sampler import CONSUMERS_SAMPLED_MAX, Sampler

MANY = 3 * CONSUMERS_SAMPLED_MAX


def test_each_consumer_is_a_step_whatever_is_kept_of_it(monkeypatch) -> None:
    """Those that have caught up were one step: 270 ms of a turn with 100,000 queues."""
    looked = []

    def lag():
        looked.append(1)
        return SimpleNamespace(events=0, seconds=0.0)

    consumers = [
        SimpleNamespace(name=f"c{number}", closed=number % 7 == 0, lag=lag, acked=0,
                        spec=SimpleNamespace(durable=number % 5 > 0)) for number in range(MANY)]
    router = SimpleNamespace(streams=[], registry=SimpleNamespace(awake=lambda: consumers))
    sampler = Sampler.__new__(Sampler)
    sampler._node = SimpleNamespace(router=router, name="n")
    sampler._totals = {}
    monkeypatch.setattr(Sampler, "_links", lambda self: iter(()))
    monkeypatch.setattr(Sampler, "_own", lambda self, passed_s, lag: {"lag_events": lag})
    steps = kept = 0
    for figure in sampler._figures(1.0):
        steps += 1
        kept += figure is not None
        assert len(looked) <= steps
    assert steps == MANY + 1 and kept == CONSUMERS_SAMPLED_MAX + 1
