"""The oracle finds mistakes: each of these, planted in the node, fails within a few programs."""
import pytest

from protocols.mqtt.delivery.outbound import Outbound
from protocols.mqtt.sessions.retained import RetainedAnswers
from protocols.mqtt.sessions.subscriptions import SubscriptionSet
from routing.retained.retained import RetainedEvents
from tests.model.driver import run
from tests.model.oracle import Violation
from tests.model.program import make_program


def retained_is_live(patch):
    take = RetainedEvents._belongs
    patch.setattr(RetainedEvents, "_belongs", lambda *args: take(*args) or bool(args[2].payload))


def answers_die_with_the_node(patch):
    patch.setattr(RetainedAnswers, "save", lambda self, state: self._changed.clear())


def window_is_ignored(patch):
    take = Outbound.take_retained

    def greedy(self, events, plan):
        self.credit += 1
        return take(self, events, plan)

    patch.setattr(Outbound, "take_retained", greedy)


def no_local_is_ignored(patch):
    plan = SubscriptionSet.plan
    patch.setattr(SubscriptionSet, "plan", lambda self, topic, own_event=False: plan(self, topic))


@pytest.mark.parametrize("mistake", [
    answers_die_with_the_node, window_is_ignored, retained_is_live, no_local_is_ignored])
def test_a_planted_mistake_is_found(mistake, monkeypatch):
    mistake(monkeypatch)
    with pytest.raises(Violation):
        for seed in range(150):
            run(make_program(seed, 1), seed, 1)
