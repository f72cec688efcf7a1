"""Answers by place: what a client may say about a delivery that it got before it, or the node, went away."""
from __future__ import annotations

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.leases import Answer, ack_place, extend_place, give_back, held_by, nack_place, redeliver
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def killed(desk, path):
    """What a kill leaves: everything committed, nothing else."""
    desk.store.close()
    return Desk(path)


def opened(desk, *, mode=Mode.SHARED, credit=1_000, **options):
    consumer = desk.router.open_consumer(
        ConsumerSpec("billing", ("a/#",), mode, "earliest", ack_timeout_s=30.0, **options), ANA)
    reader = Reader(credit)
    assert consumer.attach(reader) is None
    desk.run()
    return consumer, reader


def offsets(reader):
    return [(delivery.event.offset, delivery.attempts) for delivery in reader.deliveries]


def test_an_ack_by_place_is_an_ack(desk):
    consumer, reader = opened(desk)
    desk.publish("a/1", "a/2")
    partition = reader.deliveries[0].event.partition
    assert held_by(consumer, reader) == 2
    assert ack_place(consumer, partition, 0) is Answer.DONE
    assert (consumer.in_flight, consumer.lag().events, held_by(consumer, reader)) == (1, 1, 1)
    assert ack_place(consumer, partition, 0) is Answer.DONE         # said twice
    assert consumer.acked == 1


def test_what_was_never_handed_out_cannot_be_acked(desk):
    consumer, reader = opened(desk, credit=1)
    desk.publish("a/1", "a/2", "a/3")
    partition = reader.deliveries[0].event.partition
    assert ack_place(consumer, partition, 2) is Answer.STALE
    assert ack_place(consumer, partition, 99) is Answer.STALE
    assert consumer.lag().events == 3


def test_a_late_ack_of_a_timed_out_attempt_counts_and_a_late_nack_does_not(desk):
    consumer, reader = opened(desk)
    desk.publish("a/1")
    desk.tick(31.0)
    assert offsets(reader) == [(0, 1), (0, 2)]
    partition = reader.deliveries[0].event.partition
    assert nack_place(consumer, partition, 0, 1, 0.0) is Answer.STALE
    assert extend_place(consumer, partition, 0, 1, 60.0) is Answer.STALE
    assert extend_place(consumer, partition, 0, 2, 60.0) is Answer.DONE
    desk.tick(40.0)
    assert len(reader.deliveries) == 2
    assert ack_place(consumer, partition, 0) is Answer.DONE
    assert consumer.lag().events == 0


def test_a_nack_with_a_delay_comes_back_after_it(desk):
    consumer, reader = opened(desk)
    desk.publish("a/1")
    partition = reader.deliveries[0].event.partition
    assert nack_place(consumer, partition, 0, 1, 5.0) is Answer.DONE
    desk.tick(4.0)
    assert len(reader.deliveries) == 1
    desk.tick(1.5)
    assert offsets(reader) == [(0, 1), (0, 2)]


def test_what_never_left_the_node_goes_out_again_unmarked_and_in_order(desk):
    consumer, reader = opened(desk, credit=3)
    desk.publish(*(f"a/{number}" for number in range(5)))
    taken, reader.deliveries = reader.deliveries, []
    give_back(consumer, taken[1:])
    reader.credit = 10
    consumer.ready(reader)
    desk.run()
    assert offsets(reader) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert consumer.in_flight == 5


def test_acks_of_deliveries_from_before_a_kill_count(desk, tmp_path):
    """The killed node had stored neither the deliveries nor their acks; each ack comes to its successor."""
    opened(desk)
    desk.publish(*(f"a/{number}" for number in range(6)))
    after = killed(desk, tmp_path)
    consumer = after.router.consumers["billing"]
    partition = next(iter(consumer.cursors))
    assert ack_place(consumer, partition, 1) is Answer.DONE
    assert ack_place(consumer, partition, 4) is Answer.DONE
    assert ack_place(consumer, partition, 4) is Answer.DONE
    assert consumer.lag().events == 4
    consumer.checkpoint()
    after.run()
    third = killed(after, tmp_path)                              # and they survive the next kill
    consumer = third.router.consumers["billing"]
    assert consumer.lag().events == 4
    reader = Reader()
    consumer.attach(reader)
    third.run()
    assert offsets(reader) == [(0, 2), (2, 2), (3, 2), (5, 2)]
    reader.ack_all(consumer)
    third.run()
    assert consumer.lag().events == 0
    third.publish("a/new")
    assert offsets(reader) == [(6, 1)]


def test_an_early_ack_holds_also_when_what_was_read_is_parked(desk, tmp_path):
    opened(desk)
    desk.publish(*(f"a/{number}" for number in range(200)))
    after = killed(desk, tmp_path)
    consumer = after.router.consumers["billing"]
    partition = next(iter(consumer.cursors))
    assert ack_place(consumer, partition, 150) is Answer.DONE
    reader = Reader(credit=1)
    consumer.attach(reader)
    after.run()
    consumer.checkpoint()
    after.run()
    reader.credit = 1_000
    consumer.ready(reader)
    after.run()
    assert [offset for offset, _ in offsets(reader)] == [number for number in range(200) if number != 150]


def test_a_seek_moves_the_generation_and_the_generation_is_stored(desk, tmp_path):
    consumer, reader = opened(desk)
    desk.publish("a/1")
    before = consumer.generation
    consumer.seek({reader.deliveries[0].event.partition: 0})
    consumer.checkpoint()
    desk.run()
    assert consumer.generation == before + 1
    assert killed(desk, tmp_path).router.consumers["billing"].generation == before + 1


def test_an_acked_event_can_be_handed_out_once_more(desk):
    consumer, reader = opened(desk)
    desk.publish("a/1", "b/1")
    event = reader.ack_all(consumer)[0].event
    assert redeliver(consumer, event) is Answer.DONE
    assert redeliver(consumer, event) is Answer.STALE
    assert consumer.lag().events == 1
    desk.run()
    assert offsets(reader) == [(0, 1)]
    reader.ack_all(consumer)
    assert consumer.lag().events == 0


def test_a_restart_is_no_attempt(desk, tmp_path):
    """What waits for its second delivery when the node is killed gets its second, not its third."""
    consumer, reader = opened(desk)
    desk.publish("a/1", "a/2")
    consumer.nack(reader.deliveries[0], 60.0)
    consumer.checkpoint()
    desk.run()
    after = killed(desk, tmp_path)
    consumer = after.router.consumers["billing"]
    reader = Reader()
    consumer.attach(reader)
    after.run()
    assert offsets(reader) == [(0, 2), (1, 2)]
