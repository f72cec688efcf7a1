"""Offsets of groups: they go with their topics, are unsettled while a transaction is open, and may be below 0."""
from __future__ import annotations

import pytest

from routing.settings import StreamSettings
from tests.protocols.kafka.harness import ORDERS, Broker

UNSTABLE_OFFSET_COMMIT = 88


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def commit(client, offset, topic="orders", partition=0, group="g"):
    answer = client.ask("OffsetCommit", 8, group_id=group, topics=[{"name": topic, "partitions": [
        {"partition_index": partition, "committed_offset": offset, "committed_metadata": None}]}])
    return answer.topics[0].partitions[0].error_code


def offsets(client, group="g", *, stable=False):
    """Every offset, by topic and partition; the error code where there is one."""
    answer = client.ask("OffsetFetch", 7, group_id=group, topics=None, require_stable=stable)
    return {(topic.name, part.partition_index): part.error_code or part.committed_offset
            for topic in answer.topics for part in topic.partitions}


def test_a_topic_that_is_deleted_takes_the_offsets_of_its_groups_with_it_for_good(tmp_path):
    """Who reads one that is made again under its name would begin in the middle of it. Found with the Java client."""
    broker = Broker(tmp_path)
    client = broker.connect()
    made = {"topics": [{"name": "short", "num_partitions": 2, "replication_factor": 1}]}
    assert client.ask("CreateTopics", 4, **made).topics[0].error_code == 0
    assert [commit(client, 7, "short"), commit(client, 8, "short", 1), commit(client, 5)] == [0, 0, 0]
    assert client.ask("DeleteTopics", 4, topic_names=["short"]).responses[0].error_code == 0
    assert offsets(client) == {("orders", 0): 5}
    assert client.ask("CreateTopics", 4, **made).topics[0].error_code == 0
    assert offsets(client) == {("orders", 0): 5} and commit(client, 1, "short", 1) == 0
    broker.tick(1)
    broker.tick(1)
    broker.close()
    again = Broker(tmp_path, streams=(ORDERS, StreamSettings("short", ("short/#",), partitions=2)))
    again.tick(1)
    assert offsets(again.connect()) == {("orders", 0): 5, ("short", 1): 1}
    again.close()


def test_the_offset_of_an_open_transaction_is_not_settled_until_it_ends(broker):
    """KIP-447: with require_stable the reader asks again."""
    client = broker.connect()
    assert commit(client, 1) == 0
    begun = client.ask("InitProducerId", 1, transactional_id="t", transaction_timeout_ms=60_000)
    who = {"transactional_id": "t", "producer_id": begun.producer_id, "producer_epoch": begun.producer_epoch}
    for number, (committed, now) in enumerate(((True, 10), (False, 10))):
        assert client.ask("AddOffsetsToTxn", 1, group_id="g", **who).error_code == 0
        answer = client.ask("TxnOffsetCommit", 2, group_id="g", **who, topics=[{"name": "orders", "partitions": [
            {"partition_index": 0, "committed_offset": 10 + number, "committed_metadata": None}]}])
        assert answer.topics[0].partitions[0].error_code == 0
        assert offsets(client, stable=True) == {("orders", 0): UNSTABLE_OFFSET_COMMIT}
        assert offsets(client) == {("orders", 0): 10 if number else 1}
        assert client.ask("EndTxn", 1, committed=committed, **who).error_code == 0
        assert offsets(client, stable=True) == {("orders", 0): now}


def test_an_offset_below_0_is_kept_as_kafkajs_resets_a_group_by_it(broker):
    client = broker.connect()
    assert commit(client, -2) == 0 and offsets(client) == {("orders", 0): -2}
    broker.tick(1)                              # the consumer of the group follows
    assert broker.router.registry.by_name["g"] is not None
