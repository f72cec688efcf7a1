"""Publish and settle in one step: together or not at all, whenever the power fails."""
import os
import random

import pytest

from routing.errors import Reason
from routing.event import Event, Properties
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.rights.policy import ALLOW_ALL, Action, Identity, Rule
from routing.settings import Limits, StreamSettings
from routing.together import step
from tests.support.disk import Faults, FaultyFileSystem, PowerLoss, SimulatedDisk
from tests.support.routing import ANA, Desk, Reader

SOAK = os.environ.get("MESHGATE_SOAK") == "1"
STREAMS = [StreamSettings("events", ("#",)), StreamSettings("left", ("left/#",)), StreamSettings("right", ("right/#",))]


def opened(tmp_path, **options):
    return Desk(tmp_path / "data", STREAMS, **options)


@pytest.fixture
def desk(tmp_path):
    desk = opened(tmp_path)
    yield desk
    desk.close()


def declared(desk, name, pattern, **options):
    queue = desk.router.queues.declare(name, QueueOptions(**options), ANA)
    queue.bind(Binding(pattern), ANA)
    desk.run()
    return queue


def taken(desk, queue):
    reader = Reader()
    queue.attach(reader)
    desk.run()
    return reader


def stored(desk, stream):
    partition = desk.router.streams.by_name[stream].partitions[0]
    found = partition.scan(0, lambda topic: True, max_events=10_000, max_scanned=10_000).events
    return [event.payload for event in found]


def results(number):
    return [Event("left/1", b"%d" % number, 1), Event("right/1", b"%d" % number, 1)]


def test_both_happen_and_nothing_is_left_of_it(desk):
    queue = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1))
    reader = taken(desk, queue)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(queue.consumer, reader.deliveries)])
    desk.run()
    assert ticket.done and not ticket.refusals
    assert stored(desk, "left") == stored(desk, "right") == [b"7"]
    assert (queue.depth().ready, queue.depth().unacked) == (0, 0)
    assert not list(desk.router.state.items("together/"))


def test_what_is_being_decided_goes_to_nobody_else_when_its_member_leaves(desk):
    """Its connection breaks behind the commit: another worker would have done the work a second time."""
    queue = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1), Event("work", b"8", 1))
    reader = taken(desk, queue)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(queue.consumer, reader.deliveries[:1])])
    queue.detach(reader)
    other = taken(desk, queue)
    assert ticket.done and not ticket.refusals
    assert [(delivery.event.payload, delivery.attempts) for delivery in other.deliveries] == [(b"8", 2)]


def test_what_may_not_be_published_settles_nothing(tmp_path):
    rules = (ALLOW_ALL, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("right/#",)))
    desk = Desk(tmp_path / "data", STREAMS, rules=rules)
    queue = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1))
    reader = taken(desk, queue)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(queue.consumer, reader.deliveries)])
    desk.run()
    assert ticket.done and ticket.refusals[1].reason is Reason.NOT_AUTHORIZED
    assert stored(desk, "left") == [] and queue.depth().unacked == 1
    desk.close()


def test_a_full_queue_refuses_all_of_it(desk):
    declared(desk, "full", "left/#", max_length=1, overflow="reject-publish")
    desk.publish(Event("left/0", b"0", 1))
    work = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1))
    reader = taken(desk, work)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(work.consumer, reader.deliveries)])
    desk.run()
    assert ticket.refusals and stored(desk, "right") == [] and work.depth().unacked == 1


def test_a_queue_that_has_room_for_just_so_many_takes_them_at_once(desk):
    """Each took room twice, when it was looked at and when it was published: such a commit waited for a second."""
    queue = declared(desk, "full", "left/#", max_length=2, overflow="reject-publish")
    three = [Event(f"left/{number}", b"x", 1) for number in range(3)]
    assert desk.router.together.commit(three, desk.publisher, []).refusals
    ticket = desk.router.together.commit(three[:2], desk.publisher, [])
    desk.run()
    assert ticket.done and not ticket.refusals and queue.depth().ready == 2


def test_what_is_under_way_has_a_bound_in_bytes_and_a_share_for_each_user(desk, monkeypatch):
    monkeypatch.setattr(step, "STEPS_BYTES_MAX", 4_000)
    bob = desk.router.publisher(Identity(user="bob", protocol="test"))
    first, second, other = [
        desk.router.together.commit([Event("left/x", bytes(1_000), 1)], publisher, [])
        for publisher in (desk.publisher, desk.publisher, bob)]
    assert second.refusals[0].reason is Reason.QUOTA_EXCEEDED and not first.refusals and not other.refusals
    desk.run()
    assert first.done and other.done and len(stored(desk, "left")) == 2
    assert not desk.router.together.commit([Event("left/x", bytes(1_000), 1)], desk.publisher, []).refusals
    desk.run()


def test_steps_that_wait_are_tried_some_at_a_time(desk):
    queue = declared(desk, "full", "left/#", max_length=200, overflow="reject-publish")
    tickets = [desk.router.together.commit([Event("left/x", b"x", 1)], desk.publisher, []) for _ in range(120)]
    desk.publish(*[Event("left/y", b"y", 1) for _ in range(200)])
    assert queue.depth().ready == 200 and not any(ticket.done for ticket in tickets)
    queue.purge()
    desk.run()
    done = []
    for seconds in (1.1, 0.05, 0.05):
        desk.tick(seconds)
        done.append(sum(ticket.done for ticket in tickets))
    assert done == [50, 100, 120] and not any(ticket.refusals for ticket in tickets)
    assert not list(desk.router.state.items("together/"))


def test_what_waits_for_hours_is_not_done_twice_by_a_restart(tmp_path):
    """One of its two queues is full; dedupe ids are remembered for so many others, and not for ever."""
    disk = SimulatedDisk()
    desk = opened(tmp_path, fs=disk, limits=Limits(dedupe_window=20))
    declared(desk, "full", "right/#", max_length=1, overflow="reject-publish")
    work = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1))
    reader = taken(desk, work)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(work.consumer, reader.deliveries)])
    desk.publish(Event("right/first", b"first", 1))             # between the decision and what it decides
    for _ in range(12):
        desk.tick(1.0)
    assert not ticket.done and stored(desk, "left") == [b"7"] and stored(desk, "right") == [b"first"]
    for number in range(100):                                   # the hours
        desk.router.together.commit([Event("left/x", b"hour %d" % number, 1)], desk.publisher, [])
        desk.run()
    assert len(list(desk.router.state.items("together/"))) == 1
    desk.close()
    again = opened(tmp_path, fs=disk, limits=Limits(dedupe_window=20))
    again.run()
    assert stored(again, "left").count(b"7") == 1
    again.router.queues.get("full").purge()
    for _ in range(3):
        again.tick(1.0)
    assert stored(again, "right") == [b"first", b"7"] and stored(again, "left").count(b"7") == 1
    assert not list(again.router.state.items("together/"))
    assert again.router.queues.get("work").depth().ready == 0
    again.close()


class Ticking:
    """Each look at the clock takes 0.1 ms."""

    def __init__(self, desk):
        self.now_s = 0.0
        turns = desk.router.turns
        turns.clock_s = turns.cpu_s = self

    def __call__(self):
        self.now_s += 0.0001
        return self.now_s


def test_a_large_one_takes_many_turns_and_comes_before_what_its_publisher_commits_behind_it(desk):
    """All of it was one turn. Somebody else's goes before it."""
    bob = desk.router.publisher(Identity(user="bob", protocol="test"))
    clock, turns = Ticking(desk), 0
    large = desk.router.together.commit([Event("left/x", b"large", 1) for _ in range(5_000)], desk.publisher, [])
    small = desk.router.together.commit([Event("left/x", b"small", 1)], desk.publisher, [])
    other = desk.router.together.commit([Event("left/x", b"bob", 1)], bob, [])
    while desk.queue:
        began_s = clock.now_s
        desk.queue.popleft()()
        turns += 1
        assert clock.now_s - began_s < 0.02
        assert other.done or not large.done
    assert turns > 20 and large.done and small.done and other.done
    found = stored(desk, "left")
    assert found.index(b"small") == 5_001 and found.index(b"bob") < 5_000 and found.count(b"large") == 5_000
    assert not list(desk.router.state.items("together/")) and not desk.router.together._publishing


def test_the_power_fails_while_a_large_one_is_stored_and_nothing_of_it_is_there_or_all(tmp_path):
    parts = set()
    for loss_at in range(1, 40, 2):
        disk = SimulatedDisk()
        desk = opened(tmp_path, fs=disk)
        Ticking(desk)
        disk.loss_at = loss_at
        tickets = []
        try:
            tickets.append(desk.router.together.commit(
                [Event(f"{'left' if number % 2 else 'right'}/x", b"%d" % number, 1) for number in range(2_000)],
                desk.publisher, []))
            desk.run()
        except PowerLoss:
            pass
        disk.power_loss(random.Random(loss_at))
        again = opened(tmp_path, fs=disk)
        again.run()
        found = len(stored(again, "left")), len(stored(again, "right"))
        assert found in ((0, 0), (1_000, 1_000)) and not list(again.router.state.items("together/")), loss_at
        assert found[0] or not any(ticket.done for ticket in tickets)
        parts.add(found)
        again.close()
    assert parts == {(0, 0), (1_000, 1_000)}


@pytest.mark.parametrize("stays", [True, False])
def test_a_disk_that_takes_no_decision_settles_nothing(tmp_path, stays):
    """stays: the member does; else it has gone before that is known, and the event goes out again."""
    fs = FaultyFileSystem(SimulatedDisk())
    desk = opened(tmp_path, fs=fs)
    queue = declared(desk, "work", "work")
    desk.publish(Event("work", b"7", 1))
    reader = taken(desk, queue)
    faults: Faults = fs.faults
    faults.fail("pwrite", count=-1, code=28)
    ticket = desk.router.together.commit(results(7), desk.publisher, [(queue.consumer, reader.deliveries)])
    if not stays:
        queue.detach(reader)
    desk.run()
    assert ticket.done and ticket.refusals and (queue.depth().unacked, queue.depth().ready) == (stays, not stays)
    faults.clear()
    for _ in range(4):
        desk.tick(1.0)
    assert stored(desk, "left") == stored(desk, "right") == [] and queue.depth().unacked == stays
    desk.close()


def test_everything_of_an_event_comes_through(desk):
    event = Event("left/x", b"\0\1", 2, "me", b"key", (("a", 1), ("b", b"\xff"), ("a", None)),
                  Properties(content_type="t", reply_to="r", correlation=b"c", message_id=5, priority=3))
    desk.router.together.commit([event], desk.publisher, [])
    desk.run()
    partition = desk.router.streams.by_name["left"].partitions[0]
    found = partition.event(0)
    assert (found.topic, found.payload, found.qos, found.publisher, found.key, found.headers) == (
        event.topic, event.payload, event.qos, event.publisher, event.key, event.headers)
    for name in ("content_type", "reply_to", "correlation", "message_id", "priority"):
        assert getattr(found.properties, name) == getattr(event.properties, name)


def test_the_power_fails_at_any_operation_and_each_step_is_whole_or_not_there(tmp_path):
    """Acked and published, once in both streams; or neither, and the event comes again. Answered ones are there."""
    for seed in range(600 if SOAK else 20):
        rng = random.Random(seed)
        disk = SimulatedDisk()
        desk = opened(tmp_path, fs=disk)
        queue = declared(desk, "work", "work")
        desk.publish(*[Event("work", b"%d" % number, 1) for number in range(8)])
        reader = taken(desk, queue)
        disk.loss_at = rng.randrange(1, 60)
        answered = []
        try:
            for delivery in reader.deliveries:
                number = int(delivery.event.payload)
                ticket = desk.router.together.commit(
                    results(number), desk.publisher, [(queue.consumer, [delivery])])
                desk.run()
                if ticket.done and not ticket.refusals:
                    answered.append(delivery.event.payload)
                if rng.random() < 0.3:
                    desk.tick(0.3)
        except PowerLoss:
            pass
        disk.power_loss(rng)
        again = opened(tmp_path, fs=disk)
        again.run()
        left, right = stored(again, "left"), stored(again, "right")
        work = again.router.queues.get("work")
        open_ones = [delivery.event.payload for delivery in taken(again, work).deliveries]
        assert sorted(left) == sorted(right) and len(set(left)) == len(left), seed
        assert not set(left) & set(open_ones) and len(left) + len(open_ones) == 8, (seed, left, open_ones)
        assert set(answered) <= set(left), seed
        again.close()
