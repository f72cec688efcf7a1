"""confluent-kafka (librdkafka 2.16): codecs, nulls, headers, times, groups that grow, shrink and lose members, static
members, administration, and a node that is killed in between.
"""
from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from tests.interop.kafka_node import DEADLINE_S, bootstrap, kafka, start, unique  # noqa: F401
from tests.support.wait import wait_until


def produce(node, topic, messages, **options):
    """messages: (key, value, headers). Returns the offsets, by partition, once all are acked."""
    acked, wrong = [], []
    producer = Producer({"bootstrap.servers": bootstrap(node), **options})
    for key, value, headers in messages:
        producer.produce(topic, key=key, value=value, headers=headers, on_delivery=lambda error, message: (
            wrong.append(error) if error else acked.append((message.partition(), message.offset()))))
    assert producer.flush(DEADLINE_S) == 0 and not wrong, wrong
    return acked


def consumer(node, group, **options):
    return Consumer({"bootstrap.servers": bootstrap(node), "group.id": group, "auto.offset.reset": "earliest",
                     "session.timeout.ms": 6_000, "heartbeat.interval.ms": 300, **options})


def read(client, count):
    """count messages, without errors."""
    found, until = [], time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} of {count} messages came"
        message = client.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            found.append(message)
    return found


def admin(node):
    return AdminClient({"bootstrap.servers": bootstrap(node)})


def done(futures):
    return {name: future.result(DEADLINE_S) for name, future in futures.items()}


def make_topic(node, partitions=1, **config):
    name = unique("confluent")
    client = admin(node)                    # futures of a client that is gone fail
    done(client.create_topics([NewTopic(name, partitions, 1, config=config)]))
    return name


@pytest.mark.parametrize("options", [
    *({"compression.type": codec} for codec in ("none", "gzip", "snappy", "lz4", "zstd")),
    {"enable.idempotence": True}, {"acks": 1},
], ids=str)
def test_keys_values_headers_and_nulls_come_back_as_they_were(kafka, options):  # noqa: F811
    topic = make_topic(kafka)
    sent = [(None, b"no key", None), (b"k", None, None), (b"", b"", [("h", b"\xff"), ("h", None), ("", b"")])]
    sent += [(b"%d" % number, b"value %d " % number * 20, [("n", b"%d" % number)]) for number in range(300)]
    produce(kafka, topic, sent, **options)
    client = consumer(kafka, topic)
    client.subscribe([topic])
    found = [(message.key(), message.value(), message.headers()) for message in read(client, len(sent))]
    client.close()
    assert found == sent


def test_an_unacked_producer_is_taken_too(kafka):  # noqa: F811
    topic = make_topic(kafka)
    produce(kafka, topic, [(None, b"%d" % number, None) for number in range(100)], acks=0)
    client = consumer(kafka, topic)
    client.subscribe([topic])
    assert [message.value() for message in read(client, 100)] == [b"%d" % number for number in range(100)]
    client.close()


class Member(threading.Thread):
    """One consumer of a group; commits what it has read."""

    def __init__(self, node, group, topic, found, **options):
        super().__init__(daemon=True)
        self.client = consumer(node, group, **{"enable.auto.commit": False, **options})
        self.partitions = []
        self.client.subscribe([topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)
        self.found = found
        self.count = 0
        self.killed = self.leaves = False

    def run(self):
        while not (self.killed or self.leaves):
            message = self.client.poll(0.1)
            if message is not None and message.error() is None:
                self.found.append(message.value())
                self.count += 1
                try:
                    self.client.commit(message, asynchronous=False)
                except KafkaException as error:         # it has lost the partition meanwhile: the other reads it again
                    assert error.args[0].code() in (
                        KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
                        KafkaError.REBALANCE_IN_PROGRESS), error
        if self.leaves:
            self.client.close()

    def assigned(self, client, places):
        self.partitions = sorted(place.partition for place in places)

    def revoked(self, client, places):
        self.partitions = []


OTHER_PROCESS = """
import sys
from confluent_kafka import Consumer
client = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "auto.offset.reset": "earliest",
                   "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, "enable.auto.commit": False})
client.subscribe([sys.argv[3]])
while True:
    message = client.poll(0.1)
    if message is not None and message.error() is None:
        print(message.value().decode(), flush=True)
        client.commit(message, asynchronous=False)
"""


def test_a_group_grows_shrinks_and_loses_a_member_without_losing_a_message(kafka, tmp_path):  # noqa: F811
    topic, group = make_topic(kafka, partitions=6), unique("group")
    found, members, output = [], [], tmp_path / "output"
    with output.open("wb") as file:
        victim = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, bootstrap(kafka), group, topic], stdout=file)
    try:
        produce(kafka, topic, [(b"%d" % number, b"0-%d" % number, None) for number in range(60)])
        wait_until(lambda: len(output.read_text().split()) == 60, "the first one reads", deadline_s=DEADLINE_S)
        for size in (1, 2):
            members.append(Member(kafka, group, topic, found))
            members[-1].start()
            wait_until(lambda size=size: all(len(each.partitions) == 6 // (size + 1) for each in members),
                       "everybody has his part", deadline_s=DEADLINE_S)
            produce(kafka, topic, [(b"%d" % number, b"%d-%d" % (size, number), None) for number in range(60)])
        members[0].leaves = True
        members[0].join(DEADLINE_S)
    finally:
        victim.kill()
    victim.wait(DEADLINE_S)
    produce(kafka, topic, [(b"%d" % number, b"3-%d" % number, None) for number in range(60)])
    wait_until(lambda: members[1].partitions == list(range(6)), "the last one has everything", deadline_s=DEADLINE_S)
    expected = {f"{size}-{number}".encode() for size in range(4) for number in range(60)}
    wait_until(lambda: {*found, *output.read_bytes().split()} == expected, "all was read", deadline_s=DEADLINE_S)
    members[1].leaves = True
    members[1].join(DEADLINE_S)


def test_static_members_come_back_without_a_rebalance(kafka):  # noqa: F811
    topic, group = make_topic(kafka, partitions=2), unique("group")
    found = []
    first, second = (Member(kafka, group, topic, found, **{"group.instance.id": name}) for name in ("a", "b"))
    first.start()
    second.start()
    wait_until(lambda: first.partitions + second.partitions in ([0, 1], [1, 0]), "both have a part")
    before = second.partitions
    second.killed = True
    second.join(DEADLINE_S)
    again = Member(kafka, group, topic, found, **{"group.instance.id": "b"})
    again.start()
    wait_until(lambda: again.partitions == before, "it has what it had")
    client = admin(kafka)
    described = done(client.describe_consumer_groups([group]))[group]
    assert {member.group_instance_id for member in described.members} == {"a", "b"}
    for member in (first, again):
        member.leaves = True
        member.join(DEADLINE_S)


def test_a_killed_node_keeps_what_was_acked_and_its_groups_go_on(tmp_path):
    node = start(tmp_path / "node")
    try:
        topic, found, acked, wrong = make_topic(node, partitions=3), [], [], []
        member = Member(node, "survivors", topic, found)
        member.start()
        producer = Producer({"bootstrap.servers": bootstrap(node), "enable.idempotence": True,
                             "message.timeout.ms": 60_000, "linger.ms": 5})
        for number in range(900):
            producer.produce(topic, key=b"%d" % number, value=b"%d" % number, on_delivery=lambda error, message: (
                wrong.append(error) if error else acked.append(message.value())))
            producer.poll(0.002)
            if number == 450:
                node.kill9()
                node.start()
        assert producer.flush(DEADLINE_S) == 0 and not wrong
        assert sorted(acked) == sorted(b"%d" % number for number in range(900))
        wait_until(lambda: set(found) == set(acked), "all was read", deadline_s=DEADLINE_S)
        stored = consumer(node, unique("reader"))
        stored.subscribe([topic])
        values = [message.value() for message in read(stored, 900)]
        assert len(values) == len(set(values)) == 900, "an idempotent producer's message is there twice"
        stored.close()
        member.leaves = True
        member.join(DEADLINE_S)
        asker, places = consumer(node, "survivors"), [TopicPartition(topic, index) for index in range(3)]
        before = [place.offset for place in asker.committed(places, DEADLINE_S)]
        assert sum(before) == 900
        node.kill9()
        node.start()
        assert [place.offset for place in asker.committed(places, DEADLINE_S)] == before
    finally:
        node.kill9()


def test_transactions_commit_abort_and_fence(kafka):  # noqa: F811
    source, target, group = make_topic(kafka), make_topic(kafka, partitions=2), unique("group")
    options = {"bootstrap.servers": bootstrap(kafka), "transactional.id": unique("tx")}
    producer = Producer(options)
    producer.init_transactions(DEADLINE_S)
    reader = consumer(kafka, group)
    produce(kafka, source, [(None, b"input", None)])
    reader.subscribe([source])
    read(reader, 1)
    for number, commit in ((1, True), (2, False), (3, True)):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(target, b"%d" % number, partition=partition)
        if number == 3:
            producer.send_offsets_to_transaction(
                [TopicPartition(source, 0, 1)], reader.consumer_group_metadata(), DEADLINE_S)
        if commit:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.flush(DEADLINE_S)
            producer.abort_transaction(DEADLINE_S)
    committed = consumer(kafka, unique("group"), **{"isolation.level": "read_committed"})
    committed.subscribe([target])
    assert sorted(message.value() for message in read(committed, 4)) == [b"1", b"1", b"3", b"3"]
    assert committed.poll(1) is None
    everything = consumer(kafka, unique("group"), **{"isolation.level": "read_uncommitted"})
    everything.subscribe([target])
    assert sorted(message.value() for message in read(everything, 6)) == [b"1", b"1", b"2", b"2", b"3", b"3"]
    assert reader.committed([TopicPartition(source, 0)], DEADLINE_S)[0].offset == 1
    producer.begin_transaction()
    producer.produce(target, b"lost", partition=0)
    producer.flush(DEADLINE_S)
    other = Producer(options)                           # the same transactional id: the first one is fenced
    other.init_transactions(DEADLINE_S)
    with pytest.raises(KafkaException) as caught:
        producer.commit_transaction(DEADLINE_S)
    assert caught.value.args[0].fatal()
    for client in (reader, committed, everything):
        client.close()


def test_records_before_an_offset_are_deleted(kafka):  # noqa: F811
    topic = make_topic(kafka)
    produce(kafka, topic, [(None, b"%d" % number, None) for number in range(10)])
    client = admin(kafka)
    place = TopicPartition(topic, 0, 6)
    assert done(client.delete_records([place]))[place].low_watermark == 6
    reader = consumer(kafka, unique("group"))
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), DEADLINE_S) == (6, 10)
    reader.close()


def test_offsets_by_time_and_seeks(kafka):  # noqa: F811
    topic = make_topic(kafka)
    producer = Producer({"bootstrap.servers": bootstrap(kafka)})
    for number in range(10):
        producer.produce(topic, b"%d" % number, timestamp=1_000_000 + number * 1_000)
    assert producer.flush(DEADLINE_S) == 0
    client = consumer(kafka, unique("group"))
    places = client.offsets_for_times([TopicPartition(topic, 0, 1_003_500)], DEADLINE_S)
    assert places[0].offset == 4
    assert client.get_watermark_offsets(TopicPartition(topic, 0), DEADLINE_S) == (0, 10)
    client.assign([TopicPartition(topic, 0, 7)])
    assert read(client, 1)[0].value() == b"7"
    client.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
    assert read(client, 10)[-1].value() == b"9"
    client.commit(offsets=[TopicPartition(topic, 0, 5, metadata="half way")], asynchronous=False)
    back = client.committed([TopicPartition(topic, 0)], DEADLINE_S)[0]
    assert (back.offset, back.metadata) == (5, "half way")
    client.close()


def test_topics_are_made_changed_grown_and_deleted(kafka):  # noqa: F811
    topic = make_topic(kafka, partitions=2, **{"cleanup.policy": "compact", "segment.bytes": "1048576"})
    client = admin(kafka)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    config = done(client.describe_configs([resource]))[resource]
    assert config["cleanup.policy"].value == "compact" and config["segment.bytes"].value == "1048576"
    assert {"retention.ms", "max.message.bytes", "min.insync.replicas"} <= set(config)
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)])
    done(client.incremental_alter_configs([change]))
    assert done(client.describe_configs([resource]))[resource]["max.message.bytes"].value == "2000"
    done(client.create_partitions([NewPartitions(topic, 4)]))
    assert len(client.list_topics(topic, DEADLINE_S).topics[topic].partitions) == 4
    with pytest.raises(KafkaException) as caught:
        done(client.create_topics([NewTopic(topic, 1, 1)]))
    assert caught.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    done(client.delete_topics([topic]))
    assert topic not in client.list_topics(timeout=DEADLINE_S).topics


def refused_by(node, topic, value, **options):
    wrong = []
    producer = Producer({"bootstrap.servers": bootstrap(node), "message.timeout.ms": 20_000, **options})
    producer.produce(topic, value, on_delivery=lambda error, message: wrong.append(error))
    assert producer.flush(DEADLINE_S) == 0
    return wrong[0].code() if wrong[0] else None


def test_what_a_topic_does_not_take_is_refused_with_its_own_error(kafka):  # noqa: F811
    small = make_topic(kafka, **{"max.message.bytes": "500"})
    compacted = make_topic(kafka, **{"cleanup.policy": "compact"})
    assert refused_by(kafka, small, b"x" * 1_000) == KafkaError.MSG_SIZE_TOO_LARGE
    assert refused_by(kafka, compacted, b"no key") == KafkaError.INVALID_RECORD
    assert refused_by(kafka, small, b"fits") is None
    client = admin(kafka)
    for name in ("a" * 250, "no/slash", ".."):
        with pytest.raises(KafkaException) as caught:
            done(client.create_topics([NewTopic(name, 1, 1)]))
        assert caught.value.args[0].code() == KafkaError.TOPIC_EXCEPTION
