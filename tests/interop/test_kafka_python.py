"""kafka-python 3 (ApiVersions 4 first, idempotent and acks=all by itself): codecs, nulls, groups that grow, shrink and
lose members, static members, administration, times, transactions.
"""
from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import CommitFailedError, KafkaError

from tests.interop.kafka_node import DEADLINE_S, bootstrap, kafka, unique  # noqa: F401
from tests.support.wait import wait_until

GROUP = {"auto_offset_reset": "earliest", "session_timeout_ms": 6_000, "heartbeat_interval_ms": 300,
         "metadata_max_age_ms": 1_000}


def admin(node):
    return KafkaAdminClient(bootstrap_servers=bootstrap(node))


def make_topic(node, partitions=1, **config):
    name = unique("kafka-python")
    client = admin(node)
    client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    client.close()
    return name


def produce(node, topic, values, **options):
    producer = KafkaProducer(bootstrap_servers=bootstrap(node), **options)
    sent = [producer.send(topic, value, key=b"%d" % number) for number, value in enumerate(values)]
    producer.flush(DEADLINE_S)
    producer.close()
    return [one.get(DEADLINE_S) for one in sent]


def consumer(node, *topics, **options):
    return KafkaConsumer(*topics, bootstrap_servers=bootstrap(node),
                         consumer_timeout_ms=int(DEADLINE_S * 1_000), **{**GROUP, **options})


def read(client, count):
    found = []
    for record in client:
        found.append(record)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} records came")


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_keys_values_headers_and_nulls_come_back_as_they_were(kafka, codec):  # noqa: F811
    topic = make_topic(kafka)
    sent = [(None, b"no key", []), (b"k", None, []), (b"", b"", [("h", b"\xff"), ("", b"")])]
    sent += [(b"%d" % number, b"value %d " % number * 20, [("n", b"%d" % number)]) for number in range(300)]
    producer = KafkaProducer(bootstrap_servers=bootstrap(kafka), compression_type=codec, linger_ms=20)
    acks = [producer.send(topic, value, key=key, headers=headers) for key, value, headers in sent]
    assert [ack.get(DEADLINE_S).offset for ack in acks] == list(range(len(sent)))
    producer.close()
    client = consumer(kafka, topic, group_id=topic)
    assert [(record.key, record.value, record.headers) for record in read(client, len(sent))] == sent
    client.close()


class Member(threading.Thread):
    """One consumer of a group; commits what it has read."""

    def __init__(self, node, topic, group, found, **options):
        super().__init__(daemon=True)
        self.client = consumer(node, topic, group_id=group, enable_auto_commit=False, **options)
        self.found = found
        self.partitions = []
        self.leaves = False
        self.start()

    def run(self):
        while not self.leaves:
            for place, records in self.client.poll(timeout_ms=200).items():
                self.found += [record.value for record in records]
                try:
                    self.client.commit({place: OffsetAndMetadata(records[-1].offset + 1, "", -1)})
                except CommitFailedError:               # it has lost the partition meanwhile: the other reads it again
                    pass
            self.partitions = sorted(place.partition for place in self.client.assignment())
        self.client.close()

    def leave(self):
        self.leaves = True
        self.join(DEADLINE_S)


OTHER_PROCESS = """
import sys
from kafka import KafkaConsumer
client = KafkaConsumer(sys.argv[3], bootstrap_servers=sys.argv[1], group_id=sys.argv[2],
                       auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=300,
                       enable_auto_commit=False)
for record in client:
    print(record.value.decode(), flush=True)
    client.commit()
"""


def test_a_group_grows_shrinks_and_loses_a_member_without_losing_a_message(kafka, tmp_path):  # noqa: F811
    topic, group, found, members = make_topic(kafka, 6), unique("group"), [], []
    output = tmp_path / "output"
    with output.open("wb") as file:
        victim = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, bootstrap(kafka), group, topic], stdout=file)
    try:
        produce(kafka, topic, [b"0-%d" % number for number in range(30)])
        wait_until(lambda: len(output.read_text().split()) == 30, "the first one reads", deadline_s=DEADLINE_S)
        for size in (1, 2):
            members.append(Member(kafka, topic, group, found))
            wait_until(lambda size=size: all(len(each.partitions) == 6 // (size + 1) for each in members),
                       "everybody has his part", deadline_s=DEADLINE_S)
            produce(kafka, topic, [b"%d-%d" % (size, number) for number in range(30)])
        members[0].leave()
    finally:
        victim.kill()
    victim.wait(DEADLINE_S)
    produce(kafka, topic, [b"3-%d" % number for number in range(30)])
    expected = {b"%d-%d" % (size, number) for size in range(4) for number in range(30)}
    wait_until(lambda: {*found, *output.read_bytes().split()} == expected, "all was read", deadline_s=DEADLINE_S)
    assert members[1].partitions == list(range(6))
    members[1].leave()


def test_static_members_come_back_without_a_rebalance(kafka):  # noqa: F811
    topic, group, found = make_topic(kafka, 2), unique("group"), []
    first, second = (Member(kafka, topic, group, found, group_instance_id=name) for name in "ab")
    wait_until(lambda: sorted(first.partitions + second.partitions) == [0, 1], "both have a part")
    before = second.partitions
    second.leave()                                          # a static member says no goodbye
    second = Member(kafka, topic, group, found, group_instance_id="b")
    wait_until(lambda: second.partitions == before, "it has what it had")
    client = admin(kafka)
    members = client.describe_groups([group])[group]["members"]
    assert {member["group_instance_id"] for member in members} == {"a", "b"}
    client.close()
    for member in (first, second):
        member.leave()


def test_topics_configurations_groups_and_records_are_administered(kafka):  # noqa: F811
    topic, group = make_topic(kafka, 2, **{"retention.ms": "3600000"}), unique("group")
    produce(kafka, topic, [b"%d" % number for number in range(20)])
    reader = consumer(kafka, topic, group_id=group)
    read(reader, 20)
    reader.commit()
    reader.close()
    client = admin(kafka)
    try:
        assert topic in client.list_topics()
        described = client.describe_topics([topic])[0]
        assert len(described["partitions"]) == 2
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "5000"})
        client.alter_configs([resource])
        found = str(client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all"))
        assert "'5000'" in found and "'3600000'" in found, found
        client.create_partitions({topic: 4})
        assert len(client.describe_topics([topic])[0]["partitions"]) == 4
        place = TopicPartition(topic, 0)
        client.delete_records({place: 1})
        assert client.list_partition_offsets({place: -2})[place].offset == 1
        offsets = client.list_group_offsets([group])[group]
        assert sum(entry.offset for entry in offsets.values()) == 20
        client.reset_group_offsets(group, {place: OffsetSpec.EARLIEST})
        assert client.list_group_offsets([group])[group][place].offset == 1
        client.delete_groups([group])
        assert group not in str(client.list_groups())
        assert topic in str(client.describe_log_dirs())
        assert len(client.describe_cluster()["brokers"]) == 1
        client.delete_topics([topic])
        assert topic not in client.list_topics()
    finally:
        client.close()


def test_offsets_by_time_and_seeks(kafka):  # noqa: F811
    topic = make_topic(kafka)
    producer = KafkaProducer(bootstrap_servers=bootstrap(kafka))
    for number in range(10):
        producer.send(topic, b"%d" % number, timestamp_ms=1_000_000 + number * 1_000)
    producer.close()
    place = TopicPartition(topic, 0)
    client = consumer(kafka, group_id=None)
    client.assign([place])
    found = client.offsets_for_times({place: 1_003_500})[place]
    assert (found.offset, found.timestamp) == (4, 1_004_000)
    assert (client.beginning_offsets([place]), client.end_offsets([place])) == ({place: 0}, {place: 10})
    client.seek(place, 7)
    assert read(client, 1)[0].value == b"7"
    client.close()


def test_transactions_commit_abort_and_fence(kafka):  # noqa: F811
    source, target, group, name = make_topic(kafka), make_topic(kafka, 2), unique("group"), unique("id")
    produce(kafka, source, [b"input"])
    reader = consumer(kafka, source, group_id=group)
    read(reader, 1)
    producer = KafkaProducer(bootstrap_servers=bootstrap(kafka), transactional_id=name)
    producer.init_transactions()
    for number, commit in ((1, True), (2, False), (3, True)):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.send(target, b"%d" % number, partition=partition)
        if number == 3:
            producer.send_offsets_to_transaction({TopicPartition(source, 0): OffsetAndMetadata(1, "", -1)},
                                                 reader.group_metadata())
        if commit:
            producer.commit_transaction()
        else:
            producer.flush(DEADLINE_S)
            producer.abort_transaction()
    committed = consumer(kafka, target, group_id=unique("group"), isolation_level="read_committed")
    assert sorted(record.value for record in read(committed, 4)) == [b"1", b"1", b"3", b"3"]
    assert not committed.poll(timeout_ms=500)
    assert reader.committed(TopicPartition(source, 0)) == 1
    client = admin(kafka)
    assert name in str(client.list_transactions())
    assert "COMPLETE_COMMIT" in str(client.describe_transactions([name])).upper().replace("COMPLETECOMMIT",
                                                                                          "COMPLETE_COMMIT")
    client.close()
    producer.begin_transaction()
    producer.send(target, b"lost", partition=0).get(DEADLINE_S)
    other = KafkaProducer(bootstrap_servers=bootstrap(kafka), transactional_id=name)
    other.init_transactions()
    with pytest.raises(KafkaError):
        producer.commit_transaction()
    for each in (reader, committed, other, producer):
        each.close()
