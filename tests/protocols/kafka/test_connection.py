"""Frames, order, pipelines, versions, logins, and what a hostile peer sends (hostile.md 60–65, 87–93)."""
from __future__ import annotations

import pytest

from protocols.kafka.settings import KafkaSettings
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.queues.options import QueueOptions
from tests.protocols.kafka.harness import APIS, Broker, Client, batch
from tests.protocols.mqtt.harness import SlowDisk
from tests.support.routing import ANA


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def test_the_versions_are_these():
    """A golden list: a change of it is a change for clients."""
    assert {name: (schema.listed_from, schema.first, schema.last) for name, schema in APIS.items()} == {
        "Produce": (0, 3, 11), "Fetch": (4, 4, 17), "ListOffsets": (1, 1, 10), "Metadata": (0, 0, 13),
        "OffsetCommit": (2, 2, 9), "OffsetFetch": (1, 1, 9), "FindCoordinator": (0, 0, 6), "JoinGroup": (0, 0, 9),
        "Heartbeat": (0, 0, 4), "LeaveGroup": (0, 0, 5), "SyncGroup": (0, 0, 5), "DescribeGroups": (0, 0, 6),
        "ListGroups": (0, 0, 5), "SaslHandshake": (0, 0, 1), "ApiVersions": (0, 0, 4), "CreateTopics": (2, 2, 7),
        "DeleteTopics": (1, 1, 6), "DeleteRecords": (0, 0, 2), "InitProducerId": (0, 0, 5),
        "OffsetForLeaderEpoch": (2, 2, 4), "AddPartitionsToTxn": (0, 0, 3), "AddOffsetsToTxn": (0, 0, 4),
        "EndTxn": (0, 0, 4), "TxnOffsetCommit": (0, 0, 4), "DescribeConfigs": (1, 1, 4), "AlterConfigs": (0, 0, 2),
        "DescribeLogDirs": (1, 1, 5), "SaslAuthenticate": (0, 0, 2), "CreatePartitions": (0, 0, 3),
        "DeleteGroups": (0, 0, 2), "ElectLeaders": (0, 0, 2), "IncrementalAlterConfigs": (0, 0, 1),
        "ListPartitionReassignments": (0, 0, 0), "OffsetDelete": (0, 0, 0), "DescribeCluster": (0, 0, 2),
        "DescribeProducers": (0, 0, 0), "DescribeTransactions": (0, 0, 0), "ListTransactions": (0, 0, 1),
        "DescribeTopicPartitions": (0, 0, 0), "DescribeUserScramCredentials": (0, 0, 0),
        "AlterUserScramCredentials": (0, 0, 0), "DescribeAcls": (1, 1, 3), "CreateAcls": (1, 1, 3),
        "DeleteAcls": (1, 1, 3), "ConsumerGroupHeartbeat": (0, 0, 1), "ConsumerGroupDescribe": (0, 0, 1),
        "ShareGroupHeartbeat": (1, 1, 1), "ShareGroupDescribe": (1, 1, 1), "ShareFetch": (1, 1, 2),
        "ShareAcknowledge": (1, 1, 2), "DescribeClientQuotas": (0, 0, 1), "AlterClientQuotas": (0, 0, 1),
        "DescribeShareGroupOffsets": (0, 0, 1), "AlterShareGroupOffsets": (0, 0, 0),
        "DeleteShareGroupOffsets": (0, 0, 0),
    }


@pytest.mark.parametrize("version", [5, 99, 32_767])
def test_an_unknown_version_of_apiversions_is_answered_in_that_of_0_with_the_table(broker, version):
    """hostile.md 61; Java 4.4 begins with version 5, whose body nobody here knows."""
    client = broker.connect()
    client.waiting.append((7, APIS["ApiVersions"], 0))
    client.raw(b"\0\0\0\x0e" + (18).to_bytes(2, "big") + version.to_bytes(2, "big") + (7).to_bytes(4, "big")
               + b"\xff\xff" + b"\xff\xff\xff\xff")
    answer, = client.answers()
    assert answer.error_code == 35 and {row.api_key for row in answer.api_keys} == {
        schema.key for schema in APIS.values()}
    assert client.ask("ApiVersions", 3, client_software_name="a", client_software_version="1").error_code == 0


@pytest.mark.parametrize("data", [
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0", b"\0\0\0\4\0\0\0\0",
    b"\0\0\0\x0a\x03\xe8\0\0\0\0\0\1\xff\xff",                                              # API 1000
    b"\0\0\0\x0a\0\3\0\x63\0\0\0\1\xff\xff",                                                # Metadata 99
    b"\0\0\0\x0a\0\0\0\0\0\0\0\1\xff\xff",                                                  # Produce 0: listed, refused
    b"\0\0\0\x0e\0\3\0\1\0\0\0\1\xff\xff\x7f\xff\xff\xff",                                  # 2^31 - 1 topics
    b"\0\0\0\x0c\0\3\0\1\0\0\0\1\0\x05ab",                                                  # the client id is cut off
    b"\0\0\0\x0c\0\3\0\1\0\0\0\1\0\x02\xff\xfe",                                            # and is not UTF-8
], ids=repr)
def test_what_is_no_request_ends_the_connection_and_nothing_else(broker, data):
    """hostile.md 60, 61, 62."""
    client, other = broker.connect(), broker.connect()
    client.raw(data)
    assert client.closed and not client.channel.sent
    assert other.ask("Metadata", 1, topics=None).topics


def test_a_request_is_taken_in_pieces_of_any_size(broker):
    client = broker.connect()
    data = b"".join(client.frame("Metadata", 9, topics=[{"name": "orders"}]) for _ in range(3))
    for index in range(len(data)):
        client.raw(data[index:index + 1])
    assert [answer.topics[0].name for answer in client.answers()] == ["orders"] * 3


def test_the_streams_of_the_node_itself_are_no_topics(broker):
    """What went straight to a queue is its queue's: no pattern of a Kafka client reaches it, nor does its name."""
    client = broker.connect()
    queue = broker.router.queues.declare("jobs", QueueOptions(), ANA)
    broker.publish(Event(queue.topic, b"job", 1))
    assert "$queues" in broker.router.streams.by_name
    assert "$queues" not in [topic.name for topic in client.ask("Metadata", 1, topics=None).topics]
    topic, = client.ask("Metadata", 1, topics=[{"name": "$queues"}]).topics
    assert topic.error_code != 0
    answer = client.ask("Produce", 9, **client.produce(b"a", topic="$queues"))
    assert answer.responses[0].partition_responses[0].error_code != 0
    answer = client.ask("DeleteTopics", 4, topic_names=["$queues"], timeout_ms=1_000)
    assert answer.responses[0].error_code != 0 and "$queues" in broker.router.streams.by_name


def test_before_a_login_a_request_is_small(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(pre_auth_bytes_max=1_000))
    broker.users.passwords = {"ana": b"secret"}
    client = broker.connect()
    client.raw((1_001).to_bytes(4, "big"))
    assert client.closed
    broker.close()


def test_answers_come_in_the_order_of_the_requests_and_after_the_sync(tmp_path):
    disk = SlowDisk()
    broker = Broker(tmp_path, spawn_writer=disk)
    disk.work(broker)
    client = broker.connect()
    for number in range(3):                             # these share a sync
        client.raw(client.frame("Produce", 9, **client.produce(b"%d" % number)))
    client.raw(client.frame("Metadata", 9, topics=[]))
    assert not client.answers()
    disk.work(broker)
    first, second, third, _ = client.answers()
    assert [answer.responses[0].partition_responses[0].base_offset for answer in (first, second, third)] == [0, 1, 2]
    broker.close()


def test_acks_0_get_no_answer_and_what_is_wrong_with_them_ends_the_connection(broker):
    client = broker.connect()
    client.send("Produce", 9, **client.produce(b"1", acks=0))
    client.waiting.clear()
    assert client.ask("Metadata", 9, topics=[]).topics == []
    client.send("Produce", 9, **client.produce(b"1", acks=0, topic="nowhere"))
    assert client.closed and not client.channel.sent


def test_a_pipeline_is_bounded(tmp_path):
    disk = SlowDisk()
    broker = Broker(tmp_path, KafkaSettings(pipeline_max=4), spawn_writer=disk)
    disk.work(broker)
    client = broker.connect()
    client.raw(b"".join(client.frame("Produce", 9, **client.produce(b"x")) for _ in range(10)))
    assert client.channel.paused and len(client.channel.handler._slots) == 4
    for _ in range(10):
        disk.work(broker)
    assert len(client.answers()) == 10 and not client.channel.paused
    broker.close()


def test_a_login_by_sasl_and_nothing_before_it(broker):
    broker.users.passwords = {"ana": b"secret", None: b"never"}
    early = broker.connect()
    early.send("Metadata", 9, topics=None)
    assert early.closed and not early.channel.sent                                          # hostile.md 65
    client = broker.connect()
    assert client.ask("SaslHandshake", 1, mechanism="GSSAPI").error_code == 33
    assert client.ask("SaslHandshake", 1, mechanism="PLAIN").error_code == 0
    assert client.ask("SaslAuthenticate", 2, auth_bytes=b"\0ana\0secret").error_code == 0
    assert client.ask("Metadata", 9, topics=None).topics
    for data in (b"\0ana\0wrong", b"", b"\0", b"ben\0ana\0secret", b"\0ana\0secret\0more", b"\xff\0\xfe\0x"):
        wrong = broker.connect()
        wrong.ask("SaslHandshake", 1, mechanism="PLAIN")
        answer = wrong.ask("SaslAuthenticate", 2, auth_bytes=data)
        assert answer.error_code == 58 and wrong.closed


def test_a_user_has_as_many_connections_as_his_quota_says_and_a_place_comes_back(broker):
    broker.users.passwords = {"ana": b"secret", "ben": b"secret"}
    broker.router.shares.quotas.replace({"connections": {"ana": 2}})

    def login(client, user="ana"):
        assert client.ask("SaslHandshake", 1, mechanism="PLAIN").error_code == 0
        return client.ask("SaslAuthenticate", 2, auth_bytes=f"\0{user}\0secret".encode())

    first, second, third = broker.connect(), broker.connect(), broker.connect()
    assert login(first).error_code == 0 and login(second).error_code == 0
    refused = login(third)
    assert refused.error_code == 58 and "the quota is 2" in refused.error_message and third.closed
    assert login(broker.connect(), "ben").error_code == 0
    assert login(first).error_code == 0                                     # KIP-368: it has its place
    first.channel.handler.eof()
    assert login(broker.connect()).error_code == 0
    assert login(broker.connect()).error_code == 58
    assert broker.server.broker.connections.of("ana") == 2 and broker.server.broker.connections.total == 3


def test_sasl_authenticate_without_handshake_is_an_error(broker):
    broker.users.passwords = {}
    client = broker.connect()
    assert client.ask("SaslAuthenticate", 2, auth_bytes=b"\0a\0b").error_code == 34 and client.closed


def test_a_login_that_was_taken_away_ends_the_connection(broker):
    client = broker.connect()
    client.ask("Metadata", 9, topics=None)
    from msgspec.structs import replace

    broker.router.logins.renew = lambda identity: replace(identity, revoked=True)
    broker.router.logins.changed(rules=False)
    broker.run()
    assert client.closed


def test_silence_ends_a_connection(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(login_timeout_s=30, idle_timeout_s=100))
    nobody, client, idle = broker.connect(), broker.connect(), broker.connect()
    client.ask("Metadata", 9, topics=None)
    idle.ask("ApiVersions", 0)                  # librdkafka does so where it may want a coordinator one day
    broker.tick(31)
    assert nobody.closed and not client.closed and not idle.closed
    broker.tick(101)
    assert client.closed
    broker.close()


def test_a_fault_of_ours_ends_the_connection_with_a_traceback(broker, monkeypatch, caplog):
    client = broker.connect()
    client.ask("Metadata", 9, topics=None)
    monkeypatch.setattr(broker.server.broker.topics, "may_describe", lambda *_: 1 / 0)
    client.send("Metadata", 9, topics=None)
    assert client.closed and "ZeroDivisionError" in caplog.text


def test_a_refused_certificate_gets_no_answer(broker):
    def refuse(*arguments, **options):
        arguments[5](Refusal(Reason.BAD_CREDENTIALS, "no"))

    broker.users.authenticate = refuse
    client = Client(broker)
    client.send("Metadata", 9, topics=None)
    assert client.closed and not client.channel.sent


def test_the_batch_builder_makes_what_the_log_takes(broker):
    client = broker.connect()
    answer = client.ask("Produce", 9, **client.produce(records=batch(b"a", None, b"")))
    assert answer.responses[0].partition_responses[0].error_code == 0


def test_fetched_bytes_that_nobody_takes_are_a_share_of_a_bound(tmp_path):
    """hostile.md 90: a client that never reads costs bounded memory, whatever number of connections it has."""
    broker = Broker(tmp_path, KafkaSettings(answers_bytes_max=60_000, write_buffer_high_bytes=1_000))
    client = broker.connect()
    for _ in range(8):
        client.ask("Produce", 9, **client.produce(b"x" * 8_000))
    deaf = [broker.connect() for _ in range(6)]
    for one in deaf:
        one.channel.stuck, one.channel.high = True, 1_000
        one.send("Fetch", 11, **one.fetch(max_bytes=20_000))
    sizes = [one.channel.buffered for one in deaf]
    assert sum(sizes) < 60_000 + 6 * 10_000 and min(sizes) > 8_000, "everybody has a batch at least"
    assert sizes[0] > sizes[-1]
    for one in deaf:
        one.channel.unstick()
    assert broker.server.broker.answers.total == 0
    broker.close()
