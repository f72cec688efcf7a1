"""Fetch by topic ids and with sessions (KIP-227, KIP-516)."""
from __future__ import annotations

import pytest

from protocols.kafka.settings import KafkaSettings
from tests.protocols.kafka.harness import Broker

UNKNOWN_TOPIC_ID, NOT_FOUND, WRONG_EPOCH = 100, 70, 71


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def topic_id(client, name="orders"):
    return client.ask("Metadata", 12, topics=[{"name": name}]).topics[0].topic_id


def fetch(client, id, offsets, session=(0, -1), version=17, forgotten=()):
    """offsets: by partition. session: id and epoch."""
    return client.ask("Fetch", version, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_id=session[0],
                      session_epoch=session[1], forgotten_topics_data=[{"topic_id": id, "partitions": list(forgotten)}],
                      topics=[{"topic_id": id, "partitions": [
                          {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
                          for index, offset in offsets.items()]}])


def rows(answer):
    return {row.partition_index: (row.error_code, len(row.records) > 0)
            for topic in answer.responses for row in topic.partitions}


@pytest.mark.parametrize("version", [13, 14, 15, 16, 17])
def test_a_topic_is_fetched_by_its_id_and_one_that_nobody_has_is_error_100(broker, version):
    client = broker.connect()
    client.ask("Produce", 9, **client.produce(b"one"))
    known = topic_id(client)
    answer = fetch(client, known, {0: 0, 1: 0, 7: 0}, version=version)
    assert rows(answer) == {0: (0, True), 1: (0, False), 7: (3, False)}
    assert answer.responses[0].topic_id == known and answer.session_id == 0
    assert rows(fetch(client, b"x" * 16, {0: 0}, version=version)) == {0: (UNKNOWN_TOPIC_ID, False)}


def test_a_session_tells_only_what_is_new(broker):
    client = broker.connect()
    known = topic_id(client)
    first = fetch(client, known, {0: 0, 1: 0}, (0, 0))
    session = first.session_id
    assert session > 0 and rows(first) == {0: (0, False), 1: (0, False)}
    assert rows(fetch(client, known, {}, (session, 1))) == {}
    client.ask("Produce", 9, **client.produce(b"one", partition=1))
    assert rows(fetch(client, known, {}, (session, 2))) == {1: (0, True)}
    assert rows(fetch(client, known, {1: 1}, (session, 3))) == {}              # it has read on
    client.ask("Produce", 9, **client.produce(b"two", partition=1))
    client.ask("Produce", 9, **client.produce(b"two", partition=0))
    assert rows(fetch(client, known, {}, (session, 4), forgotten=[1])) == {0: (0, True)}
    assert fetch(client, known, {}, (session, 9)).error_code == WRONG_EPOCH
    assert fetch(client, known, {}, (session + 1, 5)).error_code == NOT_FOUND
    assert broker.connect().ask("Fetch", 12, session_id=session, session_epoch=5, topics=[]).error_code == NOT_FOUND
    assert fetch(client, known, {0: 1}, (session, -1)).session_id == 0         # in full, and it ends
    assert fetch(client, known, {}, (session, 5)).error_code == NOT_FOUND


def test_a_partition_with_an_error_is_told_each_time(broker):
    client = broker.connect()
    known = topic_id(client)
    session = fetch(client, known, {0: 99, 1: 0}, (0, 0)).session_id
    assert [rows(fetch(client, known, {}, (session, epoch))) for epoch in (1, 2)] == [{0: (1, False)}] * 2


def test_without_room_for_sessions_a_client_is_answered_in_full(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(session_partitions_max=3))
    client, other = broker.connect(), broker.connect()
    known = topic_id(client)
    assert fetch(client, known, {0: 0, 1: 0}, (0, 0)).session_id > 0
    answer = fetch(other, known, {0: 0, 1: 0}, (0, 0))
    assert answer.session_id == 0 and rows(answer) == {0: (0, False), 1: (0, False)}
    client.channel.handler.eof()                                                # what it held is free again
    assert fetch(other, known, {0: 0, 1: 0}, (0, 0)).session_id > 0
    broker.close()
