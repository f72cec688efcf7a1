"""The policy against a plain reading of its rules: random rule sets and requests, the seed is printed on failure.

The oracle goes through the rules one by one, puts the names into each filter and asks routing/topic.py; the policy has
them in an index by subject and level.
"""
from __future__ import annotations

import random

import pytest

from routing.rights.policy import Action, Identity, Policy, Rule
from routing.topic import filter_covers, filters_intersect

RULE_SETS = 2_000
PARTS = 20              # so that one test case stays short
NAMES = ["ana", "bob", "a", "b", "7", "%c", "%u", "a/b", "+", "#", "a+", "$SYS", "x%", "", "nul\0"]
LEVELS = ["a", "b", "ana", "7", "+", "%u", "%c", "pos-%c", "%u-%c", "$SYS"]
SUBJECTS = ["*", "anonymous", "user:ana", "user:bob", "user:%c", "user:pos-%c", "role:r", "role:ana", "user:a/b"]
ACTIONS = [Action.PUBLISH, Action.SUBSCRIBE, Action.CONNECT, Action.MANAGE]
BAD = set("%+#/\0")


def pattern(rng, levels):
    chosen = [rng.choice(levels) for _ in range(rng.randint(1, 3))]
    return "/".join([*chosen, "#"] if rng.random() < 0.3 else chosen)


def rule(rng, number):
    actions = tuple(rng.sample(ACTIONS, rng.randint(1, 3)))
    topics = tuple(pattern(rng, LEVELS) for _ in range(rng.randint(0, 3)))
    return Rule(**{rng.choice(("allow", "allow", "deny")): actions}, to=tuple(rng.sample(SUBJECTS, rng.randint(1, 3))),
                topics=topics, name=f"rule {number}")


def person(rng):
    user = rng.choice([*NAMES, "anonymous", "pos-7", "pos-+"])
    return Identity(user, tuple(rng.sample(["r", "ana", "user:ana", "*"], rng.randint(0, 2))), protocol="mqtt",
                    client_id=rng.choice(NAMES))


def request(rng):
    """A topic or a filter, some of it made of the odd names."""
    levels = ["a", "b", "ana", "7", "bob", "pos-7", "ana-7", "%c", "%u", "$SYS", "x%"]
    return pattern(rng, levels) if rng.random() < 0.5 else "/".join(
        rng.choice([*levels, "+"]) for _ in range(rng.randint(1, 4)))


def is_fit(name):
    return bool(name) and name[0] != "$" and not BAD & set(name)


def names_of(who):
    return {"%u": who.user, "%c": who.client_id}


def applies(rule, who):
    for subject in rule.to:
        kind, _, name = subject.partition(":")
        if subject == "*" or (subject == "anonymous" == who.user) or (kind == "role" and name in who.roles):
            return True
        if kind == "user" and "%c" not in name and name == who.user:
            return True
        if kind == "user" and "%c" in name and is_fit(who.client_id) and name.replace("%c", who.client_id) == who.user:
            return True
    return False


def filled(text, who):
    """Each mark once: what was put in is not looked at again."""
    out = ""
    while text:
        mark = text[:2]
        out, text = (out + names_of(who)[mark], text[2:]) if mark in ("%u", "%c") else (out + text[0], text[1:])
    return out


def filters(text, who, wide):
    """What a filter with marks comes to; nothing where a name does not fit a rule that allows."""
    if all(is_fit(name) for mark, name in names_of(who).items() if mark in text):
        return [filled(text, who)]
    if not wide:
        return []
    choices = [""]
    for number, level in enumerate(text.split("/")):
        unfit = any(mark in level and not is_fit(name) for mark, name in names_of(who).items())
        kinds = ["+"] if unfit else []
        if not unfit or not {"+", "#"} & set(filled(level, who)):       # a name is never a wildcard
            kinds.append(filled(level, who))
        choices = [f"{before}/{kind}" if number else kind for before in choices for kind in kinds]
    return choices


def topics_of(rule, who, wide):
    return [one for text in rule.topics or ("#", "$SYS/#") for one in filters(text, who, wide)]


def oracle(rules, who, action, topic):
    by_topic = action in (Action.PUBLISH, Action.SUBSCRIBE)
    for side in ("deny", "allow"):
        for rule in rules:
            if action in getattr(rule, side) and applies(rule, who) and any(
                    not by_topic or covers(one, topic) for one in topics_of(rule, who, side == "deny")):
                return side == "allow", rule.name
    return False, "no rule allows it"


def covers(wide, narrow):
    return filter_covers(wide, narrow)


@pytest.mark.parametrize("part", range(PARTS))
def test_decisions_are_those_of_a_plain_reading(part):
    for seed in range(part * RULE_SETS // PARTS, (part + 1) * RULE_SETS // PARTS):
        rng = random.Random(seed)
        rules = [rule(rng, number) for number in range(rng.randint(0, 12))]
        policy = Policy(rules)
        for _ in range(12):
            who, action, topic = person(rng), rng.choice(ACTIONS), request(rng)
            expected = oracle(rules, who, action, topic)
            for _ in range(2):                              # the second answer comes from the cache
                decision = policy.decide(who, action, topic)
                assert (decision.allowed, decision.rule) == expected, (seed, who, action, topic)


def test_overlaps_are_those_of_a_plain_reading():
    """denies_part_of() may say yes too often where a name does not fit, never no where it is yes."""
    for seed in range(600):
        rng = random.Random(seed)
        rules = [rule(rng, number) for number in range(rng.randint(0, 8))]
        policy = Policy(rules)
        for _ in range(8):
            who, topic = person(rng), request(rng)
            permissions = policy.permissions(who)
            for action in (Action.PUBLISH, Action.SUBSCRIBE):
                allowed = any(filters_intersect(one, topic) for found in rules if action in found.allow
                              and applies(found, who) for one in topics_of(found, who, False))
                assert permissions.allows_part_of(topic, action) is allowed, (seed, who, topic)
            denied = any(filters_intersect(one, topic) for found in rules if Action.SUBSCRIBE in found.deny
                         and applies(found, who) for one in topics_of(found, who, True))
            if is_fit(who.user) and is_fit(who.client_id):
                assert permissions.denies_part_of(topic) is denied, (seed, who, topic)
            else:
                assert permissions.denies_part_of(topic) or not denied, (seed, who, topic)
