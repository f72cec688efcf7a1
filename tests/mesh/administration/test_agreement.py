"""Managed rules, can-i, simulation and a plain reading agree: 2,000 generated sets of documents, each asked.

The oracle is that of tests/routing/rights: it goes through the rules one by one. Roles that hold roles are given to
the person here, where the node widens the rules: the two must come to the same.
"""
from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mesh.administration.documents import Stored, body_of, document_of
from mesh.administration.effective import Base, Place, combine
from mesh.administration.simulate import simulate
from mesh.configuration.settings import Config
from mesh.identity.auth_settings import UserSettings
from mesh.identity.users import AUTHENTICATED
from mesh.link.proof.prepare import PreparedLinks
from routing.rights.can_i import can_i
from routing.rights.policy import Action, Identity, Policy, Rule
from routing.rights.usage import Tally, Use
from tests.routing.rights.test_policy_model import oracle

SETS = 2_000
PARTS = 20
ROLES = ["till", "press", "office", "chief"]
USERS = ["ana", "bob", "eve"]
LEVELS = ["a", "b", "ana", "bob", "+", "%u", "%c"]
ACTIONS = [Action.PUBLISH, Action.SUBSCRIBE, Action.CONNECT, Action.VIEW, Action.OPERATE, Action.ADMINISTER]
NOW_MS = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
TIMES = {"before": "2026-01-01T00:00:00Z", "after": "2027-01-01T00:00:00Z"}
PLACE = Place("graz-1", "graz")
BASE = Base(Config(users=(UserSettings("root", None, ("admin",)),)), [], {}, PreparedLinks([], [], anonymous=False))


def policy(rng: random.Random, number: int) -> tuple[Stored, bool]:
    """A document, and whether it counts here and now."""
    topics = ["/".join([rng.choice(LEVELS) for _ in range(rng.randint(1, 2))] + rng.choice([[], ["#"]]))
              for _ in range(rng.randint(0, 2))]
    body: dict[str, Any] = {
        rng.choice(("allow", "allow", "deny")): [one.value for one in rng.sample(ACTIONS, rng.randint(1, 3))],
        "to": rng.sample(["*", *(f"user:{user}" for user in USERS), *(f"role:{role}" for role in ROLES)],
                         rng.randint(1, 3)), "topics": topics}
    counts = True
    dice = rng.random()
    if dice < 0.08:
        body["enabled"], counts = False, False
    elif dice < 0.16:
        body["until"], counts = TIMES["before"], False
    elif dice < 0.24:
        body["from"], counts = TIMES["after"], False
    elif dice < 0.32:
        body["from"], body["until"] = TIMES["before"], TIMES["after"]
    elif dice < 0.40:
        body["nodes"] = [rng.choice(["graz-1", "wien-1"])]
        counts = body["nodes"] == ["graz-1"]
    elif dice < 0.48:
        body["sites"] = [rng.choice(["graz", "wien"])]
        counts = body["sites"] == ["graz"]
    body = body_of(document_of("policy", body))
    return Stored("policy", f"rule {number}", body, 1, "graz-1", {"graz-1": 1}), counts


def held(roles: set[str], held_by: dict[str, list[str]]) -> set[str]:
    """The roles of somebody, with those that are held by them."""
    while True:
        more = {role for role, holders in held_by.items() if roles & set(holders)} - roles
        if not more:
            return roles
        roles = roles | more


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_in_force_is_what_the_documents_say(part: int) -> None:
    for seed in range(part * SETS // PARTS, (part + 1) * SETS // PARTS):
        rng = random.Random(seed)
        made = [policy(rng, number) for number in range(rng.randint(0, 10))]
        held_by = {role: rng.sample(ROLES[number + 1:], 1)
                   for number, role in enumerate(ROLES[:-1]) if rng.random() < 0.3}
        documents = [stored for stored, _ in made] + [
            Stored("role", role, {"held_by": holders}, 1, "graz-1", {"graz-1": 1}) for role, holders in held_by.items()]
        rights = combine(BASE, documents, PLACE, NOW_MS)
        nobody = combine(BASE, [], PLACE, NOW_MS)
        assert {key[1] for key, state in rights.states.items() if key[0] == "policy" and state == "in force"} == {
            stored.name for stored, counts in made if counts}
        rules = [msgspec.convert({**{name: value for name, value in (stored.body or {}).items()
                                     if name in ("allow", "deny", "to", "topics")}, "name": stored.name}, Rule)
                 for stored, counts in made if counts]
        rules += list(nobody.rules.rules)
        data_path = Policy(rights.rules)
        for _ in range(6):
            roles = {*rng.sample(ROLES, rng.randint(0, 2)), AUTHENTICATED}
            user, client = rng.choice(USERS), rng.choice(["c-1", "ana", ""])
            who = Identity(user, tuple(sorted(roles)), protocol="mqtt", client_id=client)
            wise = Identity(user, tuple(sorted(held(roles, held_by))), protocol="mqtt", client_id=client)
            action = rng.choice(ACTIONS)
            topic = "/".join(rng.choice(["a", "b", "ana", "bob"]) for _ in range(rng.randint(1, 3)))
            expected = oracle(rules_granted(rules), wise, action, topic)[0]
            assert data_path.decide(who, action, topic).allowed is expected, (seed, who, action, topic)
            answer = can_i(rights.rules, data_path.permissions(who), who, action, topic)
            assert answer.decision == data_path.decide(who, action, topic)
            if any(action in granted(rule.deny) and oracle([rule], wise, action, topic) == (False, rule.name)
                   for rule in rules_granted(rules)):
                assert not expected                                     # deny beats allow, whatever the order
            use = Use(user, who.roles, client, "mqtt", action, topic, True, "x")
            may = expected and oracle(rules_granted(rules), wise, Action.CONNECT, "")[0]
            said = simulate(nobody, rights, {use: Tally(0)}, pause=False)
            before = Policy(nobody.rules).decide(who, action, topic).allowed
            assert (said["newly_allowed"]["uses"], said["newly_denied"]["uses"]) == (
                int(may and not before), int(before and not may)), (seed, who, action, topic)


def granted(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """A deny of `view` denies every act: nobody acts on what he may not see."""
    every = (Action.MANAGE, Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER)
    return tuple({*actions, *(every if {Action.VIEW, Action.MANAGE} & set(actions) else ())})


def rules_granted(rules: list[Rule]) -> list[Rule]:
    """The oracle knows no action that stands for others: they are written out for it."""
    found = []
    for rule in rules:
        allow = set(rule.allow)
        if Action.MANAGE in allow:
            allow |= {Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER}
        if Action.OPERATE in allow:
            allow.add(Action.VIEW)
        found.append(msgspec.structs.replace(rule, allow=tuple(allow), deny=granted(rule.deny) if rule.deny else ()))
    return found


def test_the_order_in_which_documents_come_means_nothing() -> None:
    rng = random.Random(3)
    documents = [policy(rng, number)[0] for number in range(12)]
    first = combine(BASE, documents, PLACE, NOW_MS)
    rng.shuffle(documents)
    assert combine(BASE, documents, PLACE, NOW_MS).rules.rules == first.rules.rules
