"""A bridge between a node and a real Apache Kafka: what is kept, exactly once through kills, circles, logins, acts."""
from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from urllib.parse import quote

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.apache_kafka import PARTITIONS, PASSWORD, USER, ApacheKafka
from tests.support.node import Node, http, meshgate
from tests.support.wait import wait_until

RECORDS = 1_000_000 if os.environ.get("MESHGATE_SOAK") else 20_000
DEADLINE_S = 3_600 if os.environ.get("MESHGATE_SOAK") else 120
TOPICS = ("orders", "many", "out", "outmany", "secure", "scram", "plain", "small", "anew", "big", "more",
          "keyed", "outplain")

STREAMS = "".join(f"""
[[streams]]
name = "{name}"
capture = ["{name}/#"]
topic = "{name}/line"
partitions = 3
""" for name in ("west", "plant", "load"))

BRIDGE = """
[limits]
payload_bytes_max = "64KiB"

[[kafka_bridges]]
name = "west"
servers = ["{plain}"]
retry_initial_s = "100ms"
retry_max_s = "1s"
refresh_s = "1s"
request_timeout_s = "10s"
[[kafka_bridges.inward]]
name = "orders"
topics = ["orders", "many", "small", "anew"]
topic = "west/{{topic}}"
[[kafka_bridges.inward]]
name = "back"
topics = ["out"]
topic = "west/back"
[[kafka_bridges.inward]]
name = "big"
topics = ["big"]
topic = "west/big"
refused = "skip"
[[kafka_bridges.outward]]
name = "plant"
filters = ["plant/#", "west/orders"]
topic = "out"
start = "earliest"
[[kafka_bridges.outward]]
name = "load"
filters = ["load/#"]
topic = "outmany"
start = "earliest"

[[kafka_bridges]]
name = "ways"
servers = ["{plain}"]
retry_initial_s = "100ms"
refresh_s = "1s"
record_bytes_max = "32KiB"
[[kafka_bridges.inward]]
name = "keyed"
topics = ["keyed"]
topic = "west/keyed/{{key}}"
start = "latest"
[[kafka_bridges.outward]]
name = "plain"
filters = ["plain/#"]
topic = "outplain"
delivery = "idempotent"
compression = "zstd"
refused = "dead-letter"
"""

ZSTD = 4                    # of a record batch's attributes

LOGIN = """
[[kafka_bridges]]
name = "{name}"
servers = ["{server}"]
refresh_s = "1s"
retry_initial_s = "100ms"
[kafka_bridges.sasl]
mechanism = "{mechanism}"
username = "{user}"
password = "env:BRIDGE_PASSWORD"
{tls}
[[kafka_bridges.inward]]
name = "in"
topics = ["{name}"]
topic = "west/{name}"
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory, certificates):
    kafka = ApacheKafka(tmp_path_factory.mktemp("kafka"), certificates).start()
    try:
        admin = AdminClient({"bootstrap.servers": kafka.at()})
        for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in TOPICS]).values():
            future.result(30)
        produce(kafka.at(), "keyed", [{"key": b"old", "value": b"before the bridge"}])
        yield kafka
    finally:
        kafka.kill9()


@pytest.fixture(scope="module")
def node(tmp_path_factory, kafka, certificates):
    tls = f'[kafka_bridges.tls]\nca = "{certificates.ca}"'
    extra = STREAMS + BRIDGE.format(plain=kafka.at()) + "".join((
        LOGIN.format(user=USER, name="secure", server=kafka.at("SECURE"), mechanism="SCRAM-SHA-512", tls=tls),
        LOGIN.format(user=USER, name="scram", server=kafka.at("SCRAM"), mechanism="SCRAM-SHA-256", tls=""),
        LOGIN.format(user=USER, name="plain", server=kafka.at("SECURE"), mechanism="PLAIN", tls=tls)))
    node = Node(tmp_path_factory.mktemp("node"), extra, listeners=("mqtt", "http", "console", "kafka"),
                environment={"BRIDGE_PASSWORD": PASSWORD}).start()
    try:
        yield node
        assert node.running, node.process.log_tail()
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
        assert PASSWORD not in node.process.log_text()
    finally:
        node.process.kill9()


# -- helpers ----------------------------------------------------------------------------------------------------------

def at_node(node: Node) -> str:
    return f"127.0.0.1:{node.ports['kafka']}"


def produce(server: str, topic: str, records) -> None:
    """records: dicts of produce(). All are acked."""
    producer = Producer({"bootstrap.servers": server, "enable.idempotence": True, "linger.ms": 5})
    failed = []
    for record in records:
        producer.produce(topic, on_delivery=lambda error, _: failed.append(error) if error else None, **record)
        producer.poll(0)
    assert producer.flush(60) == 0 and not failed, failed[:3]


class Read:
    """Everything of a topic, from its beginning, committed."""

    def __init__(self, server: str, topic: str, partitions: int = PARTITIONS) -> None:
        self._consumer = Consumer({"bootstrap.servers": server, "group.id": "look", "enable.auto.commit": False,
                                   "isolation.level": "read_committed", "log_level": 0})
        self._consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
        self.records = []

    def more(self):
        self.records += [message for message in self._consumer.consume(10_000, 0.2) if not message.error()]
        return self.records

    def until(self, wanted, what, deadline_s=60.0):
        wait_until(lambda: wanted(self.more()), what, deadline_s=deadline_s,
                   also=lambda: str([message.value() for message in self.records[-5:]]))
        return self.records

    def close(self):
        self._consumer.close()


def read(server: str, topic: str, wanted, what: str, deadline_s: float = 60.0):
    reader = Read(server, topic)
    try:
        return reader.until(wanted, what, deadline_s)
    finally:
        reader.close()


def headers(message) -> dict:
    return dict(message.headers() or ())


def topic_is(message, topic: str) -> bool:
    return headers(message).get("meshgate-topic") == topic.encode()


def row(node: Node, name: str) -> dict:
    rows = {found["name"]: found for found in node.get("/api/v1/bridges").json["bridges"]}
    return rows[name]


# -- what is kept -----------------------------------------------------------------------------------------------------

def test_keys_headers_times_and_nulls_come_into_the_mesh(kafka, node):
    before_ms = int(time.time() * 1000) - 5_000
    produce(kafka.at(), "orders", [
        {"key": b"k1", "value": b"one", "partition": 0, "timestamp": before_ms,
         "headers": [("a", b"1"), ("a", b"2"), ("bin", b"\xff\x00"), ("none", None), ("content-type", b"text/x"),
                     ("meshgate-client", b"forged")]},
        {"key": None, "value": b"two", "partition": 0},
        {"key": b"k3", "value": None, "partition": 0},
        {"key": None, "value": None, "partition": 0},
        {"key": b"", "value": b"", "partition": 0},
    ])
    found = read(at_node(node), "west",
                 lambda records: len([one for one in records if topic_is(one, "west/orders")]) >= 5, "five records")
    mine = [one for one in found if topic_is(one, "west/orders")]
    assert Counter((one.key(), one.value()) for one in mine) == Counter([
        (b"k1", b"one"), (None, b"two"), (b"k3", None), (None, None), (b"", b"")])
    first = next(one for one in mine if one.value() == b"one")
    assert first.timestamp()[1] == before_ms
    pairs = first.headers()
    assert [value for name, value in pairs if name == "a"] == [b"1", b"2"]
    assert dict(pairs)["bin"] == b"\xff\x00" and dict(pairs)["none"] is None
    assert dict(pairs)["content-type"] == b"text/x"
    assert dict(pairs)["meshgate-client"] != b"forged"
    assert dict(pairs)["bridge-path"].startswith(b"kafka:")


def test_keys_headers_times_and_nulls_go_to_the_cluster(kafka, node):
    before_ms = int(time.time() * 1000) - 5_000
    produce(at_node(node), "plant", [
        {"key": b"k1", "value": b"one", "timestamp": before_ms, "headers": [("a", b"1"), ("a", b"2"), ("none", None)]},
        {"key": None, "value": b"two"}, {"key": b"k3", "value": None}, {"key": None, "value": None}])
    answer = node.publish("plant/press", b"three", {"Content-Type": "text/plain"})
    assert answer.status in (200, 201, 202, 204), answer
    found = read(kafka.at(), "out", lambda records: len(records) >= 5, "five records")
    by_value = {(one.key(), one.value()): one for one in found}
    first = by_value[b"k1", b"one"]
    assert first.timestamp()[1] == before_ms
    assert [value for name, value in first.headers() if name == "a"] == [b"1", b"2"]
    assert headers(first)["none"] is None and headers(first)["meshgate-topic"] == b"plant/line"
    assert headers(first)["bridge-path"].startswith(b"mesh:test-1/")
    assert {(None, b"two"), (b"k3", None), (None, None), (b"plant/press", b"three")} <= set(by_value)
    assert headers(by_value[b"plant/press", b"three"])["content-type"] == b"text/plain"
    assert not {"meshgate-dedupe-id", "meshgate-client", "meshgate-qos"} & set(headers(first))


def test_nothing_goes_in_circles(kafka, node):
    """`back` reads what `plant` wrote; `plant` reads what `orders` brought."""
    wait_until(lambda: row(node, "west/back")["looped"] >= 5 and row(node, "west/plant")["looped"] >= 5,
               "both ways are refused", also=lambda: f"{row(node, 'west/back')} {row(node, 'west/plant')}")
    assert row(node, "west/back")["moved"] == 0
    assert row(node, "west/plant")["moved"] == 5


@pytest.mark.parametrize("name", ["secure", "scram", "plain"])
def test_logins(kafka, node, name):
    produce(kafka.at(), name, [{"value": name.encode()}])
    read(at_node(node), "west", lambda records: any(topic_is(one, f"west/{name}") for one in records), name)
    assert row(node, f"{name}/in")["state"] == "running"


# -- other ways -------------------------------------------------------------------------------------------------------

def test_keys_make_topics_and_a_route_may_begin_with_what_comes(kafka, node):
    wait_until(lambda: row(node, "ways/keyed")["state"] == "running", "it runs")
    produce(kafka.at(), "keyed", [{"key": b"a b/c+", "value": b"of its key"}])
    found = read(at_node(node), "west", lambda records: any(
        topic_is(one, "west/keyed/a b%2Fc%2B") for one in records), "it comes under its key")
    assert not any(one.value() == b"before the bridge" for one in found)


def test_idempotent_compressed_and_what_the_cluster_would_refuse_is_a_dead_letter(kafka, node):
    wait_until(lambda: row(node, "ways/plain")["state"] == "running", "it runs")
    for topic, payload in (("plain/one", b"one " * 500), ("plain/big", b"x" * 40_000), ("plain/two", b"two " * 500)):
        assert node.publish(topic, payload).status < 300
    found = read(kafka.at(), "outplain", lambda records: len(records) >= 2, "those that fit")
    assert sorted(one.value()[:3] for one in found) == [b"one", b"two"]
    assert row(node, "ways/plain")["refused"] == 1
    wait_until(lambda: b"plain/big" in node.get(
        "/v1/consumers/kafka-bridge.ways.plain/dead-letters", listener="http").body, "the dead letter is there")
    assert kafka.codecs("outplain") == {ZSTD}, "compressed, as it is set"


# -- acts and figures -------------------------------------------------------------------------------------------------

def test_pause_and_resume_act_and_show_and_outlive_a_kill(kafka, node):
    for name in ("west/orders", "west/plant"):
        assert http("POST", node.url("console", f"/api/v1/bridges/{quote(name, safe='')}/pause"), b"{}",
                    {"Content-Type": "application/json"}).status == 200
        assert row(node, name)["state"] == "paused"
    node.restart()
    wait_until(lambda: row(node, "west/back")["state"] == "running", "the node is back")
    assert row(node, "west/orders")["state"] == "paused"
    wait_until(lambda: row(node, "west/plant")["state"] == "paused", "paused still")
    produce(kafka.at(), "small", [{"value": b"waited"}])
    produce(at_node(node), "plant", [{"key": b"w", "value": b"waited"}])
    time.sleep(2)
    assert row(node, "west/orders")["moved"] == row(node, "west/plant")["moved"] == 0
    wait_until(lambda: row(node, "west/plant")["lag_events"] == 1, "the lag is shown")
    for name in ("west/orders", "west/plant"):
        assert http("POST", node.url("console", f"/api/v1/bridges/{quote(name, safe='')}/resume"), b"{}",
                    {"Content-Type": "application/json"}).status == 200
    read(at_node(node), "west", lambda records: any(topic_is(one, "west/small") for one in records), "it comes")
    read(kafka.at(), "out", lambda records: any(one.value() == b"waited" for one in records), "it goes")
    wait_until(lambda: row(node, "west/orders")["lag_events"] == 0 == row(node, "west/plant")["lag_events"], "no lag")
    assert row(node, "west/plant")["moved"] == 1 and row(node, "west/orders")["moved"] == 1    # five were there
    assert http("POST", node.url("console", "/api/v1/bridges/no/pause"), b"{}",
                {"Content-Type": "application/json"}).status == 404


def test_metrics_command_and_pages_show_routes(node):
    metrics = node.metrics()
    assert any("meshgate_bridge_moved" in name and "west/plant" in name for name in metrics)
    done = meshgate("get", "bridges", "--url", node.url("console"), "-o", "json")
    assert done.returncode == 0, done
    assert "west/orders" in str(done.stdout)
    page = node.get("/bridges").text
    assert "west/orders" in page and "Pause" in page


# -- trouble ----------------------------------------------------------------------------------------------------------

def test_a_record_that_the_node_cannot_take_is_left_out_where_that_is_set_and_counted(kafka, node):
    produce(kafka.at(), "big", [{"value": b"x" * 70_000, "partition": 0}, {"value": b"after", "partition": 0}])
    read(at_node(node), "west", lambda records: any(
        topic_is(one, "west/big") and one.value() == b"after" for one in records), "the next one comes")
    assert row(node, "west/big")["refused"] == 1


def test_a_record_that_the_node_cannot_take_stops_its_partition_only(kafka, node):
    produce(kafka.at(), "small", [{"value": b"x" * 70_000, "partition": 0}, {"value": b"behind", "partition": 0},
                                  {"value": b"beside", "partition": 1}])
    wait_until(lambda: row(node, "west/orders")["state"] == "stopped", "it stops")
    assert "small/0, offset" in row(node, "west/orders")["last_problem"]
    found = read(at_node(node), "west", lambda records: any(one.value() == b"beside" for one in records), "others go")
    assert not any(one.value() == b"behind" for one in found)
    assert any(item["kind"] == "bridge" for item in node.get("/api/v1/overview").json["attention"])
    node.write_config(node.extra.replace('payload_bytes_max = "64KiB"', 'payload_bytes_max = "1MiB"'))
    node.sighup()
    read(at_node(node), "west", lambda records: any(one.value() == b"behind" for one in records), "the limit is raised")
    wait_until(lambda: row(node, "west/orders")["state"] == "running", "it is well")


def test_a_topic_that_is_made_anew_is_read_anew(kafka, node):
    produce(kafka.at(), "anew", [{"value": b"old-%d" % number, "partition": 0} for number in range(20)])
    read(at_node(node), "west", lambda records: any(one.value() == b"old-19" for one in records), "the old one")
    admin = AdminClient({"bootstrap.servers": kafka.at()})
    admin.delete_topics(["anew"])["anew"].result(30)
    wait_until(lambda: "anew" not in admin.list_topics(timeout=5).topics, "it is gone")
    admin.create_topics([NewTopic("anew", PARTITIONS, 1)])["anew"].result(30)
    wait_until(lambda: "anew" in admin.list_topics(timeout=5).topics, "it is there")
    produce(kafka.at(), "anew", [{"value": b"new-%d" % number, "partition": 0} for number in range(3)])
    found = read(at_node(node), "west", lambda records: any(one.value() == b"new-2" for one in records), "the new one")
    assert Counter(one.value() for one in found)[b"new-0"] == 1


def test_a_reload_adds_and_removes_bridges_and_leaves_the_others(kafka, node):
    moved = row(node, "west/orders")["moved"]
    before = node.extra
    node.write_config(before + f"""
[[kafka_bridges]]
name = "more"
servers = ["{kafka.at()}"]
[[kafka_bridges.inward]]
name = "in"
topics = ["more"]
topic = "west/more"
""")
    produce(kafka.at(), "more", [{"value": b"more"}])
    node.sighup()
    read(at_node(node), "west", lambda records: any(topic_is(one, "west/more") for one in records), "the new one")
    assert row(node, "west/orders")["moved"] == moved and row(node, "west/orders")["state"] == "running"
    node.write_config(before)
    node.sighup()
    wait_until(lambda: "more/in" not in [one["name"] for one in node.get("/api/v1/bridges").json["bridges"]], "gone")
    assert row(node, "west/orders")["state"] == "running"


# -- exactly once -----------------------------------------------------------------------------------------------------

def _write(server: str, topic: str, numbers: range) -> threading.Thread:
    """By an idempotent producer that does not give up, while others are killed."""
    def write() -> None:
        producer = Producer({"bootstrap.servers": server, "enable.idempotence": True, "linger.ms": 5,
                             "message.timeout.ms": 600_000, "log_level": 0})
        for number in numbers:
            while True:
                try:
                    producer.produce(topic, b"%d" % number, b"key-%d" % (number % 50))
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(600) == 0

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def _write_and_kill(server: str, topic: str, kafka: ApacheKafka, node: Node, name: str) -> None:
    """A part of the records for each kill, which comes when some of them have been moved."""
    victims = (node, kafka, node)
    part = RECORDS // len(victims) + 1
    for index, victim in enumerate(victims):
        before = row(node, name)["moved"]
        writer = _write(server, topic, range(index * part, min((index + 1) * part, RECORDS)))
        wait_until(lambda before=before: row(node, name)["moved"] > before + 300, "something is moved",
                   also=lambda: str(row(node, name)), deadline_s=DEADLINE_S)
        victim.kill9()
        victim.start()
        writer.join(DEADLINE_S)
        assert not writer.is_alive()


def _check(records, count: int) -> None:
    numbers = Counter(int(one.value()) for one in records)
    assert not [number for number in range(count) if number not in numbers], "lost"
    assert not {number: times for number, times in numbers.items() if times > 1}, "twice"
    last: dict = defaultdict(lambda: -1)
    for one in records:                     # per partition, in order of offsets
        key = one.partition(), one.key()
        assert int(one.value()) > last[key], "out of order"
        last[key] = int(one.value())


@pytest.mark.timeout(DEADLINE_S + 300)
def test_into_the_mesh_exactly_once_through_kills_of_node_and_broker(kafka, node):
    _write_and_kill(kafka.at(), "many", kafka, node, "west/orders")
    reader = Read(at_node(node), "west")
    reader.until(lambda records: sum(topic_is(one, "west/many") for one in records) >= RECORDS, "all of them",
                 DEADLINE_S)
    wait_until(lambda: row(node, "west/orders")["lag_events"] == 0, "nothing is left")
    _check([one for one in reader.more() if topic_is(one, "west/many")], RECORDS)
    reader.close()


@pytest.mark.timeout(DEADLINE_S + 300)
def test_to_the_cluster_exactly_once_through_kills_of_node_and_broker(kafka, node):
    _write_and_kill(at_node(node), "load", kafka, node, "west/load")
    reader = Read(kafka.at(), "outmany")
    reader.until(lambda records: len(records) >= RECORDS, "all of them", DEADLINE_S)
    wait_until(lambda: row(node, "west/load")["lag_events"] == 0, "nothing is left")
    _check(reader.more(), RECORDS)
    reader.close()
