"""Six members of one group, three of Java and three of librdkafka, copy a topic in transactions while they join, leave
and are killed at random: in the copy every record stands once.
"""
from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, Member, bootstrap, compiled, java_command, serve, unique
from tests.support.wait import wait_until

SOURCE = Path(__file__).parent / "java" / "KafkaRelay.java"
ROUNDS = 50 if os.environ.get("MESHGATE_SOAK") else 3
PARTITIONS = 6
QUICK = """
[kafka]
consumer_heartbeat_interval_ms = 300
consumer_session_timeout_ms = 6000
"""
LIBRDKAFKA = """
import sys, uuid
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
address, protocol, group, source, target = sys.argv[1:]
options = {"group.protocol": "consumer"} if protocol == "consumer" else {
    "session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
reader = Consumer({"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest",
                   "enable.auto.commit": False, "isolation.level": "read_committed", **options})

def writer():
    made = Producer({"bootstrap.servers": address, "transactional.id": str(uuid.uuid4()),
                     "transaction.timeout.ms": 5000})
    made.init_transactions(30)
    return made

def go_back():
    for place in reader.committed(reader.assignment(), 30):
        reader.seek(place if place.offset >= 0 else TopicPartition(place.topic, place.partition, 0))

reader.subscribe([source])
producer = writer()
while True:
    message = reader.poll(0.1)          # one at a time: within a batch its part could go to another member
    if message is None or message.error() is not None:
        continue
    try:
        producer.begin_transaction()
        producer.produce(target, message.value(), key=message.key())
        producer.send_offsets_to_transaction(
            [TopicPartition(source, message.partition(), message.offset() + 1)], reader.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
    except KafkaException as error:
        print("went back:", error.args[0].name(), flush=True)
        try:
            producer.abort_transaction(30)
        except KafkaException:
            producer = writer()
        try:
            go_back()
        except KafkaException as lost:              # the part went to another member meanwhile
            print("not mine:", lost.args[0].name(), flush=True)
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
def test_every_record_is_copied_once_through_joins_leaves_and_kills(kafka, classes, tmp_path, protocol):
    address = {"bootstrap.servers": bootstrap(kafka)}
    rng, source, target, group = random.Random(protocol), unique("source"), unique("target"), unique("group")
    admin = AdminClient(address)
    for made in admin.create_topics([NewTopic(source, PARTITIONS, 1), NewTopic(target, PARTITIONS, 1)]).values():
        made.result(DEADLINE_S)
    producer = Producer({**address, "enable.idempotence": True, "linger.ms": 5})
    words = bootstrap(kafka), protocol, group, source, target
    members, number, found = [], 0, Counter()

    def start(kind):
        command = ([sys.executable, "-c", LIBRDKAFKA, *words] if kind == "librdkafka" else
                   java_command("KafkaRelay", *words, heap="64m", classes=classes))
        members.append(Member(kind, command, tmp_path / f"{number}-{len(members)}.txt"))

    def write(count):
        nonlocal number
        for _ in range(count):
            producer.produce(source, str(number), key=str(number))
            number += 1
        assert producer.flush(DEADLINE_S) == 0

    def complete():
        described = admin.describe_consumer_groups([group])[group].result(DEADLINE_S)
        return len(described.members) == len(members)

    def copied():
        found.update(message.value() for message in reader.consume(1_000, 0.2) if message.error() is None)
        return len(found) == number

    reader = Consumer({**address, "group.id": unique("check"), "auto.offset.reset": "earliest",
                       "isolation.level": "read_committed"})
    reader.subscribe([target])
    try:
        for kind in ("java", "librdkafka") * 3:
            start(kind)
        wait_until(complete, "all have joined")
        write(100)
        for _ in range(ROUNDS):
            victim = members.pop(rng.randrange(len(members)))
            victim.end(rng.choice(("kill", "terminate")))
            write(50)
            start(victim.kind)
            write(50)
            if rng.random() < 0.5:
                wait_until(complete, "all are in it again")
            else:                       # the next one goes while this one still comes
                time.sleep(rng.uniform(0, 2))
        wait_until(copied, "every record is copied", also=lambda: f"{len(found)} of {number}")
        time.sleep(6)                   # so long a transaction may be open
        copied()
        doubled = {value: count for value, count in found.items() if count > 1}
        assert not doubled, f"{len(doubled)} of {number} stand there more than once"
    finally:
        reader.close()
        for member in members:
            member.process.kill()
