"""Six members of one group, three of Java and three of librdkafka, join, leave and are killed at random, in either
protocol of groups. No record is lost; and all that are left end with one part each.
"""
from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, Member, bootstrap, compiled, java_command, serve, unique
from tests.support.wait import wait_until

SOURCE = Path(__file__).parent / "java" / "KafkaPeer.java"
ROUNDS = 50 if os.environ.get("MESHGATE_SOAK") else 5
PARTITIONS = 12
QUICK = """
[kafka]
consumer_heartbeat_interval_ms = 300
consumer_session_timeout_ms = 6000
"""
LIBRDKAFKA = """
import sys
from confluent_kafka import Consumer, KafkaException
protocol = {"group.protocol": "consumer"} if sys.argv[4] == "consumer" else {
    "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, "partition.assignment.strategy": "range"}
client = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "auto.offset.reset": "earliest",
                   "enable.auto.commit": False, **protocol})
client.subscribe([sys.argv[3]])
while True:
    message = client.poll(0.1)
    if message is not None and message.error() is None:
        print("read", message.value().decode(), flush=True)
        try:
            client.commit(message, asynchronous=False)
        except KafkaException:
            pass                        # it has lost the partition: who has it now reads the record again
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("kafka"), QUICK)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The Java program, compiled once for all its processes."""
    return compiled(SOURCE, tmp_path_factory.mktemp("classes"))


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_no_record_is_lost_through_joins_leaves_and_kills(kafka, classes, tmp_path, protocol):
    rng, topic, group = random.Random(protocol), unique("rebalance"), unique("group")
    admin = AdminClient({"bootstrap.servers": bootstrap(kafka)})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(DEADLINE_S)
    producer = Producer({"bootstrap.servers": bootstrap(kafka), "enable.idempotence": True, "linger.ms": 5})
    members, outputs, number = [], [], 0

    def start(kind):
        outputs.append(tmp_path / f"{len(outputs)}.txt")
        address = bootstrap(kafka)
        if kind == "java":
            command = java_command("KafkaPeer", address, heap="64m", classes=classes)
            members.append(Member(kind, command, outputs[-1], say=f"member {protocol} {group} {topic}"))
        else:
            command = [sys.executable, "-c", LIBRDKAFKA, address, group, topic, protocol]
            members.append(Member(kind, command, outputs[-1]))

    def write(count):
        nonlocal number
        for _ in range(count):
            producer.produce(topic, str(number), key=str(number))
            number += 1
        assert producer.flush(DEADLINE_S) == 0

    def read():
        return {line.split()[1] for output in outputs for line in output.read_text(errors="replace").splitlines()
                if line.startswith("read ")}

    def places():
        """Who has which partitions, and how far they are committed, for the text of a failure."""
        described = admin.describe_consumer_groups([group])[group].result(DEADLINE_S)
        return [(member.member_id[-6:], sorted(place.partition for place in member.assignment.topic_partitions))
                for member in described.members], described.state

    def complete():
        described = admin.describe_consumer_groups([group])[group].result(DEADLINE_S)
        return len(described.members) == len(members)

    try:
        for kind in ("java", "librdkafka") * 3:
            start(kind)
        wait_until(complete, "all have joined", deadline_s=DEADLINE_S)
        write(60)
        for _ in range(ROUNDS):
            victim = members.pop(rng.randrange(len(members)))
            victim.end(rng.choice(("kill", "terminate")))
            write(30)
            start(victim.kind)
            write(30)
            if rng.random() < 0.5:
                wait_until(complete, "all are in it again", deadline_s=DEADLINE_S)
            else:                       # the next one goes while this one still comes
                time.sleep(rng.uniform(0, 2))
        wait_until(lambda: len(read()) == number, "every record is read", deadline_s=DEADLINE_S,
                   also=lambda: f"{len(read())} of {number}, {places()}")
        reader = Consumer({"bootstrap.servers": bootstrap(kafka), "group.id": group})
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        wait_until(lambda: sum(max(place.offset, 0) for place in reader.committed(places, DEADLINE_S)) == number,
                   "all is committed", deadline_s=DEADLINE_S)
        reader.close()
    finally:
        for member in members:
            member.process.kill()
