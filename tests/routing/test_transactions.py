"""Idempotent producers and transactions: what readers see, what is fenced, what outlives a restart and a crash."""
from __future__ import annotations

import shutil

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.errors import Fault, Reason
from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.log.producing.markers import ABORT, COMMIT
from routing.producers.transactions import State
from routing.settings import StreamSettings
from tests.routing.log.test_raw import kafka_batch
from tests.support.disk import FaultyFileSystem
from tests.support.log import scan_all
from tests.support.routing import ANA, Desk, Reader

ORDERS = StreamSettings("orders", ("orders",), partitions=2)
SETTINGS = [StreamSettings("events", ("#",)), ORDERS]


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, SETTINGS)
    yield desk
    desk.close()


def produce(desk, producer_id, epoch, sequence, *values, index=0, transactional=0):
    batch = kafka_batch([(b"k", value, []) for value in values], producer=(producer_id, epoch, sequence),
                        transactional=transactional)
    ticket = desk.router.publish_raw("orders", index, batch, desk.publisher)
    desk.run()
    assert ticket.done
    return ticket.parts[0]


def partition_of(desk, index=0):
    return desk.router.streams.by_name["orders"].partitions[index]


def begin(desk, name="t", timeout_ms=60_000, **have):
    made = desk.router.transactions.init(name, timeout_ms, **have)
    desk.run()
    assert made.ticket.done and not made.ticket.refusals, made.ticket.refusals
    return made.producer_id, made.epoch


def add(desk, producer, *places, name="t"):
    ticket = desk.router.transactions.add_partitions(name, *producer, places or [("orders", 0)])
    desk.run()
    assert ticket.done
    return ticket.refusals.get(0)


def end(desk, producer, *, commit=True, name="t"):
    ticket = desk.router.transactions.end(name, *producer, commit=commit)
    desk.run()
    assert ticket.done
    return ticket.refusals.get(0)


def payloads(partition):
    return [event.payload for event in scan_all(partition)]


# ------------------------------------------------------------------------------------------------------- idempotence

def test_a_repeat_is_answered_with_its_first_place_and_a_gap_is_refused(desk):
    assert produce(desk, 9, 0, 0, b"a", b"b").base_offset == 0
    repeat = produce(desk, 9, 0, 0, b"a", b"b")
    assert (repeat.base_offset, repeat.repeat, repeat.refusal) == (0, True, None)
    assert produce(desk, 9, 0, 5, b"x").refusal.fault is Fault.SEQUENCE
    assert produce(desk, 9, 0, 2, b"c").base_offset == 2
    assert produce(desk, 9, 1, 3, b"x").refusal.fault is Fault.SEQUENCE        # a new epoch begins at 0
    assert produce(desk, 9, 1, 0, b"d").base_offset == 3
    assert produce(desk, 9, 0, 3, b"x").refusal.fault is Fault.EPOCH
    assert produce(desk, 8, 0, 77, b"e").base_offset == 4                      # unknown: any sequence may be its first
    assert payloads(partition_of(desk)) == [b"a", b"b", b"c", b"d", b"e"]


def test_a_repeat_while_the_first_waits_is_done_when_that_is(desk):
    batch = kafka_batch([(None, b"a", [])], producer=(9, 0, 0))
    tickets = [desk.router.publish_raw("orders", 0, batch, desk.publisher) for _ in range(3)]
    assert not any(ticket.done for ticket in tickets)
    desk.run()
    assert [(ticket.done, ticket.parts[0].base_offset, ticket.parts[0].repeat) for ticket in tickets] == [
        (True, 0, False), (True, 0, True), (True, 0, True)]
    assert partition_of(desk).high_watermark == 1


def test_sequences_begin_again_behind_the_last_number(desk):
    top = (1 << 31) - 1
    assert produce(desk, 9, 0, top - 1, b"a", b"b", b"c").base_offset == 0      # top-1, top, 0
    assert produce(desk, 9, 0, 1, b"d").base_offset == 3


def test_what_a_refused_commit_took_is_not_remembered(tmp_path):
    disk = FaultyFileSystem(RealFileSystem())
    desk = Desk(tmp_path, SETTINGS, fs=disk)
    produce(desk, 9, 0, 0, b"a")
    disk.faults.fail("pwrite", code=28, suffix=".log")
    refused = produce(desk, 9, 0, 1, b"b")
    assert refused.refusal.reason is Reason.STORAGE_FULL and refused.base_offset == -1
    disk.faults.clear()
    partition_of(desk).shortage.full = None
    assert produce(desk, 9, 0, 1, b"b").base_offset == 1
    desk.close()


@pytest.mark.parametrize("how", ["stop", "kill", "no file", "old file"])
def test_producers_are_known_after_a_restart(tmp_path, how):
    settings = [SETTINGS[0], StreamSettings("orders", ("orders",), segment_bytes=64 * 1024)]
    desk = Desk(tmp_path / "a", settings)
    for number in range(30):
        produce(desk, 9, 0, number, b"x" * 5_000)
    path = tmp_path / "a"
    if how == "kill":
        path = tmp_path / "b"
        shutil.copytree(tmp_path / "a", path)
    desk.close()
    if how == "no file":
        (path / "streams/orders/0/producers").unlink()
    if how == "old file":
        (path / "streams/orders/0/producers").write_text("broken")
    again = Desk(path, settings)
    assert produce(again, 9, 0, 29, b"x" * 5_000).repeat
    assert produce(again, 9, 0, 31, b"x").refusal.fault is Fault.SEQUENCE
    assert produce(again, 9, 0, 30, b"x").refusal is None
    again.close()


def test_producer_ids_are_never_given_twice(tmp_path):
    seen = []
    for _ in range(3):
        desk = Desk(tmp_path, SETTINGS)
        seen += [begin(desk, None)[0] for _ in range(1_200)]
        shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy"), dirs_exist_ok=True)
        desk.close()
    assert len(set(seen)) == len(seen)


# ------------------------------------------------------------------------------------------------------ transactions

def test_readers_see_a_transaction_when_it_commits_and_nothing_of_one_that_aborts(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("orders",)), ANA)
    reader = Reader()
    consumer.attach(reader)
    producer = begin(desk)
    assert add(desk, producer) is None
    produce(desk, *producer, 0, b"1", b"2", transactional=1)
    partition = partition_of(desk)
    produce(desk, 77, 0, 0, b"3")                           # not of the transaction, but behind it
    assert (partition.end_offset, partition.high_watermark, payloads(partition)) == (0, 3, [])
    assert not reader.payloads and partition.fetch(0, 1 << 20, committed=True).data == b""
    assert len(partition.fetch(0, 1 << 20).data) > 100
    assert end(desk, producer) is None
    assert (partition.end_offset, payloads(partition), reader.payloads) == (4, [b"1", b"2", b"3"], [b"1", b"2", b"3"])
    add(desk, producer)
    produce(desk, *producer, 2, b"4", transactional=1)
    assert end(desk, producer, commit=False) is None
    produce(desk, 77, 0, 1, b"5")
    assert reader.payloads == payloads(partition) == [b"1", b"2", b"3", b"5"]
    aborted, = partition.producers.aborted_between(0, partition.high_watermark)
    assert (aborted.producer_id, aborted.first_offset, aborted.last_offset) == (producer[0], 4, 5)
    assert consumer.lag().events == 4 and partition.count(0, lambda topic: True) == 4
    reader.ack_all(consumer)
    assert consumer.lag().events == 0


def test_live_subscribers_and_late_readers_get_what_was_held_back(desk):
    from routing.direct.subscription import Subscription
    reader = Reader()
    desk.router.subscribe(Subscription("orders", reader))
    producer = begin(desk)
    add(desk, producer)
    produce(desk, *producer, 0, *(b"%d" % number for number in range(1_500)), transactional=1)
    assert not reader.direct
    end(desk, producer)
    assert len(reader.direct) == 1_500


def test_a_batch_outside_a_transaction_is_refused(desk):
    producer = begin(desk)
    assert produce(desk, *producer, 0, b"x", transactional=1).refusal.fault is Fault.TRANSACTION
    add(desk, producer)
    assert produce(desk, *producer, 0, b"x", index=1, transactional=1).refusal.fault is Fault.TRANSACTION
    assert produce(desk, *producer, 0, b"x", transactional=1).refusal is None
    end(desk, producer)
    assert produce(desk, *producer, 1, b"x", transactional=1).refusal.fault is Fault.TRANSACTION


def test_a_new_producer_fences_the_old_one_and_aborts_what_it_left_open(desk):
    old = begin(desk)
    add(desk, old)
    produce(desk, *old, 0, b"x", transactional=1)
    new = begin(desk)
    assert new[0] == old[0] and new[1] > old[1] and payloads(partition_of(desk)) == []
    assert produce(desk, *old, 1, b"x", transactional=1).refusal.fault is Fault.EPOCH
    assert add(desk, old).fault is Fault.EPOCH and end(desk, old).fault is Fault.EPOCH
    assert add(desk, (old[0] + 5, 0)).fault is Fault.UNKNOWN_PRODUCER
    add(desk, new)
    assert produce(desk, *new, 0, b"y", transactional=1).refusal is None
    end(desk, new)
    assert payloads(partition_of(desk)) == [b"y"]
    refused = desk.router.transactions.init("t", 10, producer_id=old[0], epoch=old[1])
    assert refused.ticket.refusals[0].fault is Fault.EPOCH


def test_ending_again_is_answered_the_same_and_the_other_way_refused(desk):
    producer = begin(desk)
    assert end(desk, producer).fault is Fault.TRANSACTION
    add(desk, producer)
    assert end(desk, producer) is None and end(desk, producer) is None
    assert end(desk, producer, commit=False).fault is Fault.TRANSACTION


def test_a_transaction_that_takes_too_long_is_aborted(desk):
    assert desk.router.transactions.init("t", 10**9).ticket.refusals[0].fault is Fault.TIMEOUT
    producer = begin(desk, timeout_ms=5_000)
    add(desk, producer)
    produce(desk, *producer, 0, b"x", transactional=1)
    desk.tick(4)
    assert partition_of(desk).end_offset == 0
    desk.tick(2)
    desk.tick(1)
    assert partition_of(desk).end_offset == 2 and payloads(partition_of(desk)) == []
    assert end(desk, producer).fault is Fault.EPOCH


@pytest.mark.parametrize("commit", [True, False])
def test_an_open_transaction_outlives_a_restart_and_is_ended_after_it(tmp_path, commit):
    desk = Desk(tmp_path / "a", SETTINGS)
    producer = begin(desk)
    add(desk, producer, ("orders", 0), ("orders", 1))
    produce(desk, *producer, 0, b"0", transactional=1)
    produce(desk, *producer, 0, b"1", index=1, transactional=1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")         # as kill -9 leaves it
    desk.close()
    for path in ("a", "b"):
        again = Desk(tmp_path / path, SETTINGS)
        consumer = again.router.open_consumer(ConsumerSpec("c", ("orders",), start="earliest"), ANA)
        reader = Reader()
        consumer.attach(reader)
        again.run()
        assert [partition_of(again, index).end_offset for index in (0, 1)] == [0, 0]
        assert end(again, producer, commit=commit) is None
        assert sorted(reader.payloads) == ([b"0", b"1"] if commit else [])
        again.close()
        once_more = Desk(tmp_path / path, SETTINGS)
        assert payloads(partition_of(once_more)) == ([b"0"] if commit else [])
        once_more.close()


@pytest.mark.parametrize("call, suffix", [("pwrite", ".log"), ("datasync", ".log")])
@pytest.mark.parametrize("at", range(1, 4))
def test_a_crash_anywhere_in_the_end_leaves_all_or_nothing(tmp_path, call, suffix, at):
    """The n-th write from the decision on fails for good, the node starts again: both partitions, and the offsets of
    the group that wait with them, agree."""
    disk = FaultyFileSystem(RealFileSystem())
    desk = Desk(tmp_path, SETTINGS, fs=disk)
    producer = begin(desk)
    add(desk, producer, ("orders", 0), ("orders", 1))
    produce(desk, *producer, 0, b"0", transactional=1)
    produce(desk, *producer, 0, b"1", index=1, transactional=1)
    desk.router.transactions.add_state("t", *producer, {"offset/g": b"7"})
    desk.run()
    assert desk.router.state.get("offset/g") is None
    disk.faults.fail(call, at=at, count=100, suffix=suffix)
    ticket = desk.router.transactions.end("t", *producer, commit=True)
    desk.run()
    disk.faults.clear()
    desk.router.close()
    again = Desk(tmp_path, SETTINGS)
    again.run()
    seen = [payloads(partition_of(again, index)) for index in (0, 1)]
    if at == 1 and again.router.transactions.by_id["t"].state is State.ONGOING:
        assert seen == [[], []] and again.router.state.get("offset/g") is None and not ticket.done
        assert end(again, producer) is None
        seen = [payloads(partition_of(again, index)) for index in (0, 1)]
    assert seen == [[b"0"], [b"1"]] and again.router.state.get("offset/g") == b"7"
    again.close()


def test_pending_records_are_told_and_stored_with_the_commit_only(desk):
    told = []
    desk.router.transactions.on_stored.append(told.append)
    producer = begin(desk)
    desk.router.transactions.add_state("t", *producer, {"offset/g": b"1"})
    assert end(desk, producer, commit=False) is None and desk.router.state.get("offset/g") is None
    desk.router.transactions.add_state("t", *producer, {"offset/g": b"2"})
    assert end(desk, producer) is None
    assert desk.router.state.get("offset/g") == b"2" and told == [{"offset/g": b"2"}]


def test_compaction_keeps_the_last_committed_value_and_drops_aborted_ones(tmp_path):
    settings = [SETTINGS[0], StreamSettings("orders", ("orders",), compact=True, segment_bytes=64 * 1024)]
    desk = Desk(tmp_path, settings)
    producer = begin(desk)
    for number, commit in enumerate([True, False] * 6):
        add(desk, producer)
        produce(desk, *producer, number, b"%d" % number + b"." * 20_000, transactional=1)
        end(desk, producer, commit=commit)
    partition = partition_of(desk)
    before = partition.size_bytes
    for _ in range(3):
        desk.store.maintain(desk.store.steady_ms())
        desk.run()
    assert partition.size_bytes < before / 2
    last = [payload.split(b".")[0] for payload in payloads(partition)]
    assert last[-1] == b"10" and not {int(value) % 2 for value in last} - {0}
    desk.close()
    again = Desk(tmp_path, settings)
    assert [payload.split(b".")[0] for payload in payloads(partition_of(again))] == last
    again.close()


def test_a_stream_that_was_made_again_gets_no_marker_of_the_old_one(desk):
    made = StreamSettings("made", ("made",))
    desk.router.lifecycle.create(made)
    desk.run()
    producer = begin(desk)
    add(desk, producer, ("made", 0))
    desk.router.lifecycle.delete("made")
    desk.run()
    desk.router.lifecycle.create(made)
    desk.run()
    assert end(desk, producer) is None
    assert desk.router.streams.by_name["made"].partitions[0].high_watermark == 0


def test_markers_are_what_kafka_writes():
    from aiokafka.record._crecords.default_records import DefaultRecordBatch
    from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER, ControlRecord

    from routing.log.producing.markers import build_marker
    for kind, marker in ((ABORT, ABORT_MARKER), (COMMIT, COMMIT_MARKER)):
        batch = DefaultRecordBatch(build_marker(7, 3, kind, 1))
        assert batch.is_control_batch and batch.is_transactional and batch.validate_crc()
        assert ControlRecord.parse(next(iter(batch)).key) == marker


# ------------------------------------------------------------------------------------------------------------- trim

def test_records_before_a_trim_are_gone_for_every_reader_and_stay_so(tmp_path):
    desk = Desk(tmp_path, SETTINGS)
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("orders",)), ANA)
    desk.publish(*[Event("orders", b"%d" % number, 1, key=b"k") for number in range(10)])
    partition = next(part for part in desk.router.streams.by_name["orders"].partitions if part.end_offset)
    ticket = partition.trim(6)
    desk.run()
    assert ticket.done and not ticket.refusals and partition.start_offset == 6
    assert payloads(partition) == [b"6", b"7", b"8", b"9"] and partition.event(5) is None
    assert partition.count(0, lambda topic: True) == 4 and partition.offset_for_time(0) == 6
    assert partition.trim(11).refusals[0].reason is Reason.PAYLOAD_INVALID
    reader = Reader()
    consumer.attach(reader)
    desk.run()
    assert reader.payloads[-4:] == [b"6", b"7", b"8", b"9"]
    index = partition.index
    desk.close()
    again = Desk(tmp_path, SETTINGS)
    assert partition_of(again, index).start_offset == 6 and len(payloads(partition_of(again, index))) == 4
    again.close()
