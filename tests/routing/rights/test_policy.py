"""Rules x entry points: one decision function, deny beats allow, nothing is allowed by default."""
import pytest

from routing.errors import Reason
from routing.rights.policy import ALLOW_ALL, INTERNAL, Action, Identity, Policy, Rule

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
        "id": 1, "time_ms": 5, "user": "bob", "client_id": "c2", "protocol": "http", "address": "", "action": "publish",
        "topic": "a/b", "rule": "no bob", "roles": []}
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


ODD = ["%c", "%u", "%", "+", "#", "a/b", "x\0", "$SYS", "$share", "ana%u", "%%u"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_with_marks_or_wildcards_fits_no_rule_with_a_mark_and_is_told_so(name):
    """A user %c under a rule with %u would otherwise be whoever he says he is."""
    policy = Policy([Rule(allow=(PUB, SUB), to=("*",), topics=("home/%u/#", "%u/#", "%u", "dev/%c/x", "pre-%u/x")),
                     Rule(allow=(PUB,), to=("user:pos-%c",))])
    for who in (Identity(user=name, client_id="victim"), Identity(user="victim-2", client_id=name),
                Identity(user=f"pos-{name}", client_id=name)):
        for topic in ("home/victim/x", "home/%c/x", "home/%u/x", "victim/x", "dev/victim/y", "$SYS/x", f"{name}/x",
                      f"dev/{name}/x", f"home/{name}/x", "anything", "pre-victim/x"):
            expected = (topic == "dev/victim/x" and who.client_id == "victim") or (
                who.user == "victim-2" and topic.startswith(("home/victim-2/", "victim-2/")))
            assert policy.decide(who, PUB, topic).allowed is expected, (who, topic)
    refusal = policy.refuse(Identity(user=name), PUB, "home/x", 0)
    assert "rules with %u do not take the user name" in refusal.text and policy.misfits["%u"] == 1
    assert "do not take" not in policy.refuse(ANA, PUB, "home/bob/x", 0).text


def test_a_user_is_never_taken_for_a_role_or_a_role_for_a_user():
    policy = Policy([Rule(allow=(PUB,), to=("role:admin", "user:root", "anonymous"))])
    for user in ("role:admin", "admin", "user:root", "*", "role:", "Anonymous"):
        assert not policy.decide(Identity(user=user, roles=("root", "user:root", "*", "anonymous")), PUB, "a").allowed


def test_a_login_that_was_taken_away_may_do_nothing_whatever_the_rules_say():
    policy = Policy([ALLOW_ALL])
    gone = Identity(user="ana", roles=("operator",), revoked=True)
    for action in Action:
        assert policy.decide(ANA, action, "$reply/n/1").allowed or action in (SUB, Action.BROWSE)
        assert policy.decide(gone, action, "$reply/n/1") == policy.decide(gone, action, "a")
        assert not policy.decide(gone, action, "a").allowed
    assert not policy.permissions(gone).allows_part_of("#")


def test_what_is_remembered_of_decisions_is_bounded_in_bytes():
    policy = Policy([Rule(allow=(PUB,), to=("*",), topics=("dev/%c/#",))])
    policy.cache_bytes_max = 1024 * 1024
    for number in range(200):
        who = Identity(user="u", client_id=f"{number}" * 20_000)
        policy.decide(who, PUB, f"{number}" * 20_000)
        held = sum(len(key[2]) for key in policy._permissions) + sum(len(key[2]) for key in policy._decisions)
        assert held <= 1024 * 1024
    assert policy.decide(Identity(user="u", client_id="7"), PUB, "dev/7/x").allowed


def test_the_denial_log_holds_no_more_than_the_beginning_of_long_texts():
    policy = Policy([])
    policy.refuse(Identity(user="u" * 60_000, client_id="c" * 60_000), PUB, "t" * 60_000, 0)
    assert sum(len(str(value)) for value in policy.denials[0].values()) < 2_000
