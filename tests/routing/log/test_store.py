"""The data directory: one process at a time, an epoch for life, names that cannot leave it, threads that come back."""
from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from routing.errors import Reason, StorageError
from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.log.records.batch import HEADER_BYTES, build_batch, check_batch
from routing.log.store import escape_name
from routing.settings import StreamSettings
from routing.ticket import Ticket
from tests.routing.log.records.test_batch import NOW, compressed_batch, kafka_batch
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all

REPOSITORY = Path(__file__).parents[3]


def test_a_second_process_is_told_that_the_directory_is_in_use(tmp_path):
    store = make_store(tmp_path)
    code = ("import sys; from pathlib import Path; from tests.support.log import make_store; "
            "make_store(Path(sys.argv[1]))")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1 and f"{tmp_path} is in use by process {os.getpid()} " in done.stderr
    with pytest.raises(StorageError, match="in use"):
        make_store(tmp_path)
    store.close()
    make_store(tmp_path).close()


def test_the_lock_goes_with_the_process(tmp_path):
    code = ("import os, sys; from pathlib import Path; from tests.support.log import make_store; "
            "make_store(Path(sys.argv[1])); os._exit(9)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY)
    assert done.returncode == 9
    make_store(tmp_path).close()


def test_the_epoch_is_made_once_and_differs_between_directories(tmp_path):
    first, other = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    assert len(first.epoch) == 16 and first.epoch != other.epoch
    first.close()
    again = make_store(tmp_path / "a")
    assert again.epoch == first.epoch
    again.close()
    other.close()


@pytest.mark.parametrize("name", ["..", ".", "../../etc", "a/b", ".hidden", "a\\b", "näme", "a b", "%2E", "a%b", "CON:",
                                  "*", "\ud800", "x\x00y", "\n", "a" * 249])
def test_a_stream_name_never_leaves_its_directory(tmp_path, name):
    store = make_store(tmp_path / "data")
    partition = open_partition(store, name=name)
    store.store_events(partition, [Event("t", b"x", 1)])
    store.close()
    folders = list((tmp_path / "data" / "streams").iterdir())
    assert len(folders) == 1 and folders[0].name == escape_name(name)
    assert not folders[0].name.startswith(".") and (folders[0] / "0").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_different_names_have_different_directories():
    names = ["a", "A", "a.b", "a%2Eb", "a/b", "a%2Fb", "..", "%2E.", ".", "%2E", "ä", "%C3%A4"]
    assert len({escape_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["", "a" * 250, "ä" * 100])
def test_names_that_cannot_be_a_directory_are_refused(name):
    with pytest.raises(StorageError):
        escape_name(name)


def test_a_stream_is_opened_once(tmp_path):
    store = make_store(tmp_path)
    open_partition(store)
    with pytest.raises(StorageError, match="open already"):
        open_partition(store)
    store.close()


def test_partitions_on_disk_stay_in_use_when_the_setting_shrinks(tmp_path, caplog):
    store = make_store(tmp_path)
    third = store.open_stream(StreamSettings("s", partitions=3))[2]
    store.store_events(third, [Event("t", b"x", 1)])
    store.close()
    store = make_store(tmp_path)
    partitions = store.open_stream(StreamSettings("s", partitions=1))
    assert len(partitions) == 3 and partitions[2].end_offset == 1 and "3 partitions on disk" in caplog.text
    store.close()


def test_a_directory_that_cannot_be_used_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        make_store(tmp_path / "file" / "data")


def test_a_partition_that_cannot_be_opened_is_a_storage_error(tmp_path):
    store = make_store(tmp_path)
    store.store_events(open_partition(store), [Event("t", b"x", 1)])
    store.close()
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk)
    disk.faults.fail("open", suffix=".log", count=-1)
    with pytest.raises(StorageError, match="events/0"):
        open_partition(store)
    disk.faults.clear()
    store.close()


def test_a_full_disk_does_not_keep_sealed_segments_from_being_served(tmp_path):
    """Sidecars that cannot be saved at the start are no reason not to start."""
    store = make_store(tmp_path)
    partition = open_partition(store, segment_bytes=500)
    for _ in range(10):
        store.store_events(partition, [Event("t", bytes(100), 1)])
    store._lock.release()
    for path in tmp_path.rglob("*.summary"):
        path.unlink()
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk)
    disk.faults.fail("pwrite", count=-1, code=28)
    assert len(scan_all(open_partition(store, segment_bytes=500))) == 10
    disk.faults.clear()
    store.close()


def test_many_partitions_commit_together_on_a_thread(tmp_path):
    store = make_store(tmp_path, inline=False)
    partitions = store.open_stream(StreamSettings("s", partitions=8))
    for round_number in range(20):
        ticket = Ticket([Event(f"t/{index}", b"%d" % round_number, 1) for index in range(8)])
        for partition, event in zip(partitions, ticket.events):
            partition.append([event], ticket)
        ticket.part_done()
        store.commit()
        assert ticket.done
    assert [partition.end_offset for partition in partitions] == [20] * 8
    store.close()


# --------------------------------------------------------------------------------------- batches of Kafka producers

@pytest.fixture
def store(tmp_path):
    store = make_store(tmp_path, tail_cache_bytes=0)
    yield store
    store.close()


def produce(store, partition, batch):
    """Append a raw batch as the Kafka adapter will. Returns base offset and ticket, before the commit."""
    ticket = Ticket([Event("kafka", b"", 1, partition=partition)])
    offset = partition.append_raw(batch, ticket).base_offset
    ticket.part_done()
    return offset, ticket


MESSAGES = [(b"k%d" % index, b"v%d" % index, [("h", b"x")]) for index in range(5)]


def test_a_kafka_batch_is_stored_byte_for_byte_between_events(store):
    partition = open_partition(store, topic="orders/{key}")
    batch = kafka_batch(MESSAGES)
    store.publish(partition, [Event("a", b"0", 1), Event("a", b"1", 1)])
    offset, ticket = produce(store, partition, batch)
    store.publish(partition, [Event("a", b"7", 1)])
    seen = []
    partition.on_committed = lambda which, committed: seen.extend(committed)
    store.commit()
    assert offset == 2 and ticket.done and not ticket.refusals
    stored, = [raw for raw in partition.read(0, 1 << 20) if check_batch(raw).base_offset == 2]
    assert stored[8:12] == batch[8:12] and stored[16:] == batch[16:]
    events = scan_all(partition)
    assert [event.offset for event in events] == list(range(8)) == [event.offset for event in seen]
    assert [event.topic for event in events[2:7]] == [f"orders/k{index}" for index in range(5)]
    assert (events[3].payload, events[3].key, events[3].timestamp_ms) == (b"v1", b"k1", NOW + 1)


def test_a_gzip_batch_is_stored_as_it_came_and_read_expanded(store):
    partition = open_partition(store)
    batch = kafka_batch(MESSAGES, codec=1)
    produce(store, partition, batch)
    store.commit()
    assert partition.read(0, 1)[0][16:] == batch[16:]
    assert [(event.offset, event.payload) for event in scan_all(partition)] == [
        (index, b"v%d" % index) for index in range(5)]
    assert partition.event(3).payload == b"v3" and partition.offset_for_time(NOW + 2) == 2
    assert [event.offset for event in partition.scan(1, lambda t: True, max_events=2, max_scanned=9).events] == [1, 2]


@pytest.mark.parametrize("codec", [2, 3, 4], ids=["snappy", "lz4", "zstd"])
def test_a_compressed_batch_is_stored_as_it_came_and_read_expanded(store, codec):
    partition = open_partition(store)
    batch = compressed_batch(MESSAGES * 20, codec)
    produce(store, partition, batch)
    store.commit()
    assert partition.read(0, 1)[0][16:] == batch[16:]
    assert [event.payload for event in scan_all(partition)] == [b"v%d" % index for index in range(5)] * 20


@pytest.mark.parametrize("break_it", [
    lambda batch: batch[:-1], lambda batch: batch + b"x", lambda batch: b"", lambda batch: batch[:40],
    lambda batch: batch[:70] + b"\xff" + batch[71:], lambda batch: batch[:16] + b"\x01" + batch[17:],
    lambda batch: batch[:8] + b"\x7f\xff\xff\xff" + batch[12:],
    lambda batch: batch[:8] + b"\xff\xff\xff\xff" + batch[12:],
], ids=["cut", "long", "empty", "header", "crc", "magic", "length", "negative"])
def test_a_broken_kafka_batch_is_refused_and_nothing_is_written(store, break_it):
    partition = open_partition(store)
    offset, ticket = produce(store, partition, break_it(kafka_batch(MESSAGES)))
    assert offset == -1 and not ticket.done
    store.kick()
    assert ticket.done and ticket.parts[0].refusal.reason is Reason.PAYLOAD_INVALID
    assert (partition.next_offset, partition.size_bytes) == (0, 0)


@pytest.mark.parametrize("call", ["pwrite", "datasync"])
def test_a_raw_batch_whose_commit_fails_later_is_not_acked(tmp_path, call):
    """The ticket knows no events of it: what became of the batch stands in its parts."""
    disk = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=disk)
    partition = open_partition(store)
    ticket = Ticket(())
    assert partition.append_raw(kafka_batch(MESSAGES), ticket).base_offset == 0
    ticket.part_done()
    disk.faults.fail(call)
    store.commit()
    part, = ticket.parts
    assert ticket.done and part.refusal.reason is Reason.STORAGE_FAILED and part.base_offset == -1
    store.close()


def test_a_raw_batch_that_is_refused_at_once_says_so_and_one_that_is_durable_has_its_offset(store):
    partition = open_partition(store)
    ticket = Ticket(())
    partition.append_raw(kafka_batch(MESSAGES), ticket)
    partition.append_raw(b"broken", ticket)
    ticket.part_done()
    store.commit()
    assert [(part.base_offset, part.refusal and part.refusal.reason) for part in ticket.parts] == [
        (0, None), (-1, Reason.PAYLOAD_INVALID)]


@pytest.mark.parametrize("name", ["meshgate-topic", "meshgate-publisher", "meshgate-anything"])
def test_a_producer_cannot_write_the_nodes_own_headers(store, name):
    partition = open_partition(store)
    assert produce(store, partition, kafka_batch([(b"k", b"v", [(name, b"secret/a")])]))[0] == -1
    assert produce(store, partition, kafka_batch([(b"k", b"a meshgate-topic in a payload", [])]))[0] == 0


@pytest.mark.parametrize("attributes", [0x20, 0x08])
def test_what_only_a_broker_may_write_is_refused(store, attributes):
    partition = open_partition(store)
    plain = kafka_batch(MESSAGES)
    header = check_batch(plain)
    forged = build_batch(0, 4, NOW, header.max_timestamp, 5, plain[HEADER_BYTES:], first_in_group=True,
                         attributes=attributes)
    assert produce(store, partition, forged)[0] == -1


def test_a_topic_template_escapes_what_would_be_a_separator_or_wildcard(store):
    partition = open_partition(store, topic="orders/{key}/new")
    keys = [b"a/b", b"+", b"#", b"\xff\x00", b"100%", "ä".encode(), None]
    produce(store, partition, kafka_batch([(key, b"", []) for key in keys]))
    store.commit()
    assert [event.topic for event in scan_all(partition)] == [
        f"orders/{level}/new" for level in ("a%2Fb", "%2B", "%23", "%FF%00", "100%25", "ä", "")]


def test_header_bytes_are_where_the_documentation_says():
    assert HEADER_BYTES == 61 and len(kafka_batch([(None, None, [])])) == 61 + 7
    assert gzip.decompress(kafka_batch(MESSAGES, codec=1)[61:]) == kafka_batch(MESSAGES)[61:]
