"""aiokafka 0.14 (what FastStream and Faust stand on; no flexible versions): codecs, nulls, groups that grow, shrink and
lose members, static members, administration, times, transactions.
"""
from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, ProducerFenced

from tests.interop.kafka_node import DEADLINE_S, bootstrap, kafka, unique  # noqa: F401

GROUP = {"auto_offset_reset": "earliest", "session_timeout_ms": 6_000, "heartbeat_interval_ms": 300,
         "metadata_max_age_ms": 1_000}


async def make_topic(node, partitions=1, **config):
    name = unique("aiokafka")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(node))
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    await admin.close()
    return name


async def produce(node, topic, values, **options):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap(node), **options) as producer:
        sent = [await producer.send(topic, value, key=b"%d" % number) for number, value in enumerate(values)]
        return [await one for one in sent]


async def read(consumer, count):
    found = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found.append(await consumer.getone())
    return found


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_keys_values_headers_and_nulls_come_back_as_they_were(kafka, codec):  # noqa: F811
    topic = await make_topic(kafka)
    sent = [(None, b"no key", []), (b"k", None, []), (b"", b"", [("h", b"\xff"), ("", b"")])]
    sent += [(b"%d" % number, b"value %d " % number * 20, [("n", b"%d" % number)]) for number in range(300)]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap(kafka), compression_type=codec,
                                enable_idempotence=codec == "lz4") as producer:
        acks = [await producer.send(topic, value, key=key, headers=headers) for key, value, headers in sent]
        assert [(await ack).offset for ack in acks] == list(range(len(sent)))
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap(kafka), group_id=topic, **GROUP) as consumer:
        found = [(record.key, record.value, list(record.headers)) for record in await read(consumer, len(sent))]
    assert found == sent


class Member:
    """One consumer of a group; commits what it has read."""

    def __init__(self, node, topic, group, found, **options):
        self.consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap(node), group_id=group,
                                         enable_auto_commit=False, **{**GROUP, **options})
        self.found = found
        self.task = None

    async def start(self):
        await self.consumer.start()
        self.task = asyncio.create_task(self.run())
        return self

    async def run(self):
        while True:
            for place, records in (await self.consumer.getmany(timeout_ms=200)).items():
                self.found += [record.value for record in records]
                try:
                    await self.consumer.commit({place: records[-1].offset + 1})
                except KafkaError:                      # it has lost the partition meanwhile: the other reads it again
                    pass

    @property
    def partitions(self):
        return sorted(place.partition for place in self.consumer.assignment())

    async def leave(self):
        self.task.cancel()
        await self.consumer.stop()

    async def die(self):
        """Without a word to the group: its connections are cut, and it asks nothing more."""
        self.task.cancel()
        coordinator = self.consumer._coordinator
        coordinator._closing.set_result(None)
        for task in (coordinator._coordination_task, coordinator._heartbeat_task):
            if task is not None:
                task.cancel()
        await self.consumer._client.close()


async def wait_until(condition, what):
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited for: {what}")


async def test_a_group_grows_shrinks_and_loses_a_member_without_losing_a_message(kafka):  # noqa: F811
    topic, group, found, members = await make_topic(kafka, 6), unique("group"), [], []
    for size in (1, 2, 3):
        members.append(await Member(kafka, topic, group, found).start())
        await wait_until(lambda size=size: all(len(each.partitions) == 6 // size for each in members), "equal parts")
        await produce(kafka, topic, [b"%d-%d" % (size, number) for number in range(60)])
    await members.pop().leave()
    await produce(kafka, topic, [b"4-%d" % number for number in range(60)])
    await wait_until(lambda: all(len(each.partitions) == 3 for each in members), "the parts of who has left")
    await members.pop(0).die()
    await produce(kafka, topic, [b"5-%d" % number for number in range(60)])
    expected = {b"%d-%d" % (size, number) for size in range(1, 6) for number in range(60)}
    await wait_until(lambda: set(found) == expected, "all was read")
    assert members[0].partitions == list(range(6))
    await members[0].leave()


async def test_static_members_come_back_without_a_rebalance(kafka):  # noqa: F811
    topic, group, found = await make_topic(kafka, 2), unique("group"), []
    first, second = [await Member(kafka, topic, group, found, group_instance_id=name).start() for name in "ab"]
    await wait_until(lambda: sorted(first.partitions + second.partitions) == [0, 1], "both have a part")
    before = second.partitions
    await second.die()
    second = await Member(kafka, topic, group, found, group_instance_id="b").start()
    await wait_until(lambda: second.partitions == before, "it has what it had")
    await produce(kafka, topic, [b"%d" % number for number in range(20)])
    await wait_until(lambda: len(found) == 20, "all was read")
    for member in (first, second):
        await member.leave()


async def test_topics_configurations_groups_and_records_are_administered(kafka):  # noqa: F811
    topic, group = await make_topic(kafka, 2, **{"retention.ms": "3600000"}), unique("group")
    await produce(kafka, topic, [b"%d" % number for number in range(20)])
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap(kafka), group_id=group, **GROUP) as consumer:
        await read(consumer, 20)
        await consumer.commit()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap(kafka))
    await admin.start()
    try:
        assert topic in await admin.list_topics()
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = await admin.describe_configs([resource])
        values = {row[0]: row[1] for row in answer.resources[0][4]}
        assert values["retention.ms"] == "3600000" and values["cleanup.policy"] == "delete"
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "5000"})])
        (answer,) = await admin.describe_configs([resource])
        values = {row[0]: row[1] for row in answer.resources[0][4]}
        assert (values["max.message.bytes"], values["retention.ms"]) == ("5000", "604800000")
        await admin.create_partitions({topic: NewPartitions(4)})
        (described,) = await admin.describe_topics([topic])
        assert len(described["partitions"]) == 4
        assert group in [name for name, _ in await admin.list_consumer_groups()]
        offsets = await admin.list_consumer_group_offsets(group)
        assert sum(entry.offset for entry in offsets.values()) == 20
        (answer,) = await admin.describe_consumer_groups([group])
        assert answer.groups[0][2] == "Empty"
        place = TopicPartition(topic, 0)
        assert (await admin.delete_records({place: RecordsToDelete(before_offset=1)}))[place] == 1
        await admin.delete_topics([topic])
        assert topic not in await admin.list_topics()
    finally:
        await admin.close()


async def test_offsets_by_time_and_seeks(kafka):  # noqa: F811
    topic = await make_topic(kafka)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap(kafka)) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number, timestamp_ms=1_000_000 + number * 1_000)
    place = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap(kafka)) as consumer:
        consumer.assign([place])
        found = await consumer.offsets_for_times({place: 1_003_500})
        assert (found[place].offset, found[place].timestamp) == (4, 1_004_000)
        assert (await consumer.beginning_offsets([place]), await consumer.end_offsets([place])) == (
            {place: 0}, {place: 10})
        consumer.seek(place, 7)
        assert (await read(consumer, 1))[0].value == b"7"


async def test_transactions_commit_abort_and_fence(kafka):  # noqa: F811
    source, target, group, name = await make_topic(kafka), await make_topic(kafka, 2), unique("group"), unique("id")
    await produce(kafka, source, [b"input"])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap(kafka), transactional_id=name)
    await producer.start()
    for number, commit in ((1, True), (2, False), (3, True)):
        await producer.begin_transaction()
        for partition in (0, 1):
            await producer.send(target, b"%d" % number, partition=partition)
        if number == 3:
            await producer.send_offsets_to_transaction({TopicPartition(source, 0): 1}, group)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    async with AIOKafkaConsumer(target, bootstrap_servers=bootstrap(kafka), isolation_level="read_committed",
                                group_id=unique("group"), **GROUP) as consumer:
        assert sorted(record.value for record in await read(consumer, 4)) == [b"1", b"1", b"3", b"3"]
        assert not await consumer.getmany(timeout_ms=500)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap(kafka), group_id=group) as consumer:
        assert await consumer.committed(TopicPartition(source, 0)) == 1
    await producer.begin_transaction()
    await producer.send_and_wait(target, b"lost", partition=0)
    other = AIOKafkaProducer(bootstrap_servers=bootstrap(kafka), transactional_id=name)
    await other.start()
    with pytest.raises(ProducerFenced):
        await producer.commit_transaction()
    for each in (producer, other):
        await each.stop()
