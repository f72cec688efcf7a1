"""ACLs of real admin clients: Apache's kafka-acls (4.4), librdkafka and kafka-python. They become policies of the node,
so they hold on every protocol, at once, and after a kill.
"""
from __future__ import annotations

from contextlib import closing

import pytest
from argon2 import PasswordHasher
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
)
from kafka.admin import ResourceType as PythonResourceType
from kafka.errors import ClusterAuthorizationFailedError

from tests.interop.kafka_node import DEADLINE_S, java, unique
from tests.interop.test_kafka_logins import address, login, may_produce, over_tls
from tests.support.admin import Admin, basic
from tests.support.node import Node

USERS = ("root", "ana", "ben", "eve", "kim", "viewer")
CONFIG = "".join(f'[[users]]\nname = "{user}"\npassword_hash = "{{hash}}"\n' for user in USERS) + """
[[policies]]
allow = ["manage"]
to = ["user:root"]
[[policies]]
allow = ["view"]
to = ["user:viewer"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificates):
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    node = Node(tmp_path_factory.mktemp("acls"), CONFIG.format(hash=hasher.hash("secret")),
                listeners=("http", "console", "kafka"), tls=("kafka",), certificates=certificates).start()
    yield node
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)
    node.process.kill9()


def admin(node, user="root"):
    return AdminClient(over_tls(node, **login("PLAIN", user, "secret")))


def python_admin(node, user):
    return KafkaAdminClient(
        bootstrap_servers=address(node), security_protocol="SASL_SSL", ssl_cafile=str(node.certificates.ca),
        sasl_mechanism="PLAIN", sasl_plain_username=user, sasl_plain_password="secret")


def produces(node, user, topic, protocol="kafka"):
    if protocol == "http":
        return node.publish(topic, b"x", basic(user, "secret")).status == 200
    return may_produce(node, 4_000, topic=topic, **login("PLAIN", user, "secret"))


def acl(operation, name, user, *, prefixed=False, allow=True, kind=ResourceType.TOPIC, host="*"):
    return AclBinding(kind, name, ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
                      f"User:{user}", host, operation, AclPermissionType.ALLOW if allow else AclPermissionType.DENY)


def anything(user=None, name=None, pattern=ResourcePatternType.ANY):
    return AclBindingFilter(ResourceType.ANY, name, pattern, user and f"User:{user}", None, AclOperation.ANY,
                            AclPermissionType.ANY)


def create(client, *bindings):
    """What came of each: "" or the error's text."""
    found = []
    for future in client.create_acls(list(bindings)).values():
        try:
            future.result(DEADLINE_S)
            found.append("")
        except KafkaException as error:
            found.append(f"{error.args[0].name()}: {error.args[0].str()}")
    return found


def listed(client, asked):
    return {(one.name, one.operation.name) for one in client.describe_acls(asked).result(DEADLINE_S)}


def acl_tool(node, folder, *arguments):
    settings = folder / "admin.properties"
    settings.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={node.certificates.ca}\n"
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=root "
        "password=secret;\n")
    return java("org.apache.kafka.tools.AclCommand", "--bootstrap-server", address(node), "--command-config",
                str(settings), *arguments)


def test_apaches_tool_lets_a_producer_in_on_every_protocol_and_puts_it_out_again(guarded, tmp_path):
    topic = unique("tool")
    place = topic.replace(".", "/")
    assert not produces(guarded, "ana", place, "http")
    done = acl_tool(guarded, tmp_path, "--add", "--allow-principal", "User:ana", "--producer", "--idempotent",
                    "--transactional-id", "t", "--topic", topic)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "operation=WRITE" in done.stdout
    assert produces(guarded, "ana", topic) and produces(guarded, "ana", place, "http")
    assert not produces(guarded, "ana", place + "x", "http") and not produces(guarded, "ben", place, "http")
    guarded.kill9()
    guarded.start()
    assert produces(guarded, "ana", place, "http")
    assert listed(admin(guarded), anything("ana", topic)) == {(topic, "WRITE")}
    done = acl_tool(guarded, tmp_path, "--remove", "--force", "--allow-principal", "User:ana", "--producer",
                    "--topic", topic)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not produces(guarded, "ana", place, "http") and not listed(admin(guarded), anything("ana"))


def test_apaches_tool_is_told_what_has_no_counterpart(guarded, tmp_path):
    done = acl_tool(guarded, tmp_path, "--add", "--deny-principal", "User:ana", "--operation", "Delete", "--topic", "x")
    assert done.returncode != 0 and "no counterpart" in done.stdout + done.stderr


def test_prefixes_and_denials_of_librdkafka_hold_at_once(guarded):
    client, prefix = admin(guarded), unique("shop") + "."
    inside, inner = prefix + "till", prefix + "safe"
    assert create(client, acl(AclOperation.WRITE, prefix, "ben", prefixed=True),
                  acl(AclOperation.READ, prefix, "ben", prefixed=True),
                  acl(AclOperation.READ, "readers", "ben", kind=ResourceType.GROUP),
                  acl(AclOperation.WRITE, inner, "ben", allow=False)) == [""] * 4
    assert produces(guarded, "ben", inside) and not produces(guarded, "ben", inner)
    consumer = Consumer({**over_tls(guarded, **login("PLAIN", "ben", "secret")), "group.id": unique("readers"),
                         "auto.offset.reset": "earliest"})
    consumer.subscribe([inside])
    assert consumer.poll(DEADLINE_S).value() == b"x"
    consumer.close()
    assert listed(client, anything("ben", inside, ResourcePatternType.MATCH)) == {(prefix, "READ"), (prefix, "WRITE")}
    deleted, = client.delete_acls([anything("ben", inner)]).values()
    assert [one.operation for one in deleted.result(DEADLINE_S)] == [AclOperation.WRITE]
    assert produces(guarded, "ben", inner)


def test_each_binding_gets_its_own_answer(guarded):
    answers = create(
        admin(guarded), acl(AclOperation.WRITE, "fine", "eve"), acl(AclOperation.ALL, "fine", "eve"),
        acl(AclOperation.WRITE, "fine", "eve", host="10.0.0.1"), acl(AclOperation.DESCRIBE, "lone", "eve"),
        acl(AclOperation.WRITE, "sh", "eve", prefixed=True), acl(AclOperation.WRITE, "fine", "e[ve]"),
        acl(AclOperation.WRITE, "events", "eve"))
    assert answers[0] == "" and [answer.partition(":")[0] for answer in answers[1:]] == [
        "POLICY_VIOLATION", "POLICY_VIOLATION", "POLICY_VIOLATION", "POLICY_VIOLATION", "INVALID_REQUEST",
        "POLICY_VIOLATION"]
    for answer, says in zip(answers[1:], ("READ and WRITE", "hosts", "comes with READ or WRITE", "ends with a dot",
                                          "no pattern", "write a policy")):
        assert says in answer


def test_it_takes_the_right_to_administer_which_an_acl_may_give(guarded):
    mine, root = admin(guarded, "kim"), admin(guarded)
    assert create(mine, acl(AclOperation.WRITE, "kims", "kim"))[0].startswith("CLUSTER_AUTHORIZATION_FAILED")
    assert not listed(mine, anything())         # librdkafka says nothing of the error; kafka-python does
    everything = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(
        PythonResourceType.ANY, None, ACLResourcePatternType.ANY))
    with closing(python_admin(guarded, "kim")) as client, pytest.raises(ClusterAuthorizationFailedError):
        client.describe_acls(everything)
    assert create(root, acl(AclOperation.ALTER, "kafka-cluster", "kim", kind=ResourceType.BROKER)) == [""]
    assert create(mine, acl(AclOperation.WRITE, "kims", "kim")) == [""]
    assert ("kims", "WRITE") in listed(admin(guarded, "viewer"), anything("kim"))
    assert create(admin(guarded, "viewer"), acl(AclOperation.WRITE, "x", "viewer"))[0].startswith("CLUSTER_AUTH")
    answers = create(root, acl(AclOperation.ALL, "kafka-cluster", "*", kind=ResourceType.BROKER, allow=False))
    assert answers[0].startswith("POLICY_VIOLATION") and "would be left to administer" in answers[0]


def test_acls_of_kafka_python_are_documents_with_an_author_and_on_record(guarded):
    client = python_admin(guarded, "root")
    place = ResourcePattern(PythonResourceType.TOPIC, "meters.graz")
    made = client.create_acls([ACL("User:ana", "*", ACLOperation.READ, ACLPermissionType.ALLOW, place)])
    assert len(made["succeeded"]) == 1 and not made["failed"]
    manage = Admin(guarded, basic("root", "secret"))
    row = next(row for row in manage.rows("policies") if row["to"] == ["user:ana"])
    assert (row["allow"], row["topics"], row["source"], row["state"]) == (
        ["subscribe"], ["meters/graz/#"], "managed", "in force")
    acts = [record for record in manage.rows("audit") if record["act"] == "kafka.acls.create"]
    assert {(act["user"], act["via"], act["outcome"]) for act in acts if act["target"] == row["name"]} == {
        ("root", "kafka", "done")}
    assert any(record["outcome"] == "denied" and record["user"] == "viewer" for record in acts)
    found, _ = client.describe_acls(ACLFilter("User:ana", None, ACLOperation.ANY, ACLPermissionType.ANY, place))
    assert [one.operation for one in found] == [ACLOperation.READ]
    client.close()
    answer = manage.ask("DELETE", f"policies/{row['name']}", {"version": row["version"]})
    assert answer.status == 200 and not listed(admin(guarded), anything("ana", "meters.graz"))
