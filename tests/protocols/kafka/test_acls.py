"""ACL bindings and the rules that they are: there and back, what is refused, what filters mean."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from protocols.kafka.acls.binding import (
    Binding,
    Filter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
    binding_from,
    filter_from,
)
from protocols.kafka.acls.implied import Allowed, is_implied
from protocols.kafka.acls.mapping import NAME_BEGINS, binding_of, document_name, rule_of
from protocols.managed import PolicyChange
from routing.errors import Reason, Refusal
from routing.rights.policy import Action, Identity, Policy, Rule
from tests.protocols.kafka.harness import Broker

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
LITERAL, PREFIXED = PatternType.LITERAL, PatternType.PREFIXED
ALLOW, DENY = Permission.ALLOW, Permission.DENY


def acl(operation=Operation.READ, name="orders.eu", pattern=LITERAL, principal="User:ana", permission=ALLOW,
        resource=TOPIC, host="*"):
    return Binding(resource, name, pattern, principal, host, operation, permission)


def cluster(operation, permission=ALLOW):
    return acl(operation, "kafka-cluster", permission=permission, resource=CLUSTER)


@pytest.mark.parametrize(("binding", "allow", "deny", "to", "topics"), [
    (acl(), (Action.SUBSCRIBE,), (), "user:ana", ("orders/eu/#",)),
    (acl(Operation.WRITE), (Action.PUBLISH,), (), "user:ana", ("orders/eu/#",)),
    (acl(permission=DENY), (), (Action.SUBSCRIBE,), "user:ana", ("orders/eu/#",)),
    (acl(name="orders.", pattern=PREFIXED), (Action.SUBSCRIBE,), (), "user:ana", ("orders/+/#",)),
    (acl(name="a.b.", pattern=PREFIXED), (Action.SUBSCRIBE,), (), "user:ana", ("a/b/+/#",)),
    (acl(name="*", principal="User:*"), (Action.SUBSCRIBE,), (), "*", ("#",)),
    (acl(name="_schemas", principal="Role:till"), (Action.SUBSCRIBE,), (), "role:till", ("_schemas/#",)),
    (acl(name="orders.", principal="User:ANONYMOUS"), (Action.SUBSCRIBE,), (), "anonymous", ("orders//#",)),
    (acl(principal="User:CN=ana,O=x"), (Action.SUBSCRIBE,), (), "user:CN=ana,O=x", ("orders/eu/#",)),
    (cluster(Operation.DESCRIBE), (Action.VIEW,), (), "user:ana", ()),
    (cluster(Operation.ALTER), (Action.ADMINISTER, Action.VIEW), (), "user:ana", ()),
    (cluster(Operation.ALTER, DENY), (), (Action.ADMINISTER,), "user:ana", ()),
    (cluster(Operation.ALL), (Action.MANAGE,), (), "user:ana", ()),
], ids=str)
def test_a_binding_is_a_rule_and_the_rule_is_that_binding(binding, allow, deny, to, topics):
    rule = rule_of(binding)
    assert (rule.allow, rule.deny, rule.to, rule.topics) == (allow, deny, (to,), topics)
    assert rule.name.startswith(NAME_BEGINS) and binding_of(rule) == binding


@pytest.mark.parametrize(("prefix", "inside", "outside"), [
    ("orders.", ["orders/eu", "orders/eu/graz"], ["orders", "order/eu", "eu/orders/eu"]),
])
def test_a_prefix_is_what_kafka_names_with_it_stand_for_and_no_more(prefix, inside, outside):
    policy = Policy([rule_of(acl(name=prefix, pattern=PREFIXED))])
    may = {topic: policy.decide(Identity("ana"), Action.SUBSCRIBE, topic).allowed for topic in inside + outside}
    assert may == {**dict.fromkeys(inside, True), **dict.fromkeys(outside, False)}


@pytest.mark.parametrize(("binding", "says"), [
    (acl(Operation.ALL), "READ and WRITE"), (acl(Operation.DELETE), "who made a topic"),
    (acl(Operation.DESCRIBE, permission=DENY), "DENY DESCRIBE on TOPIC"),
    (acl(Operation.ALL, resource=GROUP), "first user"), (acl(resource=GROUP, permission=DENY), "first user"),
    (cluster(Operation.CREATE), "DESCRIBE, ALTER and ALL"), (cluster(Operation.CLUSTER_ACTION), "no counterpart"),
    (acl(Operation.CREATE_TOKENS, resource=ResourceType.USER), "no such resources"),
    (acl(host="10.0.0.1"), "hosts"), (acl(name="ord", pattern=PREFIXED), "ends with a dot"),
    (acl(name="a/b"), "letters"), (acl(name="." * 200, pattern=PREFIXED), "levels"),
    (acl(principal="ana"), "principal"), (acl(principal="Group:x"), "principal"), (acl(principal="User:"), "principal"),
    (acl(principal="User:pos-%c"), "principal"), (acl(principal="User:%u"), "principal"),
], ids=str)
def test_what_has_no_counterpart_is_refused_with_what_to_do(binding, says):
    assert says in rule_of(binding)


@pytest.mark.parametrize("rule", [
    Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:a",), topics=("a/#",)),
    Rule(allow=(Action.PUBLISH,), to=("user:a", "user:b"), topics=("a/#",)),
    Rule(allow=(Action.PUBLISH,), to=("user:a",), topics=("a/#", "b/#")), Rule(allow=(Action.PUBLISH,), to=("user:a",)),
    Rule(allow=(Action.PUBLISH,), to=("user:a",), topics=("a/+",)), Rule(allow=(Action.PUBLISH,), to=("*",),
                                                                         topics=("a/+/b/#",)),
    Rule(allow=(Action.PUBLISH,), to=("user:a",), topics=("a.b/#",)), Rule(allow=(Action.PUBLISH,), to=("user:a",),
                                                                           topics=("a",)),
    Rule(allow=(Action.PUBLISH,), to=("user:%c",), topics=("a/#",)), Rule(allow=(Action.CONNECT,), to=("user:a",)),
    Rule(allow=(Action.VIEW,), to=("user:a",), topics=("a/#",)), Rule(),
], ids=str)
def test_a_rule_that_says_something_else_is_no_binding(rule):
    assert binding_of(rule) is None


def test_the_name_of_a_document_is_one_per_binding_and_fits_one():
    bindings = [acl(), acl(pattern=PREFIXED), acl(permission=DENY), acl(Operation.WRITE), acl(principal="User:*"),
                acl(name="*"), acl(principal="User:" + "é" * 127), acl(name="a" * 249)]
    names = {document_name(one) for one in bindings}
    assert len(names) == len(bindings) and all(len(name.encode()) <= 255 and "*" not in name for name in names)
    assert document_name(acl()) == document_name(acl()) and "ana read topic orders.eu" in document_name(acl())


ANY = {"resource_type": ResourceType.ANY, "name": None, "pattern_type": PatternType.ANY, "principal": None,
       "host": None, "operation": Operation.ANY, "permission": Permission.ANY}


@pytest.mark.parametrize(("asked", "count"), [
    ({}, 6), ({"resource_type": TOPIC}, 5), ({"permission": DENY}, 1), ({"principal": "User:ana"}, 5),
    ({"operation": Operation.WRITE}, 1), ({"host": "*"}, 6), ({"host": "10.0.0.1"}, 0),
    ({"name": "orders.eu"}, 3), ({"name": "orders.eu", "pattern_type": LITERAL}, 3),
    ({"name": "orders.eu", "pattern_type": PatternType.MATCH}, 5),
    ({"name": "orders.", "pattern_type": PREFIXED}, 1), ({"name": "orders.", "pattern_type": LITERAL}, 0),
    ({"pattern_type": PREFIXED}, 1), ({"pattern_type": PatternType.MATCH}, 6), ({"name": "*"}, 1),
    ({"name": "*", "pattern_type": PatternType.MATCH}, 1), ({"name": "other", "pattern_type": PatternType.MATCH}, 1),
], ids=str)
def test_filters_match_as_those_of_kafka(asked, count):
    bindings = [acl(), acl(Operation.WRITE), acl(permission=DENY, principal="User:ben"),
                acl(name="orders.", pattern=PREFIXED), acl(name="*"), cluster(Operation.ALTER)]
    assert sum(map(Filter(**{**ANY, **asked}).matches, bindings)) == count


def test_what_comes_with_another_binding_is_accepted_with_it_alone():
    allowed = Allowed([acl(Operation.WRITE), acl(permission=DENY, name="x")])
    fine = [acl(Operation.DESCRIBE), acl(Operation.CREATE), acl(Operation.DESCRIBE_CONFIGS),
            acl(Operation.WRITE, "t", resource=ResourceType.TRANSACTIONAL_ID), cluster(Operation.IDEMPOTENT_WRITE),
            acl(name="g", resource=GROUP)]
    for binding in fine:
        assert is_implied(binding) and allowed.refuse(binding) is None, binding
    for binding in (acl(Operation.DESCRIBE, "other"), acl(Operation.DESCRIBE, principal="User:ben"),
                    acl(Operation.DESCRIBE, pattern=PREFIXED), acl(Operation.CREATE, "x")):
        assert "comes with" in allowed.refuse(binding), binding
    assert not is_implied(acl()) and not is_implied(acl(Operation.DESCRIBE, permission=DENY))


@pytest.mark.parametrize("wrong", [
    {"resource_type": 0}, {"resource_type": 99}, {"resource_type": 1}, {"operation": 0}, {"operation": 1},
    {"operation": -1}, {"permission_type": 0}, {"permission_type": 1}, {"resource_pattern_type": 1},
    {"resource_pattern_type": 2}, {"resource_pattern_type": 0}, {"resource_name": ""},
    {"resource_type": 4}, {"resource_type": 4, "resource_name": "kafka-cluster", "resource_pattern_type": 4},
], ids=str)
def test_what_is_no_binding_is_said_so(wrong):
    fields = {"resource_type": 2, "resource_name": "a", "resource_pattern_type": 3, "principal": "User:a", "host": "*",
              "operation": 3, "permission_type": 3}
    assert isinstance(binding_from(SimpleNamespace(**fields)), Binding)
    assert isinstance(binding_from(SimpleNamespace(**{**fields, **wrong})), str)


def test_a_filter_of_an_unknown_kind_is_refused():
    fields = {"resource_type_filter": 1, "resource_name_filter": None, "pattern_type_filter": 1,
              "principal_filter": None, "host_filter": None, "operation": 1, "permission_type": 1}
    assert isinstance(filter_from(SimpleNamespace(**fields)), Filter)
    for field in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type"):
        assert isinstance(filter_from(SimpleNamespace(**{**fields, field: 0})), str)


# -- the APIs, on policies that are kept in a dict --------------------------------------------------------------------

class Kept:
    """Policies of protocols/managed.py; a name in bad is not well-formed."""

    def __init__(self):
        self.rules = {}
        self.steps = []
        self.bad = set()
        self.no = None

    def in_force(self, beginning):
        return iter([rule for name, rule in self.rules.items() if name.startswith(beginning)])

    def refuse(self, identity, act):
        return self.no

    def change(self, identity, act, changes, done):
        assert all(isinstance(one, PolicyChange) for one in changes)
        self.steps.append(len(changes))
        if any(one.rule is not None and one.rule.to[0] in self.bad for one in changes):
            done(Refusal(Reason.PAYLOAD_INVALID, "no name"))
            return
        for one in changes:
            self.rules.pop(one.name, None)
            if one.rule is not None:
                self.rules[one.name] = one.rule
        done(None)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    broker.users.passwords = {}                     # people log in here
    broker.server.broker.policies = Kept()
    yield broker
    broker.close()


def client_of(broker):
    """Logged in as ana."""
    broker.users.passwords = {"ana": b"x"}
    client = broker.connect()
    client.ask("SaslHandshake", 1, mechanism="PLAIN")
    answer = client.ask("SaslAuthenticate", 2, auth_bytes=b"\0ana\0x")
    assert answer.error_code == 0, answer
    return client


def creation(binding):
    row = binding.row()
    return {**row, "resource_pattern_type": row["pattern_type"]}


def create(client, *bindings):
    answer = client.ask("CreateAcls", 3, creations=[creation(one) for one in bindings])
    return [result.error_code for result in answer.results], [result.error_message for result in answer.results]


def everything(**fields):
    return {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1, **fields}


def test_bindings_are_made_once_listed_and_deleted(broker):
    client, kept = client_of(broker), broker.server.broker.policies
    codes, texts = create(client, acl(Operation.WRITE), acl(Operation.DESCRIBE), acl(Operation.ALL), acl(name=""),
                          acl(name="g", resource=GROUP), acl(Operation.WRITE))
    assert codes == [0, 0, 44, 42, 0, 0] and "READ and WRITE" in texts[2] and kept.steps == [1]
    assert create(client, acl(Operation.WRITE))[0] == [0] and kept.steps == [1]         # it is there
    answer = client.ask("DescribeAcls", 3, **everything())
    resource, = answer.resources
    assert (resource.resource_name, [(one.principal, one.operation) for one in resource.acls]) == (
        "orders.eu", [("User:ana", Operation.WRITE)])
    answer = client.ask("DeleteAcls", 3, filters=[
        everything(resource_name_filter="other"), everything(), everything(), everything(operation=0)])
    assert [(one.error_code, len(one.matching_acls)) for one in answer.filter_results] == [
        (0, 0), (0, 1), (0, 0), (42, 0)]
    assert not kept.rules and not client.ask("DescribeAcls", 1, **everything()).resources


def test_one_that_is_not_well_formed_is_refused_alone(broker):
    client, kept = client_of(broker), broker.server.broker.policies
    kept.bad = {"user:b(d"}
    codes, _ = create(client, acl(), acl(principal="User:b(d"), acl(Operation.WRITE),
                      acl(Operation.DESCRIBE, principal="User:b(d"))
    assert codes == [0, 42, 0, 44] and len(kept.rules) == 2


def test_many_go_in_steps_that_a_revision_can_hold(broker):
    client, kept = client_of(broker), broker.server.broker.policies
    codes, _ = create(client, *(acl(name=f"t{number}") for number in range(250)))
    assert codes == [0] * 250 and kept.steps == [100, 100, 50]
    answer = client.ask("DeleteAcls", 2, filters=[everything()])
    assert len(answer.filter_results[0].matching_acls) == 250 and not kept.rules
    answer = client.ask("DeleteAcls", 2, filters=[everything()] * 1_001)
    assert {one.error_code for one in answer.filter_results} == {42}


def test_more_than_one_answer_may_hold_are_asked_for_by_a_narrower_filter(broker):
    client, kept = client_of(broker), broker.server.broker.policies
    for number in range(2_001):
        rule = rule_of(acl(name=f"t{number}", principal=f"User:u{number % 3}"))
        kept.rules[rule.name] = rule
    answer = client.ask("DescribeAcls", 3, **everything())
    assert answer.error_code == 42 and "name a resource" in answer.error_message
    assert len(client.ask("DescribeAcls", 3, **everything(principal_filter="User:u1")).resources) == 667
    answer = client.ask("DeleteAcls", 3, filters=[everything(), everything(principal_filter="User:u1")])
    assert [(one.error_code, len(one.matching_acls)) for one in answer.filter_results] == [(42, 0), (0, 667)]
    assert len(kept.rules) == 2_001 - 667


def test_a_stream_that_holds_other_topics_than_its_name_says_is_refused(broker):
    """The stream events captures #: an ACL for events/# would not let anybody read it, nor keep anybody out."""
    codes, texts = create(client_of(broker), acl(name="events"), acl(name="orders"))
    assert codes == [44, 0] and "policy" in texts[0]


def test_who_may_not_is_told_so_and_on_an_open_node_there_are_none(broker):
    client, kept = client_of(broker), broker.server.broker.policies
    kept.no = Refusal(Reason.NOT_AUTHORIZED, "user ana may not administer")
    assert create(client, acl()) == ([31], ["user ana may not administer"])
    assert client.ask("DeleteAcls", 1, filters=[everything()]).filter_results[0].error_code == 31
    broker.users.passwords = None
    assert create(broker.connect(), acl())[0] == [54]
    assert broker.connect().ask("DescribeAcls", 1, **everything()).error_code == 54
