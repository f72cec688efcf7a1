"""What a hostile or broken peer sends behind a good frame: hostile.md 63, 64, 66, 68, 69, 70."""
from __future__ import annotations

import gzip
import time

import cramjam
import google_crc32c
import pytest

from protocols.kafka.settings import KafkaSettings
from routing.settings import StreamSettings
from tests.protocols.kafka.harness import Broker, batch

CORRUPT, TOO_LARGE, INVALID_RECORD, INVALID_TOPIC, EPOCH, GAP, FULL = 2, 10, 87, 17, 47, 45, 81
CODECS = {"gzip": (1, lambda data: gzip.compress(data, 9)), "snappy": (2, cramjam.snappy.compress_raw),
          "lz4": (3, cramjam.lz4.compress), "zstd": (4, cramjam.zstd.compress)}


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def sealed(head, records):
    """A batch of this header and these records, with a checksum that is right. head: the 61 bytes of another batch."""
    body = head[21:61] + records
    start = (len(head[:61]) - 12 + len(records)).to_bytes(4, "big")
    return head[:8] + start + head[12:17] + google_crc32c.value(body).to_bytes(4, "big") + body


def produced(broker, client, records, topic="orders"):
    """The error code. A large batch is looked at on a thread."""
    client.send("Produce", 9, **client.produce(records=records, topic=topic))
    until = time.monotonic() + 30
    while not (answers := client.answers()):
        assert time.monotonic() < until
        time.sleep(0.01)
        broker.tick()
    return answers[0].responses[0].partition_responses[0].error_code


def test_a_batch_whose_checksum_count_or_lengths_are_wrong_refuses_its_partition_only(broker):
    """hostile.md 63; and in the middle of a request only that partition is refused."""
    client, good = broker.connect(), batch(b"good")
    more = good[:57] + (2).to_bytes(4, "big") + good[61:]               # says that it has two records
    negative = good[:61] + b"\x01" + good[62:]                          # a record of -1 bytes
    wrong = [(good[:-1] + b"x", CORRUPT), (sealed(more, good[61:]), INVALID_RECORD),
             (sealed(negative, negative[61:]), INVALID_RECORD), (good[:40], CORRUPT),
             (sealed(good, b""), INVALID_RECORD), (sealed(good, good[61:] + b"\0"), INVALID_RECORD),
             (b"\0" * 61, CORRUPT)]
    for data, code in wrong:
        answer = client.ask("Produce", 9, acks=-1, timeout_ms=1_000, topic_data=[{"name": "orders", "partition_data": [
            {"index": 0, "records": data}, {"index": 1, "records": good}]}])
        codes = [part.error_code for part in answer.responses[0].partition_responses]
        assert codes == [code, 0] or (code == INVALID_RECORD and codes == [CORRUPT, 0]), (data[:80], codes)
    fetched = client.ask("Fetch", 12, **client.fetch())
    assert fetched.responses[0].partitions[0].high_watermark == 0


def peak_bytes():
    """Of this process, since the last reset_peak()."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


@pytest.mark.parametrize(("codec", "expanded"), [
    ("gzip", 200_000_000), ("snappy", 20_000_000), ("lz4", 200_000_000), ("zstd", 400_000_000)])
def test_an_expansion_bomb_ends_at_the_limit_and_costs_no_memory(tmp_path, codec, expanded):
    """hostile.md 64."""
    broker = Broker(tmp_path, streams=(StreamSettings(
        "orders", ("orders/#",), partitions=2, batch_bytes_max=1_500_000),))
    number, compress = CODECS[codec]
    records = bytes(compress(bytes(expanded)))
    assert len(records) < 1_400_000
    head = batch(b"x")
    head = head[:21] + number.to_bytes(2, "big") + head[23:]
    client, bomb = broker.connect(), sealed(head, records)
    reset_peak()
    before = peak_bytes()
    assert produced(broker, client, bomb) == TOO_LARGE
    assert peak_bytes() - before < 40 * 1024 * 1024                 # the limit is 16 MiB
    assert produced(broker, client, batch(b"good")) == 0
    broker.close()


@pytest.mark.parametrize("name", ["../../x", ".", "..", "", "x" * 250, "a\0b", "a/b", "größer", "$state"])
def test_a_name_that_is_no_topic_is_error_17_everywhere(broker, name):
    """hostile.md 66."""
    client = broker.connect()
    assert produced(broker, client, batch(b"x"), topic=name) == INVALID_TOPIC
    assert client.ask("Metadata", 12, topics=[{"name": name}]).topics[0].error_code == INVALID_TOPIC
    made = client.ask("CreateTopics", 4, topics=[{"name": name, "num_partitions": 1, "replication_factor": 1}])
    assert made.topics[0].error_code == INVALID_TOPIC


def test_old_epochs_gaps_and_repeats_of_an_idempotent_producer(broker):
    """hostile.md 68."""
    client = broker.connect()
    producer = client.ask("InitProducerId", 1, transactional_id=None, transaction_timeout_ms=60_000).producer_id

    def send(sequence):
        row = client.ask("Produce", 9, **client.produce(
            b"x", producer=producer, sequence=sequence)).responses[0].partition_responses[0]
        return row.error_code, row.base_offset

    assert [send(0), send(1), send(0), send(1)] == [(0, 0), (0, 1), (0, 0), (0, 1)]
    assert send(5) == (GAP, -1) and send(2) == (0, 2)


def test_a_flood_of_joins_ends_at_the_bound_of_a_group(tmp_path):
    """hostile.md 69."""
    broker = Broker(tmp_path, KafkaSettings(group_members_max=10))
    codes = []
    for _ in range(30):
        client = broker.connect()
        codes.append(client.ask(
            "JoinGroup", 5, group_id="g", session_timeout_ms=6_000, rebalance_timeout_ms=6_000, member_id="",
            protocol_type="consumer", protocols=[{"name": "range", "metadata": b""}]).error_code)
    assert codes == [79] * 10 + [FULL] * 20
    broker.close()


def test_thousands_of_waiting_fetches_are_bounded_and_hold_up_nobody(tmp_path):
    """hostile.md 70."""
    broker = Broker(tmp_path, KafkaSettings(fetch_wait_max_s=5))
    clients = [broker.connect() for _ in range(1_000)]
    for client in clients:
        client.send("Fetch", 12, **{**client.fetch(), "max_wait_ms": 2**31 - 1})
        client.send("Fetch", 12, **{**client.fetch(), "max_wait_ms": 2**31 - 1})       # waits for the first
    other, began_s = broker.connect(), time.monotonic()
    assert other.ask("Metadata", 9, topics=None).topics and time.monotonic() - began_s < 1
    broker.tick(6)
    assert all(len(client.answers()) == 1 for client in clients)
    broker.close()
