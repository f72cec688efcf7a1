"""Pacing: who publishes to a queue that falls behind goes in step with its consumers, and with nothing else."""
import pytest

from routing.event import Event
from routing.queues.options import QueueOptions
from routing.rights.policy import Identity
from routing.settings import Limits
from tests.support.routing import ANA, Desk, Reader

BACKLOG, PIECE = 6_000, 500
WAIT_S = 0.1                # Limits.pace_wait_ms


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, limits=Limits(tail_cache_bytes=1_000_000, pace_events=1_000))    # some 900 events of one
    yield desk
    desk.close()


def queue_with_backlog(desk):
    queue = desk.router.queues.declare("q", QueueOptions(), ANA)
    for _ in range(BACKLOG // PIECE):
        desk.publish(*(Event(queue.topic, b"x" * 64, 1) for _ in range(PIECE)))
    return queue


def turn(desk):
    """One, in which a member gets a part of what it would take."""
    desk.router.registry.pump()


def send(desk, queue, publisher, count=1_000):
    """A publish of so many. Returns a list that is filled when the publisher may go on; None: it may at once."""
    desk.router.publish([Event(queue.topic, b"y", 1) for _ in range(count)], publisher)
    went_on = []
    return went_on if desk.router.when_free(publisher, lambda: went_on.append(True)) else None


def hungry(desk, queue):
    """A reader that wants more than it gets, after its first turn."""
    return attached(desk, queue, 100_000)


def attached(desk, queue, credit):
    reader = Reader(0)
    queue.attach(reader)
    desk.run()                                  # that it is there is stored before it is given anything
    reader.credit = credit
    queue.consumer.ready()
    turn(desk)
    return reader


def publisher_of(desk, name):
    return desk.router.publisher(Identity(user=name, protocol="test", client_id=name))


def test_who_publishes_to_a_queue_that_is_behind_goes_on_as_its_consumers_take(desk):
    queue = queue_with_backlog(desk)
    reader = hungry(desk, queue)
    waits = send(desk, queue, desk.publisher)
    assert waits == []
    taken = len(reader.ack_all(queue.consumer))
    assert taken > 500, "a turn gives some hundreds"
    turn(desk)
    while not waits:
        assert reader.deliveries, "there is more than that"
        reader.ack_all(queue.consumer)
        turn(desk)
        taken += PIECE
    assert taken > 1_000, "what is published is less than what is taken"


def test_a_queue_without_consumers_takes_all_at_once(desk):
    queue = queue_with_backlog(desk)
    assert all(send(desk, queue, desk.publisher) is None for _ in range(10))


def test_a_queue_whose_consumers_have_all_they_want_takes_all_at_once(desk):
    queue = queue_with_backlog(desk)
    attached(desk, queue, 100)
    assert all(send(desk, queue, desk.publisher) is None for _ in range(10))


def test_a_queue_that_is_near_its_end_takes_all_at_once(desk):
    queue = desk.router.queues.declare("q", QueueOptions(), ANA)
    hungry(desk, queue)
    assert all(send(desk, queue, desk.publisher) is None for _ in range(10))


def test_nobody_waits_longer_than_the_limit_nor_for_consumers_that_are_stuck(desk):
    queue = queue_with_backlog(desk)
    hungry(desk, queue)
    others = [publisher_of(desk, f"p{number}") for number in range(3)]
    waits = [send(desk, queue, publisher) for publisher in others]
    assert waits == [[], [], []]
    desk.now_s += WAIT_S + 0.01
    desk.router.tick(desk.now_s)
    assert waits == [[True]] * 3
    assert send(desk, queue, others[0]) is None, "they have taken nothing for so long"


def test_each_publisher_has_its_turn(desk):
    queue = queue_with_backlog(desk)
    reader = hungry(desk, queue)
    first, second = publisher_of(desk, "first"), publisher_of(desk, "second")
    waits = {one: send(desk, queue, one, 300) for one in (first, second)}
    turns = []
    while queue.depth().ready > 2_000:
        reader.ack_all(queue.consumer)
        turn(desk)
        for publisher, went_on in waits.items():
            if went_on:
                turns.append(publisher)
                while (went_on := send(desk, queue, publisher, 300)) is None:
                    pass
                waits[publisher] = went_on
    assert len(turns) >= 4
    assert abs(turns.count(first) - turns.count(second)) <= 1


def test_other_queues_are_not_paced(desk):
    queue = queue_with_backlog(desk)
    hungry(desk, queue)
    assert send(desk, queue, desk.publisher) == []
    other = desk.router.queues.declare("other", QueueOptions(), ANA)
    assert send(desk, other, publisher_of(desk, "p")) is None


def test_there_is_no_pacing_where_it_is_set_so(tmp_path):
    desk = Desk(tmp_path, limits=Limits(tail_cache_bytes=1_000_000, pace_wait_ms=0))
    queue = queue_with_backlog(desk)
    hungry(desk, queue)
    assert all(send(desk, queue, desk.publisher) is None for _ in range(10))
    desk.close()
