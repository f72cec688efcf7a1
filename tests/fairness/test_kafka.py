"""Kafka: every request that grows with what a client asks for, one behind the other without waiting for answers.

The bytes are written out here by hand; the batches are aiokafka's.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tests.fairness import chunks
from tests.fairness.floods import Flood
from tests.fairness.harness import SOAK, grows, hold
from tests.support.node import Node
from tests.support.wait import wait_until

pytestmark = pytest.mark.measured

SEVERAL = 1 << 19               # bytes of a chunk, about
TOPICS = 400
PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH = 0, 1, 2, 3, 8, 9
DELETE_TOPICS, DESCRIBE_GROUPS = 20, 15
FIND_COORDINATOR, JOIN_GROUP, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID, DESCRIBE_CONFIGS = 10, 11, 18, 19, 22, 32


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("kafka"), listeners=("mqtt", "http", "console", "kafka"))
    made.start()
    Flood(made.address("kafka"), many(lambda n: produce(f"known-{n % TOPICS}", 5), 200_000), once=True,
          opening=create(known()), opening_reply_bytes=4)(4.0)
    assert made.metrics()['meshgate_kafka_requests_total{kind="Produce"}'] > TOPICS, "the flood does not get through"
    wait_until(lambda: written(made) > TOPICS * 0.9, "the produces are stored, and not refused")
    yield made
    made.process.kill9()


def written(node: Node) -> int:
    """Topics of which something is on disk."""
    return sum(file.stat().st_size > 0 for file in (node.data / "streams").glob("known-*/0/*.log"))


def text(value):
    return struct.pack("!h", -1) if value is None else struct.pack("!h", len(value)) + value.encode()


def array(items):
    items = list(items)
    return struct.pack("!i", len(items)) + b"".join(items)


def request(key, version, body=b""):
    frame = struct.pack("!hhi", key, version, 7) + text("evil") + body
    return struct.pack("!i", len(frame)) + frame


def batch(count, size=1, codec=0):
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for number in range(count):
        builder.append(number, timestamp=1_700_000_000_000, key=None, value=b"x" * size, headers=[])
    return bytes(builder.build())


def produce(topic, count=1, size=1, *, parts=1, codec=0, acks=-1):
    records = batch(count, size, codec)
    partition = struct.pack("!ii", 0, len(records)) + records
    return request(PRODUCE, 3, text(None) + struct.pack("!hi", acks, 30_000)
                   + array(text(f"{topic}-{n}" if n else topic) + array([partition]) for n in range(parts)))


def fetch(topics, *, max_wait_ms=0, at=0):
    return request(FETCH, 4, struct.pack("!iiiib", -1, max_wait_ms, 1, 50 << 20, 0) + array(
        text(topic) + array([struct.pack("!iqi", 0, at, 1 << 20)]) for topic in topics))


def session(topic, partitions):
    """A fetch session of so many, most of which are not there."""
    places = (struct.pack("!iqqi", number, 0, -1, 1 << 20) for number in range(partitions))
    return request(FETCH, 7, struct.pack("!iiiibii", -1, 0, 1, 1 << 20, 0, 0, 0)
                   + array([text(topic) + array(places)]) + array([]))


def list_offsets(topics, time_ms):
    return request(LIST_OFFSETS, 1, struct.pack("!i", -1) + array(
        text(topic) + array([struct.pack("!iq", 0, time_ms)]) for topic in topics))


def commit(group, topics):
    return request(OFFSET_COMMIT, 2, text(group) + struct.pack("!i", -1) + text("") + struct.pack("!q", -1) + array(
        text(topic) + array([struct.pack("!iq", 0, 1) + text("")]) for topic in topics))


def create(topics):
    shapes = (text(topic) + struct.pack("!ih", 1, 1) + array([]) + array([]) for topic in topics)
    return request(CREATE_TOPICS, 2, array(shapes) + struct.pack("!ib", 1_000, 0))


def join(group):
    return request(JOIN_GROUP, 1, text(group) + struct.pack("!ii", 10_000, 10_000) + text("") + text("consumer")
                   + array([text("range") + struct.pack("!i", 0)]))


def many(make, size=SEVERAL):
    return chunks.many(make, size)


def known():
    return [f"known-{number}" for number in range(TOPICS)]


CHUNKS = {
    "ApiVersions": lambda: many(lambda n: request(API_VERSIONS, 0)),
    "Metadata of all topics": lambda: many(lambda n: request(METADATA, 1, struct.pack("!i", -1))),
    "Metadata of ever new topics": lambda: many(lambda n: request(METADATA, 1, array([text(f"evil-{n}")]))),
    "Metadata of ten thousand topics that are not there": lambda: request(
        METADATA, 4, array(text(f"none-{n}") for n in range(10_000)) + b"\0") * 4,
    "ListOffsets by time": lambda: list_offsets(known(), 1_700_000_000_000) * 20,
    "ListOffsets of the end": lambda: list_offsets(known(), -1) * 20,
    "Fetch of everything": lambda: fetch(known()) * 20,
    "Fetch of one partition, again and again": lambda: many(lambda n: fetch(["known-0"])),
    "Fetch of the end": lambda: many(lambda n: fetch(["known-1"], at=5)),
    "the same partition ten thousand times": lambda: fetch(["known-0"] * 10_000),
    "InitProducerId": lambda: many(lambda n: request(INIT_PRODUCER_ID, 0, text(None) + struct.pack("!i", 1_000))),
    "InitProducerId of ever new transactions": lambda: many(
        lambda n: request(INIT_PRODUCER_ID, 0, text(f"evil-{n}") + struct.pack("!i", 1_000)), SEVERAL // 4),
    "smallest produces": lambda: many(lambda n: produce("known-2")),
    "smallest produces without acks": lambda: many(lambda n: produce("known-2", acks=0)),
    "produces to ever new topics": lambda: many(lambda n: produce(f"evil-p-{n % 3000}"), SEVERAL // 4),
    "a produce to 400 topics": lambda: produce("known", parts=TOPICS) * 8,
    "gzip that expands": lambda: produce("known-3", 20, 50_000, codec=1) * 8,
    "large produces": lambda: produce("known-4", 900, 1_000) * 2,
    "compressed batches that come to megabytes": lambda: produce("known-5", 150, 100_000, codec=1) * 8,
    "the same topic nine thousand times": lambda: request(METADATA, 1, array([text("known-0")] * 9_000)) * 4,
    "the same group nine thousand times": lambda: request(DESCRIBE_GROUPS, 0, array([text("evil-all")] * 9_000)) * 4,
    "DeleteTopics that are not there": lambda: request(
        DELETE_TOPICS, 1, array(text(f"none-{n}") for n in range(9_000)) + struct.pack("!i", 1)) * 4,
    "fetch sessions of many partitions": lambda: session("known-0", 9_000) * 4,
    "FindCoordinator": lambda: many(lambda n: request(FIND_COORDINATOR, 0, text(f"g{n}"))),
    "OffsetCommit of ever new groups": lambda: many(lambda n: commit(f"evil-{n}", ["known-0"]), SEVERAL // 8),
    "OffsetCommit of all topics": lambda: commit("evil-all", known()) * 20,
    "OffsetFetch": lambda: many(lambda n: request(OFFSET_FETCH, 1, text("evil-all") + array(
        text(topic) + array([struct.pack("!i", 0)]) for topic in known()))),
    "JoinGroup of ever new groups": lambda: many(lambda n: join(f"evil-{n}"), SEVERAL // 8),
    "CreateTopics": lambda: create(f"evil-c-{n}" for n in range(300)),
    "DescribeConfigs of all topics": lambda: request(DESCRIBE_CONFIGS, 1, array(
        b"\x02" + text(topic) + struct.pack("!i", -1) for topic in known()) + b"\0") * 20,
    "a request that does not end": lambda: struct.pack("!i", 60_000) + bytes(50_000),
    "no Kafka at all": lambda: b"GET / HTTP/1.1\r\n\r\n" * 10_000,
}


IN_SUITE = ("ListOffsets by time", "smallest produces", "OffsetCommit of ever new groups")


@pytest.mark.parametrize("name", CHUNKS if SOAK else IN_SUITE)
def test_one_client(node, name):
    hold(node, Flood(node.address("kafka"), CHUNKS[name]()))


def test_a_hundred_connections(node):
    hold(node, Flood(node.address("kafka"), many(lambda n: fetch(["known-1"], at=5), 50_000), connections=100))


@pytest.mark.skipif(not SOAK, reason="the long form, see README.md")
def test_fetches_that_wait(node):
    made = request(METADATA, 4, array([text("nothing")]) + b"\1")
    waits = fetch(["nothing"], max_wait_ms=2_000_000_000)
    hold(node, Flood(node.address("kafka"), waits * 500, opening=made, opening_reply_bytes=20, connections=100))


@pytest.mark.skipif(not SOAK, reason="the long form, see README.md")
def test_byte_by_byte(node):
    hold(node, Flood(node.address("kafka"), CHUNKS["ApiVersions"](), drip_bytes=1))


def test_answers_that_are_not_read_are_bounded(node):
    grows(node, Flood(node.address("kafka"), fetch(known()) * 20, reads=False, connections=20))
