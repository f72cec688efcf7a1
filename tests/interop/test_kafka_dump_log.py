"""Apache Kafka's own kafka-dump-log reads our segments, indexes and time indexes and has nothing to complain about."""
from __future__ import annotations

import random
from itertools import pairwise

import pytest

from routing.event import Event, Properties
from routing.log.producing.markers import ABORT, COMMIT
from routing.settings import Durability
from routing.ticket import Ticket
from tests.routing.log.records.test_batch import kafka_batch
from tests.routing.log.test_raw import kafka_batch as raw_batch
from tests.routing.log.test_store import produce
from tests.support import kafka_tools
from tests.support.log import make_store, open_partition, scan_all

DEEP = ("--deep-iteration", "--print-data-log")


@pytest.fixture(scope="module", autouse=True)
def installed():
    kafka_tools.install()


def segments(root):
    return sorted(root.rglob("*.log"))


def check_indexes(root):
    """Every index entry points at its batch, every time entry at the batch that has the time."""
    for suffix in ("index", "timeindex"):
        files = sorted(root.rglob(f"*.{suffix}"))
        assert any(file.stat().st_size for file in files)
        filled = [file for file in files if file.stat().st_size]
        kafka_tools.dump_log(*filled)
        output = kafka_tools.dump_log(*filled, options=("--index-sanity-check",))
        assert output.count("passed sanity check") == len(filled)


def check_records(root, events):
    """The records are those events; the batches form one chain."""
    output = kafka_tools.dump_log(*segments(root), options=DEEP)
    rows = kafka_tools.records(output)
    assert [(row.offset, row.timestamp_ms, row.payload) for row in rows] == [
        (event.offset, event.timestamp_ms, event.payload.decode()) for event in events]
    chain = kafka_tools.batches(output)
    assert all(left[1] + 1 == right[0] for left, right in pairwise(chain))
    return rows


def test_segments_with_all_kinds_of_events(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store, segment_bytes=60_000)
    rng = random.Random(1)
    for number in range(60):
        store.now_ms += rng.randint(0, 50)
        store.store_events(partition, [Event(
            f"plant/{rng.randrange(4)}", b"%d-%d-" % (number, index) + b"x" * rng.randrange(200), rng.randrange(3),
            rng.choice(("", "client")), rng.choice((None, b"key")),
            (("text", "v"), ("number", 5), ("nothing", None)) if index == 0 else (),
            Properties(content_type="text/plain", correlation=b"\x01") if index == 1 else None,
        ) for index in range(30)])
    events = scan_all(partition)
    assert len(events) == 1_800 and partition.segment_count > 3
    store.close()
    rows = check_records(tmp_path, events)
    assert all(row.header_names[0] == "meshgate-topic" for row in rows)
    assert {row.key for row in rows} == {"key", *(f"plant/{index}" for index in range(4))}
    check_indexes(tmp_path)


def test_compacted_segments(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store, segment_bytes=20_000, compact=True)
    rng = random.Random(2)
    for number in range(300):
        store.now_ms += rng.randint(0, 50)
        store.store_events(partition, [
            Event(f"k/{rng.randrange(300)}", b"" if rng.random() < 0.1 else b"%d" % number, 1) for _ in range(5)])
    for _ in range(2):
        store.maintain(store.now_ms)
        store.loop.run_pending()
    events = scan_all(partition)
    assert len(events) < 1_000
    store.close()
    output = kafka_tools.dump_log(*segments(tmp_path), options=DEEP, gaps=True)
    assert [row.offset for row in kafka_tools.records(output)] == [event.offset for event in events]
    assert all(left[1] + 1 == right[0] for left, right in pairwise(kafka_tools.batches(output)))
    check_indexes(tmp_path)


def test_batches_of_kafka_producers_and_a_gap_of_reserved_offsets(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store, durability=Durability.WRITE)
    for codec in (0, 1):
        produce(store, partition, kafka_batch([(b"k", b"v%d" % index, []) for index in range(10)], codec=codec))
    store.commit()
    store._lock.release()                               # a crash: offsets go on behind the reservation
    store = make_store(tmp_path)
    partition = open_partition(store, durability=Durability.WRITE)
    store.store_events(partition, [Event("t", b"after", 1)])
    store.close()
    output = kafka_tools.dump_log(*segments(tmp_path), options=DEEP, gaps=True)
    assert [row.payload for row in kafka_tools.records(output)] == [f"v{index}" for index in range(10)] * 2 + ["after"]
    assert [count for _, _, count in kafka_tools.batches(output)] == [10, 10, 0, 1]


def test_transactions_with_their_markers(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store)
    for sequence, kind in enumerate((COMMIT, ABORT, COMMIT)):
        produce(store, partition, raw_batch([(None, b"v%d" % sequence, [])], codec=sequence, producer=(7, 0, sequence),
                                            transactional=1))
        ticket = Ticket(())
        partition.append_marker(7, 0, kind, ticket)
        ticket.part_done()
        store.commit()
    assert [event.payload for event in scan_all(partition)] == [b"v0", b"v2"]
    store.close()
    output = kafka_tools.dump_log(*segments(tmp_path), options=DEEP)
    assert [int(base) for base, _, _ in kafka_tools.batches(output)] == list(range(6))
    assert output.count("isTransactional: true") == 6 and output.count("isControl: true") == 3
    assert output.count("endTxnMarker: COMMIT") == 2 and output.count("endTxnMarker: ABORT") == 1
