"""Rules x entry points: one decision function, deny beats allow, nothing is allowed by default."""
import pytest

from routing.errors import Reason
from routing.policy import ALLOW_ALL, INTERNAL, Action, Identity, Policy, Rule

ANA = Identity(user="ana", roles=("operator",), protocol="mqtt", client_id="c1")
BOB = Identity(user="bob", protocol="http", client_id="c2")
PUB, SUB = Action.PUBLISH, Action.SUBSCRIBE

TABLE = [
    # rules, identity, action, topic, allowed
    ([], ANA, PUB, "a", False),
    ([ALLOW_ALL], ANA, PUB, "a/b", True),
    ([ALLOW_ALL], ANA, SUB, "#", True),
    ([ALLOW_ALL], ANA, SUB, "$SYS/#", True),
    ([Rule(allow=(PUB,), to=("user:ana",), topics=("a/#",))], ANA, PUB, "a/b", True),
    ([Rule(allow=(PUB,), to=("user:ana",), topics=("a/#",))], ANA, SUB, "a/b", False),
    ([Rule(allow=(PUB,), to=("user:ana",), topics=("a/#",))], BOB, PUB, "a/b", False),
    ([Rule(allow=(PUB,), to=("role:operator",), topics=("a/#",))], ANA, PUB, "a", True),
    ([Rule(allow=(SUB,), to=("*",), topics=("a/#",))], BOB, SUB, "#", False),
    ([Rule(allow=(SUB,), to=("*",), topics=("a/#",))], BOB, SUB, "a/+/c", True),
    ([ALLOW_ALL, Rule(deny=(SUB,), to=("*",), topics=("secret/#",))], BOB, SUB, "secret/x", False),
    ([ALLOW_ALL, Rule(deny=(SUB,), to=("*",), topics=("secret/#",))], BOB, SUB, "#", True),
    ([Rule(allow=(SUB,), to=("*",), topics=("home/%u/#",))], ANA, SUB, "home/ana/x", True),
    ([Rule(allow=(SUB,), to=("*",), topics=("home/%u/#",))], ANA, SUB, "home/bob/x", False),
    ([Rule(allow=(SUB,), to=("*",), topics=("dev/%c/#",))], ANA, SUB, "dev/c1/x", True),
    ([Rule(allow=(PUB,), to=("user:pos-%c",), topics=("#",))], Identity(user="pos-7", client_id="7"), PUB, "x", True),
    ([Rule(allow=(PUB,), to=("user:pos-%c",), topics=("#",))], Identity(user="pos-7", client_id="8"), PUB, "x", False),
]


@pytest.mark.parametrize(("rules", "identity", "action", "topic", "allowed"), TABLE)
def test_rule_table(rules, identity, action, topic, allowed):
    assert Policy(rules).decide(identity, action, topic).allowed is allowed


@pytest.mark.parametrize("client_id", ["+", "#", "a/b", "", "x#"])
def test_a_client_id_with_wildcards_never_matches_a_client_rule(client_id):
    policy = Policy([Rule(allow=(SUB,), to=("*",), topics=("dev/%c/#",))])
    who = Identity(user="eve", client_id=client_id)
    for topic in ("dev/x/y", "dev/+/y", f"dev/{client_id}/y"):
        assert not policy.decide(who, SUB, topic).allowed


def test_a_denial_names_its_rule_and_is_listed():
    policy = Policy([ALLOW_ALL, Rule(deny=(PUB,), to=("user:bob",), topics=("a/#",), name="no bob")])
    refusal = policy.refuse(BOB, PUB, "a/b", 5)
    assert refusal.reason is Reason.NOT_AUTHORIZED
    assert "no bob" in refusal.text
    assert policy.denials[0] == {
        "time_ms": 5, "user": "bob", "client_id": "c2", "protocol": "http", "address": "", "action": "publish",
        "topic": "a/b", "rule": "no bob"}
    assert policy.denied["http", "publish"] == 1


def test_a_new_rule_set_is_effective_at_once():
    policy = Policy([ALLOW_ALL])
    assert policy.decide(ANA, PUB, "a").allowed
    policy.replace([])
    assert not policy.decide(ANA, PUB, "a").allowed


def test_permissions_of_different_clients_of_one_user_are_kept_apart():
    policy = Policy([Rule(allow=(PUB,), to=("*",), topics=("dev/%c",))])
    assert policy.decide(Identity(user="u", client_id="1"), PUB, "dev/1").allowed
    assert not policy.decide(Identity(user="u", client_id="2"), PUB, "dev/1").allowed


def test_the_node_itself_may_do_everything_and_nobody_can_pose_as_it():
    policy = Policy([])
    assert policy.decide(INTERNAL, PUB, "$SYS/x").allowed
    assert not policy.decide(Identity(user="$node", roles=("$node",)), PUB, "a").allowed


def test_an_overlap_with_a_denied_filter_is_seen():
    policy = Policy([ALLOW_ALL, Rule(deny=(SUB,), to=("user:bob",), topics=("a/secret/#",))])
    assert policy.permissions(BOB).denies_part_of("a/+")
    assert not policy.permissions(BOB).denies_part_of("b/#")
    assert not policy.permissions(ANA).denies_part_of("#")


@pytest.mark.parametrize("client_id", ["dev1", "dev/1", "dev+", "dev#", ""])
def test_a_client_id_that_does_not_fit_does_not_slip_past_a_deny(client_id):
    policy = Policy([ALLOW_ALL, Rule(deny=(PUB,), to=("*",), topics=("cmd/%c/#",))])
    who = Identity(user="eve", client_id=client_id)
    assert not policy.decide(who, PUB, f"cmd/{client_id.rstrip('+#')}/x").allowed
    assert policy.decide(who, PUB, "other").allowed
