"""Topics and groups of Kafka clients by `meshgate topics` and `meshgate groups`: what they do and refuse."""
from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from tests.support.node import HOST, Node, http, meshgate
from tests.support.wait import DEADLINE_S, wait_until


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    started = Node(tmp_path_factory.mktemp("kafka"), '[[streams]]\nname = "fixed"\ncapture = ["fixed/#"]\n',
                   listeners=("http", "console", "kafka")).start()
    yield started
    started.kill9()


def run(node, *words, code=0):
    done = meshgate(*words, "--url", node.url("console"))
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stdout if code == 0 else done.stderr).decode()


def config(node, **more):
    return {"bootstrap.servers": f"{HOST}:{node.ports['kafka']}", **more}


def test_a_topic_is_made_changed_described_and_deleted(node):
    run(node, "topics", "create", "orders.eu", "--partitions", "2", "--set", "retention.ms=3600000")
    admin = AdminClient(config(node))
    assert len(admin.list_topics("orders.eu", timeout=DEADLINE_S).topics["orders.eu"].partitions) == 2
    preview = json.loads(run(node, "topics", "alter", "orders.eu", "--partitions", "3", "--unset", "retention.ms",
                             "--set", "cleanup.policy=compact,delete", "--dry-run"))
    assert preview["changes"] == {
        "partitions": {"from": "2", "to": "3"}, "retention.ms": {"from": "3600000", "to": "604800000"},
        "cleanup.policy": {"from": "delete", "to": "compact,delete"}}
    run(node, "topics", "alter", "orders.eu", "--partitions", "3", "--set", "cleanup.policy=compact,delete",
        "--reason", "more of them")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "orders.eu")
    found = admin.describe_configs([resource])[resource].result(DEADLINE_S)
    assert (found["cleanup.policy"].value, found["retention.ms"].value) == ("compact,delete", "3600000")
    shown = json.loads(run(node, "topics", "describe", "orders.eu", "--json"))
    assert len(shown["partitions"]) == 3 and shown["capture"] == ["orders/eu/#"]
    assert "retention.ms" in run(node, "topics", "describe", "orders.eu")
    assert "orders.eu" in run(node, "topics", "list")
    run(node, "topics", "delete", "orders.eu", "--dry-run")
    run(node, "topics", "delete", "orders.eu")
    assert "orders.eu" not in run(node, "topics")
    done = meshgate("topics", "--url", node.url("console"), "list", "--json")       # options may stand before the act
    assert done.returncode == 0 and b'"fixed"' in done.stdout, done.stderr
    trail = [row for row in node.get("/api/v1/audit").json["audit"] if row["target"] == "orders.eu"]
    assert {(row["act"], row["reason"]) for row in trail} == {
        ("stream.create", ""), ("stream.change", "more of them"), ("stream.delete", "")}


@pytest.mark.parametrize(("words", "text"), [
    ("topics create a/b", "letters, digits"), ("topics create fixed", "exists"),
    ("topics create x --set what=1", "Unknown topic config"), ("topics create x --set w", "KEY=VALUE"),
    ("topics create x --partitions 0", "at least one"), ("topics alter fixed --partitions 9", "configuration"),
    ("topics delete fixed", "configuration"), ("topics delete none", "no stream"),
    ("topics alter fixed", "what is to change"), ("groups describe none", "no group"),
    ("groups delete none", "no group"), ("groups reset-offsets none --to earliest", "no group")])
def test_what_is_refused_is_one_line_that_says_why(node, words, text):
    said = run(node, *words.split(), code=1)
    assert text in said and len(said.splitlines()) == 1


def test_a_group_is_described_moved_when_it_has_no_members_and_deleted(node):
    producer = Producer(config(node))
    for number in range(10):
        producer.produce("readings", str(number))
    assert producer.flush(DEADLINE_S) == 0
    options = {"group.id": "readers", "auto.offset.reset": "earliest", "enable.auto.commit": False}

    def read():
        consumer = Consumer(config(node, **options))
        consumer.subscribe(["readings"])
        found = []
        wait_until(lambda: found.extend(consumer.consume(20, 0.2)) or len(found) >= 1, "records", deadline_s=DEADLINE_S)
        consumer.commit(asynchronous=False)
        return consumer, [int(message.value()) for message in found]

    consumer, found = read()
    assert found == list(range(10))
    shown = json.loads(run(node, "groups", "describe", "readers", "--json"))
    assert (shown["kind"], shown["state"], shown["members"]) == ("classic", "Stable", 1)
    assert shown["places"] == [{"stream": "readings", "partition": 0, "offset": 10, "start": 0, "end": 10, "lag": 0}]
    assert "members" in run(node, "groups", "reset-offsets", "readers", "--to", "earliest", code=1)
    assert "members" in run(node, "groups", "delete", "readers", code=1)
    consumer.close()
    wait_until(lambda: json.loads(run(node, "groups", "describe", "readers", "--json"))["members"] == 0, "it has left")
    preview = json.loads(run(node, "groups", "reset-offsets", "readers", "--to", "4", "--dry-run"))
    assert preview["positions"] == [{"stream": "readings", "partition": 0, "position": 4, "from": 10, "moves": -6}]
    node.kill9()
    node.restart()
    run(node, "groups", "reset-offsets", "readers", "--topic", "readings", "--partition", "0", "--to", "7")
    node.kill9()                                                    # what was answered is on the disk
    node.restart()
    asked = Consumer(config(node, **options))
    assert asked.committed([TopicPartition("readings", 0)], DEADLINE_S)[0].offset == 7
    asked.close()
    consumer, found = read()
    assert found == [7, 8, 9]
    consumer.close()
    wait_until(lambda: json.loads(run(node, "groups", "describe", "readers", "--json"))["members"] == 0, "it has left")
    assert "readers" in run(node, "groups", "list")
    run(node, "groups", "delete", "readers")
    assert "readers" not in run(node, "groups")


@pytest.mark.parametrize("act", ["pause", "seek", "delete"])
def test_acts_on_consumers_are_on_disk_when_they_are_answered(node, act):
    name = f"kept-{act}"
    for number in range(3):
        node.publish("events/kept", str(number).encode())
    made = http("PUT", node.url("http", f"/v1/consumers/{name}"), b'{"filters": ["events/kept"], "start": "latest"}')
    assert made.status in (200, 201), made.text
    method, path, body = {
        "pause": ("POST", "/pause", b"{}"), "seek": ("POST", "/seek", b'{"to": "earliest"}'),
        "delete": ("DELETE", "", b"{}")}[act]
    assert http(method, node.url("console", f"/api/v1/consumers/{name}{path}"), body).status == 200
    node.kill9()
    node.restart()
    rows = [row for row in node.get("/api/v1/consumers").json["consumers"] if row["name"] == name]
    if act == "delete":
        assert not rows
    elif act == "pause":
        assert rows[0]["paused"]
    else:
        wait_until(lambda: node.get(f"/v1/consumers/{name}", listener="http").json["lag"]["events"] >= 3, "all again")
