"""Share groups (KIP-932) with Apache's Java share consumer 4.4 and librdkafka's: what java/SharePeer.java does, members
that are killed, and a node that is.
"""
from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import AcknowledgeType, Producer, ShareConsumer

from tests.interop.kafka_node import DEADLINE_S, bootstrap, compiled, java_command, serve, unique
from tests.interop.peer_process import PeerProcess
from tests.support.wait import wait_until

SOURCE = Path(__file__).parent / "java" / "SharePeer.java"
RECORDS = 200
QUICK = """
[kafka]
share_heartbeat_interval_ms = 300
share_session_timeout_ms = 6000
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("kafka"), QUICK)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The Java program, compiled once for all its processes."""
    return compiled(SOURCE, tmp_path_factory.mktemp("classes"))


def command(kafka, classes):
    return java_command("SharePeer", bootstrap(kafka), classes=classes)


@pytest.fixture(scope="module")
def java(kafka, classes):
    peer = PeerProcess(command(kafka, classes))
    yield peer
    peer.kill()


@pytest.mark.parametrize("partitions", ["1", "4"])
def test_three_members_share_the_records_whatever_the_number_of_partitions(java, partitions):
    java.run("implicit", partitions)


@pytest.mark.parametrize("scenario", ["explicit", "lock", "limit", "topics", "administration"])
def test_acks_locks_limits_topics_and_administration(java, scenario):
    java.run(scenario)


def test_what_is_rejected_is_a_dead_letter_of_the_group(kafka, java):
    topic, group = unique("share"), unique("group")
    java.run("make", group, "30000")
    producer = Producer({"bootstrap.servers": bootstrap(kafka)})
    producer.produce(topic, b"bad")
    producer.flush(DEADLINE_S)
    with ShareConsumer({"bootstrap.servers": bootstrap(kafka), "group.id": group,
                        "share.acknowledgement.mode": "explicit"}) as consumer:
        consumer.subscribe([topic])
        message = first(consumer)
        consumer.acknowledge(message, AcknowledgeType.REJECT)
        consumer.commit_sync()
    wait_until(lambda: b"bad" in kafka.get(f"/v1/consumers/{group}/dead-letters", listener="http").body
               or b"YmFk" in kafka.get(f"/v1/consumers/{group}/dead-letters", listener="http").body,
               "the dead letter is there")


def first(consumer):
    found = []
    wait_until(lambda: found.extend(each for each in consumer.poll(0.2) if each.error() is None) or found,
               "a record came")
    return found[0]


class Member:
    """A process that reads and accepts until it is killed."""

    def __init__(self, kafka, classes, group, topic, output):
        self.output = output
        with output.open("ab") as file:
            self.process = subprocess.Popen(command(kafka, classes), stdin=subprocess.PIPE, stdout=file,
                                            stderr=subprocess.STDOUT)
        self.process.stdin.write(f"member {group} {topic}\n".encode())
        self.process.stdin.flush()

    def said(self, word):
        return [line.split()[1] for line in self.output.read_text(errors="replace").splitlines()
                if line.startswith(word + " ")]


def test_no_record_is_lost_through_kills_of_members_and_of_the_node_and_none_that_is_done_comes_again(
        kafka, classes, java, tmp_path):
    topic, group, labels = unique("share"), unique("group"), []
    java.run("make", group, "30000")

    def produce():
        labels.append(f"run{len(labels)}")
        java.run("produce", topic, labels[-1], str(RECORDS))

    def both_have_some():
        produce()
        return all(member.said("done") for member in members)

    members = [Member(kafka, classes, group, topic, tmp_path / f"{number}.txt") for number in range(2)]
    try:
        wait_until(both_have_some, "both have some", deadline_s=DEADLINE_S, pause_s=0.3)
        members[0].process.kill()
        produce()
        wait_until(lambda: any(value.startswith(labels[-1]) for value in members[1].said("done")),
                   "the other one goes on", deadline_s=DEADLINE_S)
        kafka.kill9()
        done_by_then = {value for member in members for value in member.said("done")}
        read_by_then = len(members[1].said("read"))
        kafka.restart()
        produce()
        expected = {f"{label}-{number}" for label in labels for number in range(RECORDS)}
        wait_until(lambda: {value for member in members for value in member.said("done")} >= expected,
                   "every record is done", deadline_s=DEADLINE_S, also=lambda: str(
                       len({value for member in members for value in member.said("done")})))
        again = set(members[1].said("read")[read_by_then:]) & done_by_then
        assert not again, f"done, and on the disk, and yet they come again: {sorted(again)[:5]}"
    finally:
        for member in members:
            member.process.kill()
            member.process.wait()


def test_librdkafka_shares_with_rest_and_the_lag_is_that_of_the_consumer(kafka, java):
    """One name, one Consumer: what a REST client takes is not given to the share group, and the other way round."""
    topic, group = unique("share"), unique("group")
    java.run("make", group, "30000")
    producer = Producer({"bootstrap.servers": bootstrap(kafka)})
    producer.produce(topic, b"first")
    producer.flush(DEADLINE_S)
    with ShareConsumer({"bootstrap.servers": bootstrap(kafka), "group.id": group}) as consumer:
        consumer.subscribe([topic])
        assert first(consumer).value() == b"first"
        consumer.commit_sync()
    producer.produce(topic, b"second")
    producer.flush(DEADLINE_S)
    wait_until(lambda: json.loads(kafka.get(f"/v1/consumers/{group}", listener="http").body)["lag"]["events"] == 1,
               "the lag is seen")
    answer = kafka.post(f"/v1/consumers/{group}/pull", b'{"max": 1}', {"Content-Type": "application/json"},
                        listener="http")
    assert b"second" in answer.body or b"c2Vjb25k" in answer.body, answer.body
