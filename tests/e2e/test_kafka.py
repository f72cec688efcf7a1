"""Kafka beside the other protocols: events both ways, groups among the consumers, rights."""
from __future__ import annotations

import json
import os

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, bootstrap, kafka, start, unique  # noqa: F401
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until


def consumer(node, group, **options):
    return Consumer({"bootstrap.servers": bootstrap(node), "group.id": group, "auto.offset.reset": "earliest",
                     **options})


def read(client, count):
    found = []

    def more():
        message = client.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            found.append(message)
        return len(found) >= count

    wait_until(more, f"{count} messages came", deadline_s=DEADLINE_S)
    return found


def produce(node, topic, value, **options):
    wrong = []
    producer = Producer({"bootstrap.servers": bootstrap(node), **options})
    producer.produce(topic, value, key="k", headers={"h": "x"}, on_delivery=lambda error, _: wrong.append(error))
    assert producer.flush(DEADLINE_S) == 0
    return wrong[0]


def make_topic(node, name):
    client = AdminClient({"bootstrap.servers": bootstrap(node)})
    for future in client.create_topics([NewTopic(name, 1, 1)]).values():
        future.result(DEADLINE_S)


def test_an_mqtt_client_hears_a_kafka_producer_and_the_other_way_round(kafka):  # noqa: F811
    name = unique("both")
    topic = name.replace(".", "/")
    make_topic(kafka, name)
    mqtt = open_mqtt(kafka.mqtt, "both")
    mqtt.subscribe((f"{topic}/#", 1))
    assert produce(kafka, name, b"from kafka") is None
    heard = mqtt.message()
    assert (heard.topic, heard.payload) == (topic, b"from kafka")
    assert kafka.publish(f"{topic}/lamp", b"from http").status in (200, 202, 204)
    assert mqtt.message().payload == b"from http"
    mqtt.publish_acked(f"{topic}/door", b"from mqtt")
    client = consumer(kafka, name)
    client.subscribe([name])
    found = read(client, 3)
    assert [message.value() for message in found] == [b"from kafka", b"from http", b"from mqtt"]
    headers = dict(found[2].headers())
    assert headers["meshgate-topic"] == f"{topic}/door".encode() and found[2].key() == f"{topic}/door".encode()
    client.close()
    mqtt.disconnect()


@pytest.mark.measured
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_a_batch_of_a_megabyte_is_checked_in_small_turns(kafka, codec):  # noqa: F811
    """Of CPU time; a turn of 5 ms is what is aimed at, and 10 is what a busy machine makes of it."""
    topic = unique("large")
    make_topic(kafka, topic)
    producer = Producer({"bootstrap.servers": bootstrap(kafka), "compression.type": codec, "batch.size": 1_000_000,
                         "linger.ms": 200, "message.max.bytes": 2_000_000})

    def long_turns():
        metrics, name = kafka.metrics(), "meshgate_loop_turn_cpu_seconds"
        return metrics[f"{name}_count"] - metrics[f'{name}_bucket{{le="0.01"}}']

    before = long_turns()
    for _ in range(10):
        for number in range(9_000):
            producer.produce(topic, b"%08d" % number + os.urandom(12) * 8)
        assert producer.flush(DEADLINE_S) == 0
    assert long_turns() == before


def test_a_group_is_a_consumer_with_its_lag(kafka):  # noqa: F811
    name, group = unique("lag"), f"billing-{unique('g').replace('.', '-')}"
    make_topic(kafka, name)
    for number in range(10):
        assert produce(kafka, name, b"%d" % number) is None
    client = consumer(kafka, group, **{"enable.auto.commit": False})
    client.subscribe([name])
    client.commit(read(client, 4)[3], asynchronous=False)

    def row():
        rows = kafka.get("/v1/consumers", listener="http").json["consumers"]
        return next((row for row in rows if row["name"] == group), None)

    wait_until(lambda: row() is not None and row()["lag"]["events"] == 6, "the group is there with its lag",
               also=lambda: json.dumps(row()))
    client.close()
    kafka_groups = AdminClient({"bootstrap.servers": bootstrap(kafka)})
    kafka_groups.delete_consumer_groups([group])[group].result(DEADLINE_S)
    wait_until(lambda: row() is None, "it has gone with its group")


USERS = """
[[users]]
name = "ana"
password_hash = "{hash}"
[[users]]
name = "ben"
password_hash = "{hash}"
[[users]]
name = "root"
password_hash = "{hash}"
[[policies]]
allow = ["connect"]
to = ["user:ana", "user:ben"]
[[policies]]
allow = ["publish", "subscribe"]
to = ["user:ana"]
topics = ["orders/#", "$SYS/#"]
[[policies]]
allow = ["subscribe"]
to = ["user:ben"]
topics = ["orders/eu/#"]
[[policies]]
allow = ["connect", "publish", "subscribe", "manage"]
to = ["user:root"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    from argon2 import PasswordHasher

    text = USERS.format(hash=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret"))
    node = start(tmp_path_factory.mktemp("guarded"), text)
    yield node
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)
    node.process.kill9()


def login(user, password="secret"):
    return {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": user,
            "sasl.password": password, "message.timeout.ms": 15_000}


def admin(node, user):
    return AdminClient({"bootstrap.servers": bootstrap(node), **login(user)})


def code_of(future):
    try:
        future.result(DEADLINE_S)
    except KafkaException as error:
        return error.args[0].code()
    return None


def test_every_api_asks_the_policy(guarded):
    root, ana, ben = (admin(guarded, user) for user in ("root", "ana", "ben"))
    for name in ("orders", "secrets"):
        assert code_of(root.create_topics([NewTopic(name, 1, 1)])[name]) is None
    assert produce(guarded, "orders", b"1", **login("ana")) is None
    assert produce(guarded, "secrets", b"1", **login("ana")).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert produce(guarded, "orders", b"1", **login("ben")).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert set(root.list_topics(timeout=DEADLINE_S).topics) >= {"orders", "secrets", "events"}
    assert "secrets" not in ana.list_topics(timeout=DEADLINE_S).topics
    for client, name in ((ana, "secrets"), (ben, "orders")):
        assert code_of(client.delete_topics([name])[name]) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert code_of(ben.create_topics([NewTopic("mine", 1, 1)])["mine"]) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    reader = consumer(guarded, "readers", **{key: value for key, value in login("ana").items()
                                             if key != "message.timeout.ms"})
    reader.subscribe(["orders"])
    assert read(reader, 1)[0].value() == b"1"
    reader.commit(asynchronous=False)
    reader.close()
    part = consumer(guarded, "part", **{key: value for key, value in login("ben").items()
                                        if key != "message.timeout.ms"})
    part.subscribe(["orders"])                          # he may read a part of what it holds, so no batch of it
    refused = []

    def is_refused():
        message = part.poll(0.2)
        if message is not None and message.error() is not None:
            refused.append(message.error().code())
        return refused

    wait_until(is_refused, "the fetch is refused", deadline_s=DEADLINE_S)
    assert refused[0] == KafkaError.TOPIC_AUTHORIZATION_FAILED
    part.close()
    assert code_of(ben.delete_consumer_groups(["readers"])["readers"]) == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_a_wrong_password_and_no_password_get_nowhere(guarded):
    for options in (login("ana", "wrong"), {}):
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": bootstrap(guarded), **options}).list_topics(timeout=4)
