"""can-i says what the data path decides, and a change that flips it: 2,000 random rule sets, the seed on failure."""
from __future__ import annotations

import random

import msgspec
import pytest

from routing.rights.policy import ALLOW_ALL, Action, Identity, Policy, Rule
from tests.routing.rights.test_policy_model import ACTIONS, person, request, rule

ANA = Identity("ana", ("operator",))
PUB = Action.PUBLISH


def changed(rules, identity, change):
    """The rules and the identity after the change."""
    kept = [one for one in rules if one.name not in change.remove]
    if change.add is not None:
        kept.append(msgspec.structs.replace(change.add, name="added"))
    if change.role:
        identity = msgspec.structs.replace(identity, roles=(*identity.roles, change.role))
    return kept, identity


@pytest.mark.parametrize("part", range(20))
def test_the_answer_is_that_of_the_data_path_and_its_change_flips_it(part):
    for seed in range(part * 100, part * 100 + 100):
        rng = random.Random(seed)
        rules = [rule(rng, number) for number in range(rng.randint(0, 12))]
        policy = Policy(rules)
        who, action, topic = person(rng), rng.choice(ACTIONS), request(rng)
        answer = policy.can_i(who, action, topic)
        assert answer.decision == policy.decide(who, action, topic), seed
        without = [one for one in rules if one.name != answer.decision.rule]
        if len(without) < len(rules):
            assert Policy(without).decide(who, action, topic).rule == answer.runner_up, seed
        if answer.change is None:
            assert "%" in who.user + topic, seed
            continue
        kept, after = changed(rules, who, answer.change)
        assert Policy(kept).decide(after, action, topic).allowed is not answer.decision.allowed, (seed, answer)
        assert answer.change.text


@pytest.mark.parametrize(("rules", "text"), [
    ([], "allow publish to user:ana on a/b"),
    ([Rule(allow=(PUB,), to=("role:boss",), topics=("a/#",), name="r")], "give the user the role boss"),
    ([Rule(allow=(PUB,), to=("*",), topics=("a/#",), name="r")], "remove r"),
    ([ALLOW_ALL, Rule(deny=(PUB,), to=("*",), topics=("a/#",), name="r")], "remove r"),
    ([Rule(deny=(PUB,), to=("*",), topics=("a/#",), name="r")], "remove r, and allow publish to user:ana on a/b"),
    ([ALLOW_ALL, ALLOW_ALL], "deny publish to user:ana on a/b"),
])
def test_the_nearest_change_in_words(rules, text):
    assert Policy(rules).can_i(ANA, PUB, "a/b").change.text == text
