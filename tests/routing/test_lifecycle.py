"""Streams at run time: made, changed, grown, deleted; what outlives a restart and a crash."""
from __future__ import annotations

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.errors import Reason, StorageError
from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.settings import StreamSettings
from routing.streams.streams import OPENED_PER_STEP
from tests.support.disk import FaultyFileSystem
from tests.support.routing import ANA, Desk, Reader

CLICKS = StreamSettings("clicks", ("clicks",), partitions=2)


def done(desk, ticket):
    desk.run()
    assert ticket.done
    return ticket.refusals.get(0)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_a_stream_is_made_captures_and_is_there_after_a_restart(desk, tmp_path):
    assert done(desk, desk.router.lifecycle.create(CLICKS, owner="ana")) is None
    assert desk.publish("clicks").events[0].partition.stream == "clicks"
    made = desk.router.streams.by_name["clicks"]
    assert len(made.incarnation) == 16 and made.origin_name.startswith("clicks@")
    desk.close()
    again = Desk(tmp_path)
    stream = again.router.streams.by_name["clicks"]
    assert (stream.settings, stream.incarnation, stream.origin_name, again.router.lifecycle.owner("clicks")) == (
        CLICKS, made.incarnation, made.origin_name, "ana")
    assert sum(partition.end_offset for partition in stream.partitions) == 1
    assert again.router.streams.by_name["events"].incarnation == desk.router.streams.by_name["events"].incarnation
    again.close()


@pytest.mark.parametrize("settings, reason", [
    (StreamSettings("events"), Reason.CONFLICT), (StreamSettings("../x"), Reason.TOPIC_INVALID),
    (StreamSettings("."), Reason.TOPIC_INVALID), (StreamSettings("x" * 250), Reason.TOPIC_INVALID),
    (StreamSettings(""), Reason.TOPIC_INVALID), (StreamSettings("a\0"), Reason.TOPIC_INVALID),
    (StreamSettings("x", ("a/#/b",)), Reason.FILTER_INVALID), (StreamSettings("x", ("$SYS/#",)), Reason.FILTER_INVALID),
    (StreamSettings("x", partitions=0), Reason.PAYLOAD_INVALID),
    (StreamSettings("x", partitions=5_000), Reason.QUOTA_EXCEEDED),
], ids=str)
def test_what_cannot_be_a_stream_is_refused_with_its_reason(desk, settings, reason):
    refusal = done(desk, desk.router.lifecycle.create(settings))
    assert refusal.reason is reason and "x" not in desk.router.streams.by_name


def test_a_consumer_that_wants_its_topics_reads_a_stream_that_is_made_later(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("clicks", "events/x")), ANA)
    other = desk.router.open_consumer(ConsumerSpec("o", ("other",)), ANA)
    reader = Reader()
    consumer.attach(reader)
    done(desk, desk.router.lifecycle.create(CLICKS))
    desk.publish("clicks")
    assert reader.topics == ["clicks"]
    assert {partition.stream for partition in other.cursors} == {"events"}


def test_a_deleted_stream_is_gone_for_everybody_and_its_name_is_free(desk, tmp_path):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("clicks",)), ANA)
    reader = Reader()
    consumer.attach(reader)
    done(desk, desk.router.lifecycle.create(CLICKS))
    first = desk.router.streams.by_name["clicks"]
    desk.publish("clicks", "clicks")
    ticket = desk.router.lifecycle.delete("clicks")
    assert done(desk, ticket) is None
    assert not (tmp_path / "streams" / "clicks").exists()
    assert {partition.stream for partition in consumer.cursors} == {"events"} and consumer.in_flight == 0
    reader.ack_all(consumer)                                # answers that come late are ignored
    assert desk.publish("clicks").events[0].partition.stream == "events"
    assert done(desk, desk.router.lifecycle.create(CLICKS)) is None
    second = desk.router.streams.by_name["clicks"]
    assert second.incarnation != first.incarnation and second.origin_name != first.origin_name
    assert [partition.end_offset for partition in second.partitions] == [0, 0]
    desk.publish("clicks")
    assert reader.topics == ["clicks", "clicks"]            # of the default stream, and of the new one


def test_what_waits_for_the_disk_is_refused_when_its_stream_is_deleted(tmp_path):
    desk = Desk(tmp_path)
    done(desk, desk.router.lifecycle.create(CLICKS))
    desk.router.lifecycle.delete("clicks")
    ticket = desk.router.publish([Event("clicks", b"", 1)], desk.publisher)
    desk.run()
    assert ticket.done and (ticket.refusals or ticket.events[0].partition.stream == "clicks")
    assert desk.store.pending_bytes == 0
    desk.close()


def test_a_stream_of_the_configuration_is_not_deleted_and_its_file_wins(desk, tmp_path):
    refusal = done(desk, desk.router.lifecycle.delete("events"))
    assert refusal.reason is Reason.CONFLICT
    done(desk, desk.router.lifecycle.create(CLICKS))
    desk.close()
    mine = StreamSettings("clicks", ("clicks/#",), partitions=2, retention_ms=5)
    again = Desk(tmp_path, [StreamSettings("events", ("#",)), mine])
    assert again.router.streams.by_name["clicks"].settings == mine and again.router.lifecycle.is_configured("clicks")
    again.close()


def test_settings_change_and_partitions_grow_durably(desk, tmp_path):
    done(desk, desk.router.lifecycle.create(CLICKS))
    changed = StreamSettings("clicks", ("clicks", "taps"), partitions=2, retention_ms=1_000)
    assert done(desk, desk.router.lifecycle.change(changed)) is None
    assert desk.publish("taps").events[0].partition.stream == "clicks"
    assert done(desk, desk.router.lifecycle.grow("clicks", 2)).reason is Reason.PAYLOAD_INVALID
    assert done(desk, desk.router.lifecycle.grow("clicks", 5)) is None
    stream = desk.router.streams.by_name["clicks"]
    assert len(stream.partitions) == 5 and {partition.origin_name for partition in stream.partitions} == {
        stream.origin_name}
    for number in range(50):
        desk.publish(Event("clicks", b"", 1, key=b"%d" % number))
    assert all(partition.end_offset for partition in stream.partitions)
    desk.close()
    again = Desk(tmp_path)
    assert len(again.router.streams.by_name["clicks"].partitions) == 5
    assert again.router.streams.by_name["clicks"].settings.retention_ms == 1_000
    again.close()


@pytest.mark.parametrize("after", range(4))
def test_a_deletion_that_a_crash_interrupts_is_ended_by_the_next_start(tmp_path, after):
    """The record says so before the first file goes; a file that cannot be removed stands for the crash."""
    disk = FaultyFileSystem(RealFileSystem())
    desk = Desk(tmp_path, fs=disk)
    done(desk, desk.router.lifecycle.create(CLICKS))
    desk.publish("clicks")
    disk.faults.fail("remove", at=after + 1)
    refusal = done(desk, desk.router.lifecycle.delete("clicks"))
    assert refusal.reason is Reason.STORAGE_FAILED
    assert done(desk, desk.router.lifecycle.create(CLICKS)).reason is Reason.CONFLICT
    desk.close()
    again = Desk(tmp_path)
    assert "clicks" not in again.router.streams.by_name and not (tmp_path / "streams" / "clicks").exists()
    assert done(again, again.router.lifecycle.create(CLICKS)) is None
    assert [partition.end_offset for partition in again.router.streams.by_name["clicks"].partitions] == [0, 0]
    again.close()


def test_a_stream_of_many_partitions_is_opened_some_at_a_time(desk, monkeypatch):
    """A thousand at once held the loop for 300 ms."""
    steps = []
    open_more = desk.store.open_more

    def counted(*arguments):
        opened = open_more(*arguments)
        steps.append(len(opened))
        return opened

    monkeypatch.setattr(desk.store, "open_more", counted)
    assert done(desk, desk.router.lifecycle.create(StreamSettings("many", ("many",), partitions=50))) is None
    assert steps == [OPENED_PER_STEP] * (50 // OPENED_PER_STEP)
    assert [part.index for part in desk.router.streams.by_name["many"].partitions] == list(range(50))
    assert done(desk, desk.router.lifecycle.grow("many", 62)) is None
    assert [part.index for part in desk.router.streams.by_name["many"].partitions] == list(range(62))
    assert max(steps) == OPENED_PER_STEP and sum(steps) == 62


def test_a_stream_that_cannot_be_opened_leaves_nothing_behind(desk, monkeypatch):
    open_more = desk.store.open_more

    def failing(settings, first, until):
        if first:
            raise StorageError("the disk is broken")
        return open_more(settings, first, until)

    before = len(desk.store.partitions)
    monkeypatch.setattr(desk.store, "open_more", failing)
    refusal = done(desk, desk.router.lifecycle.create(StreamSettings("many", ("many",), partitions=20)))
    assert refusal.reason is Reason.STORAGE_FAILED and len(desk.store.partitions) == before
    monkeypatch.undo()
    assert done(desk, desk.router.lifecycle.create(StreamSettings("many", ("many",), partitions=20))) is None
