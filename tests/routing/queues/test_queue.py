"""Queues: what is routed, delivered, given back, let go, and what survives."""
import pytest

from routing.consumers.leases import Answer, redeliver
from routing.errors import Reason, Refusal
from routing.event import Event, Properties
from routing.queues.bindings import Binding
from routing.queues.depth import Depth
from routing.queues.options import Cause, QueueOptions
from routing.queues.predicates import HeadersMatch
from routing.queues.queue import Queue
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def declared(desk, name="q", *filters, durable=True, max_deliveries=None, expires_s=None, **options):
    queue = desk.router.queues.declare(name, QueueOptions(**options), ANA, durable=durable,
                                       max_deliveries=max_deliveries, expires_s=expires_s)
    assert isinstance(queue, Queue), queue
    for pattern in filters:
        assert queue.bind(Binding(pattern), ANA) is None
    desk.run()
    return queue


def attached(desk, queue, credit=1_000, **options):
    reader = Reader(credit)
    assert queue.attach(reader, **options) is None
    desk.run()
    return reader


def got(desk, queue, member=None):
    """The answer to get()."""
    answers = []
    queue.get(member or Reader(), answers.append)
    desk.run()
    (answer,) = answers
    return answer


def drained(desk, queue):
    """The payloads of everything that is ready, taken and acked."""
    payloads = []
    while (delivery := got(desk, queue)) is not None:
        payloads.append(delivery.event.payload)
        queue.ack([delivery])
    return payloads


def killed(desk):
    """What a kill leaves: everything committed, nothing else."""
    desk.store.close()
    return Desk(desk.path)


def test_a_queue_has_what_its_bindings_match_and_what_goes_straight_to_it(desk):
    queue = declared(desk, "q", "a/#", "b/+")
    declared(desk, "other", "c")
    desk.publish("a/1", "b/1", "b/1/2", "c", Event(queue.topic, b"straight", 1), "a/b")
    assert queue.depth() == Depth(4, 0)
    assert sorted(drained(desk, queue)) == [b"a/1", b"a/b", b"b/1", b"straight"]


def test_one_event_comes_once_however_many_bindings_match(desk):
    queue = declared(desk, "q", "a/#", "a/+", "a/1")
    desk.publish("a/1")
    assert drained(desk, queue) == [b"a/1"]


def test_unbinding_takes_nothing_away_and_binding_again_starts_anew(desk):
    queue = declared(desk, "q", "a/#")
    desk.publish("a/1")
    desk.router.publish([Event("a/2", b"a/2", 1)], desk.publisher)      # not committed yet
    assert queue.unbind(Binding("a/#"))
    desk.publish("a/3")
    assert queue.bind(Binding("a/#"), ANA) is None
    desk.publish("a/4")
    assert queue.depth().ready == 3
    assert drained(desk, queue) == [b"a/1", b"a/2", b"a/4"]
    desk.tick(1.0)
    assert list(queue.consumer.filters) == [queue.topic, "a/#"]
    assert not queue.unbind(Binding("b/#"))


def test_bindings_of_one_filter_that_end_together_are_forgotten_together(desk):
    queue = declared(desk, "q", "a/#")
    assert queue.bind(Binding("a/#", HeadersMatch("all", (("kind", 1),))), ANA) is None
    desk.router.publish([Event("a/1", b"a/1", 1)], desk.publisher)      # not committed yet, so both ends are to come
    assert queue.unbind(Binding("a/#")) and queue.unbind(Binding("a/#", HeadersMatch("all", (("kind", 1),))))
    desk.run()
    assert drained(desk, queue) == [b"a/1"]
    desk.tick(1.0)
    assert list(queue.consumer.filters) == [queue.topic]


def test_unbinding_survives_a_kill_with_what_was_routed(desk):
    queue = declared(desk, "q", "a/#", "b")
    desk.publish("a/1", "b")
    queue.unbind(Binding("a/#"))
    desk.publish("a/2", "b")
    again = killed(desk)
    queue = again.router.queues.get("q")
    again.publish("a/3", "b")
    assert queue.depth().ready == 4
    assert drained(again, queue) == [b"a/1", b"b", b"b", b"b"]
    again.close()


@pytest.mark.parametrize("limit", [{"max_length": 2}, {"max_length_bytes": 6}])
@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_a_limit_counts_what_waits_and_not_what_members_take_of_a_burst(desk, limit, overflow):
    queue = declared(desk, "q", "a/+", overflow=overflow, **limit)
    reader = Reader(5)
    queue.attach(reader)                                    # it counts at once, though that is not stored yet
    ticket = desk.publish(*[f"a/{number}" for number in range(10)])
    assert reader.payloads == [b"a/0", b"a/1", b"a/2", b"a/3", b"a/4"] and queue.depth() == Depth(2, 5)
    assert list(ticket.refusals) == ([7, 8, 9] if overflow == "reject-publish" else [])
    left = [b"a/5", b"a/6"] if overflow == "reject-publish" else [b"a/8", b"a/9"]
    assert [event.payload for event in queue.browse(10).events] == left


def test_what_was_let_in_and_refused_by_another_queue_takes_no_room_for_ever(desk):
    """Others publish all the time, so there is never a moment in which nothing waits for the disk."""
    queue = declared(desk, "q", "both", "one", max_length=3, overflow="reject-publish")
    declared(desk, "full", "both", max_length=1, overflow="reject-publish")
    desk.publish("both")
    refused = []
    for topic in ["both"] * 5 + ["one"] * 4:
        tickets = [desk.router.publish([Event(name, b"x", 1)], desk.publisher) for name in (topic, "other")]
        desk.run()
        refused.append(bool(tickets[0].refusals))
    assert refused[:5] == [True] * 5 and not all(refused[5:]) and queue.depth().ready > 1


def test_who_asks_right_after_a_start_waits_for_the_count(desk):
    """AMQP's declare said 0 of a long queue, and deleted it where it was to be empty."""
    queue = declared(desk)
    queue.bind(Binding("h/#", HeadersMatch("all", (("kind", "x"),))), ANA)
    for _ in range(12):
        desk.publish(*[Event("h/1", b"x", 1, headers=(("kind", "x"),)) for _ in range(1_000)])
    again = killed(desk)
    queue, told = again.router.queues.get("q"), []
    queue.when_counted(lambda: told.append(queue.depth()))
    again.run()
    assert not told and not queue.depth().exact
    assert again.router.queues.delete("q", if_empty=True).reason is Reason.CONFLICT
    for _ in range(10):
        again.tick(0.05)
    assert told == [Depth(12_000, 0)]
    queue.when_counted(lambda: told.append(queue.depth()))
    assert len(told) == 2
    again.close()


def test_what_get_has_taken_is_marked_after_a_kill_at_once(desk):
    """Nobody is a member, and no checkpoint has come yet; what nobody has got is not marked."""
    queue = declared(desk, "q", "a")
    desk.publish("a", "a")
    desk.tick(0.3)
    reader, taken = Reader(0), []
    queue.get(reader, taken.append)
    desk.run()
    assert [delivery.attempts for delivery in taken] == [1]
    again = killed(desk)
    queue = again.router.queues.get("q")
    queue.get(reader, taken.append)
    again.run()
    assert taken[1].event.offset == taken[0].event.offset and taken[1].attempts == 2
    again.tick(0.3)                                         # now it is known what is out
    last = killed(again)
    queue, reader = last.router.queues.get("q"), Reader()
    queue.attach(reader)
    last.run()
    assert reader.deliveries[0].attempts == 3
    last.close()


def test_a_predicate_decides_on_headers(desk):
    queue = declared(desk)
    queue.bind(Binding("h/#", HeadersMatch("all", (("kind", "x"), ("n", 1)))), ANA)
    queue.bind(Binding("h/#", HeadersMatch("any", (("urgent", None),))), ANA)
    made = [(("kind", "x"), ("n", 1.0)), (("kind", "x"), ("n", True)), (("urgent", ""),), ()]
    for number, headers in enumerate(made):
        desk.publish(Event("h/1", b"%d" % number, 1, headers=headers))
    assert queue.depth().ready == 2
    assert drained(desk, queue) == [b"0", b"2"]


def test_get_waits_for_what_was_published_before_it(desk):
    queue = declared(desk, "q", "a")
    desk.router.publish([Event("a", b"1", 1)], desk.publisher)
    delivery = got(desk, queue)
    assert delivery.event.payload == b"1" and queue.depth() == Depth(0, 1)
    assert got(desk, queue) is None


def test_nack_puts_it_in_front_marked_and_counted(desk):
    queue = declared(desk, "q", "a")
    reader = Reader()
    desk.publish(*[Event("a", b"%d" % number, 1) for number in range(3)])
    first, second = got(desk, queue, reader), got(desk, queue, reader)
    queue.nack([second, first])
    assert queue.depth() == Depth(3, 0)
    assert [(d.event.payload, d.attempts) for d in (got(desk, queue), got(desk, queue), got(desk, queue))] == [
        (b"0", 2), (b"1", 2), (b"2", 1)]


def test_counts_survive_a_kill(desk):
    queue = declared(desk, "q", "a")
    desk.publish("a")
    for _ in range(3):
        queue.nack([got(desk, queue)])
    desk.tick(1.0)
    again = killed(desk)
    queue = again.router.queues.get("q")
    assert queue.depth() == Depth(1, 0)
    assert got(again, queue).attempts == 4
    again.close()


def test_what_a_member_held_by_get_comes_again_when_it_is_released(desk):
    queue, reader = declared(desk, "q", "a"), Reader()
    desk.publish("a")
    got(desk, queue, reader)
    assert queue.depth() == Depth(0, 1)
    queue.release(reader)
    assert queue.depth() == Depth(1, 0)


def test_a_cancelled_member_may_still_answer(desk):
    queue = declared(desk, "q", "a")
    reader = attached(desk, queue)
    desk.publish("a", "a")
    queue.detach(reader, keep=True)
    desk.publish("a")
    assert queue.depth() == Depth(1, 2)
    queue.ack(reader.deliveries[:1])
    queue.release(reader)
    assert queue.depth() == Depth(2, 0)


def test_purge_takes_what_is_ready_only(desk):
    queue = declared(desk, "q", "a")
    desk.publish(*["a"] * 500)
    held = got(desk, queue)
    assert queue.purge() == 499 and queue.depth() == Depth(0, 1)
    queue.nack([held])
    desk.publish("a")
    assert queue.depth() == Depth(2, 0)


def test_browse_takes_nothing(desk):
    queue = declared(desk, "q", "a")
    desk.publish(*[Event("a", b"%d" % number, 1) for number in range(300)])
    queue.nack([got(desk, queue)])
    seen, place = [], ""
    while place is not None:
        page = queue.browse(70, place)
        seen += [int(event.payload) for event in page.events]
        place = page.next
    assert seen == list(range(300)) and queue.depth().ready == 300
    with pytest.raises(ValueError):
        queue.browse(1, "x:1")


def test_higher_priority_first_then_the_others(desk):
    queue = declared(desk, "q", "a")
    low, high, other = attached(desk, queue), attached(desk, queue, 2, priority=5), attached(desk, queue, 2, priority=5)
    desk.publish(*["a"] * 7)
    assert [len(reader.deliveries) for reader in (low, high, other)] == [3, 2, 2]


def test_an_exclusive_member_is_alone(desk):
    queue = declared(desk)
    reader = attached(desk, queue, exclusive=True)
    assert queue.attach(Reader()).reason is Reason.CONFLICT
    queue.detach(reader)
    attached(desk, queue)
    assert queue.attach(Reader(), exclusive=True).reason is Reason.CONFLICT


def test_single_active_hands_over(desk):
    queue = declared(desk, "q", "a", single_active=True)
    first, second = attached(desk, queue), attached(desk, queue, priority=9)
    desk.publish("a", "a")
    assert (len(first.deliveries), len(second.deliveries)) == (2, 0)
    queue.detach(first)
    desk.run()
    assert [delivery.attempts for delivery in second.deliveries] == [2, 2]


def test_delete_with_conditions(desk):
    queue = declared(desk, "q", "a")
    desk.publish("a")
    reader = attached(desk, queue, 0)
    queues = desk.router.queues
    assert queues.delete("q", if_unused=True).reason is Reason.CONFLICT
    assert queues.delete("q", if_empty=True).reason is Reason.CONFLICT
    assert queues.delete("q") == 1 and reader.closed == "the queue was deleted"
    assert queues.delete("q").reason is Reason.NOT_FOUND
    desk.run()
    again = killed(desk)
    assert not again.router.queues.by_name
    again.close()


def test_auto_delete_and_expiry(desk):
    gone = []
    desk.router.queues.on_deleted.append(lambda queue: gone.append(queue.name))
    queue = declared(desk, "auto", auto_delete=True)
    declared(desk, "idle", expires_s=10.0)
    reader = attached(desk, queue)
    queue.detach(reader)
    desk.run()
    assert gone == ["auto"]
    desk.tick(6.0)
    declared(desk, "idle")
    desk.tick(6.0)
    assert gone == ["auto"]
    desk.tick(6.0)
    assert gone == ["auto", "idle"]


def test_max_length_drops_the_oldest(desk):
    dead = declared(desk, "dead", "dead/#")
    queue = declared(desk, "q", "a", max_length=3, dead_letter="dead/{topic}")
    desk.publish(*[Event("a", b"%d" % number, 1) for number in range(500)])
    desk.run()
    assert queue.depth() == Depth(3, 0) and dead.depth().ready == 497
    assert drained(desk, queue) == [b"497", b"498", b"499"]
    first = got(desk, dead).event
    (death,) = first.properties.dead_letter.history
    assert (first.topic, death.consumer, death.reason, death.topic, death.rounds) == ("dead/a", "q", "maxlen", "a", 1)


def test_a_queue_without_members_lets_go_what_is_too_old(desk):
    dead = declared(desk, "dead", "dead")
    queue = declared(desk, "q", "a", message_ttl_ms=5_000, dead_letter="dead")
    desk.publish(*[Event("a", b"%d" % number, 1) for number in range(300)])
    desk.tick(4.9)
    assert queue.depth().ready == 300
    for _ in range(4):
        desk.tick(0.2)
    assert queue.depth() == Depth(0, 0) and dead.depth().ready == 300
    assert drained(desk, dead) == [b"%d" % number for number in range(300)]


def test_the_shorter_time_to_live_counts_and_the_copy_has_none(desk):
    dead = declared(desk, "dead", "dead")
    queue = declared(desk, "q", "a", message_ttl_ms=5_000, dead_letter="dead")
    desk.publish(Event("a", b"x", 1, properties=Properties(expires_at_ms=desk.now_ms + 1_000)))
    desk.tick(1.1)
    desk.tick(0.1)
    assert queue.depth().ready == 0
    event = got(desk, dead).event
    assert event.properties.expires_at_ms is None and event.properties.dead_letter.history[0].ttl_ms == 1_000


def test_ttl_zero_is_for_who_takes_it_at_once(desk):
    queue = declared(desk, "q", "a", message_ttl_ms=0)
    desk.publish("a")
    assert queue.depth() == Depth(0, 0)
    reader = attached(desk, queue, 1)
    desk.publish("a", "a")
    assert len(reader.deliveries) == 1 and queue.depth() == Depth(0, 1)


def test_a_rejected_event_ends_where_there_are_no_dead_letters(desk):
    queue = declared(desk, "q", "a")
    desk.publish("a")
    queue.reject([got(desk, queue)])
    assert queue.depth() == Depth(0, 0)


def test_the_delivery_limit(desk):
    dead = declared(desk, "dead", "dead")
    queue = declared(desk, "q", "a", max_deliveries=3, dead_letter="dead")
    desk.publish("a")
    for _ in range(3):
        queue.nack([got(desk, queue)])
    desk.run()
    (death,) = got(desk, dead).event.properties.dead_letter.history
    assert queue.depth() == Depth(0, 0) and (death.reason, death.count) == ("delivery_limit", 3)


def test_work_retry_work_three_rounds_then_parked(desk):
    """Issue 12: nothing lost, the history complete."""
    work = declared(desk, "work", "work", dead_letter="retry")
    declared(desk, "retry", "retry", message_ttl_ms=1_000, dead_letter="work")
    for number in range(100):
        desk.publish(Event("work", b"%d" % number, 1, key=b"k"))
    for _ in range(3):
        taken = [got(desk, work) for _ in range(100)]
        work.reject(taken)
        desk.run()
        desk.tick(1.0)
        desk.tick(0.1)
    assert work.depth().ready == 100
    events = [got(desk, work).event for _ in range(100)]
    assert [event.payload for event in events] == [b"%d" % number for number in range(100)]
    for event in events:
        assert [(one.consumer, one.reason, one.topic, one.rounds, one.count)
                for one in event.properties.dead_letter.history] == [
            ("work", "rejected", "work", 3, 3), ("retry", "expired", "retry", 3, 0)]


def test_a_circle_in_which_nobody_rejects_ends(desk):
    one = declared(desk, "one", "one", message_ttl_ms=1_000, dead_letter="two")
    two = declared(desk, "two", "two", message_ttl_ms=1_000, dead_letter="one")
    desk.publish("one")
    for _ in range(10):
        desk.tick(1.1)
    assert one.depth() == two.depth() == Depth(0, 0)
    assert desk.router.own_partitions()[0].end_offset == 3, "one, two, and one more that no queue takes"


def test_reject_is_one_of_four_causes(desk):
    queue = declared(desk, "q", "a", dead_letter="dead/{queue}/{topic}")
    dead = declared(desk, "dead", "dead/#")
    desk.publish("a")
    queue.reject([got(desk, queue)], Cause.EXPIRED)
    desk.run()
    event = got(desk, dead).event
    assert event.topic == "dead/q/a" and event.properties.dead_letter.history[0].reason == "expired"


def test_a_consumer_is_no_queue_and_a_queue_no_consumer(desk):
    from routing.consumers.consumer import ConsumerSpec
    from routing.consumers.definition.members import Mode

    declared(desk, "q")
    refusal = desk.router.open_consumer(ConsumerSpec("q", mode=Mode.SHARED), ANA)
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.CONFLICT
    desk.router.open_consumer(ConsumerSpec("c", ("a",)), ANA)
    refusal = desk.router.queues.declare("c", QueueOptions(), ANA)
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.CONFLICT
    assert desk.router.queues.declare("x" * 256, QueueOptions(), ANA).reason is Reason.CONFLICT


def test_a_full_queue_that_refuses_tells_the_publisher_at_the_door(desk):
    queue = declared(desk, "q", "a", max_length=3, overflow="reject-publish")
    other = declared(desk, "other", "a")
    ticket = desk.publish(*["a"] * 5)
    assert {index: refusal.reason for index, refusal in ticket.refusals.items()} == {
        3: Reason.QUOTA_EXCEEDED, 4: Reason.QUOTA_EXCEEDED}
    assert queue.depth().ready == other.depth().ready == 3
    queue.ack([got(desk, queue)])
    assert not desk.publish("a", "b").refusals and desk.publish("a").refusals


def test_a_limit_of_bytes(desk):
    queue = declared(desk, "q", "a", max_length_bytes=10)
    full = declared(desk, "full", "b", max_length_bytes=10, overflow="reject-publish")
    desk.publish(*[Event("a", bytes((number,)) * 4, 1) for number in range(5)])
    assert queue.depth() == Depth(2, 0)
    held = got(desk, queue)
    desk.publish(Event("a", b"x" * 4, 1))
    assert queue.depth() == Depth(2, 1)
    queue.ack([held])
    assert list(desk.publish(Event("b", b"x" * 9, 1), Event("b", b"xx", 1), Event("b", b"x", 1)).refusals) == [1]
    again = killed(desk)
    queue = again.router.queues.get("q")
    again.publish(Event("a", b"y" * 4, 1))
    again.tick(0.1)
    assert queue.depth() == Depth(2, 0)
    assert again.publish(Event("b", b"x", 1)).refusals
    assert full.depth().ready == 2
    again.close()


def test_a_temporary_queue_lives_in_memory(desk):
    queue = declared(desk, "t", temporary=True, durable=False)
    before = [partition.end_offset for partition in desk.store.partitions]
    desk.publish(*[Event(queue.topic, b"%d" % number, 1) for number in range(1_000)])
    assert queue.depth() == Depth(1_000, 0)
    held = got(desk, queue)
    queue.nack([held])
    assert drained(desk, queue) == [b"%d" % number for number in range(1_000)]
    assert [partition.end_offset for partition in desk.store.partitions] == before
    reader = attached(desk, queue, 10)
    desk.publish(*[Event(queue.topic, b"x" * 100_000, 1)] * 100)
    assert len(reader.deliveries) == 10 and queue.depth().ready < 45 and queue.consumer.dropped > 50
    for _ in range(100):
        reader.credit = 10
        reader.ack_all(queue.consumer)
        desk.run()
    assert queue.depth() == Depth(0, 0) and queue.purge() == 0


def test_a_temporary_queue_may_be_bound_and_lets_go_as_others_do(desk):
    dead = declared(desk, "dead", "dead")
    queue = declared(desk, "t", "a", temporary=True, durable=False, message_ttl_ms=1_000, dead_letter="dead")
    desk.publish("a", Event(queue.topic, b"straight", 1))
    assert queue.depth().ready == 2
    desk.tick(1.1)
    desk.tick(0.1)
    assert queue.depth().ready == 0 and sorted(drained(desk, dead)) == [b"a", b"straight"]



def test_retention_leaves_what_a_durable_queue_is_owed(tmp_path):
    desk = Desk(tmp_path / "data", [StreamSettings("events", ("#",), retention_bytes=1, segment_bytes=4_096)])
    queue = declared(desk, "q", "a")
    (partition,) = desk.router.streams.by_name["events"].partitions
    for number in range(50):
        desk.publish(Event("a" if number < 30 else "b", b"%d" % number + b"." * 1_000, 1))
    for _ in range(3):
        desk.tick(1.0)
        desk.store.maintain(desk.now_ms)
        desk.run()
    assert partition.start_offset == 0 and queue.depth().ready == 30
    assert [payload.rstrip(b".") for payload in drained(desk, queue)] == [b"%d" % number for number in range(30)]
    for _ in range(3):
        desk.tick(1.1)
        desk.store.maintain(desk.now_ms)
        desk.run()
    assert partition.start_offset > 30
    desk.close()


def test_the_disk_comes_back_when_what_went_straight_to_a_queue_is_acked(desk, monkeypatch):
    monkeypatch.setattr("routing.queues.queues.STRAIGHT_SEGMENT_BYTES", 4_096)
    queue = declared(desk, "q")
    (partition,) = desk.router.streams.by_name["$queues"].partitions
    for _ in range(50):
        desk.publish(Event(queue.topic, b"." * 1_000, 1))
    held = got(desk, queue)
    drained(desk, queue)
    for _ in range(3):
        desk.tick(1.1)
        desk.store.maintain(desk.now_ms)
        desk.run()
    assert partition.start_offset > 0 and partition.kept.events == 1, "one is still out"
    queue.ack([held])
    for _ in range(3):
        desk.tick(1.1)
        desk.store.maintain(desk.now_ms)
        desk.run()
    assert partition.segment_count == 1 and not partition.kept.segments


def ranked(number, priority):
    return Event("a", b"%d" % number, 1, properties=Properties(priority=priority))


def test_higher_priorities_go_first_however_long_the_queue_is(desk):
    queue = declared(desk, "q", "a", max_priority=5)
    desk.publish(*[ranked(number, 0) for number in range(3_000)])
    desk.publish(ranked(3_000, 2), ranked(3_001, None), ranked(3_002, 9), ranked(3_003, 5), ranked(3_004, 2))
    assert queue.depth() == Depth(3_005, 0)
    assert [int(event.payload) for event in queue.browse(6).events][:5] == [3_002, 3_003, 3_000, 3_004, 0]
    reader = attached(desk, queue, 3)
    assert reader.payloads == [b"3002", b"3003", b"3000"]
    queue.nack(reader.deliveries[1:2])
    rest = [int(payload) for payload in drained(desk, queue)]
    assert rest[0] in (3_003, 3_004) and sorted(rest[:2]) == [3_003, 3_004]
    assert rest[2:] == [*range(3_000), 3_001]
    queue.ack(reader.deliveries)
    assert queue.depth() == Depth(0, 0)


def test_what_comes_back_of_two_partitions_at_the_same_offset(desk):
    """Both are of one priority and one number: what was compared then were cursors, and the queue stood still."""
    queue = declared(desk, "q", "a", max_priority=5)
    for number in range(3):
        desk.publish(ranked(number, 3), Event("$queue/q", b"%d" % (number + 10), 1, properties=Properties(priority=3)))
    first = attached(desk, queue, 10)
    assert len({delivery.event.offset for delivery in first.deliveries}) == 3 and len(first.deliveries) == 6
    queue.detach(first)
    desk.run()
    second = attached(desk, queue, 10)
    assert sorted(map(int, second.payloads)) == [0, 1, 2, 10, 11, 12]
    assert {delivery.attempts for delivery in second.deliveries} == {2}
    queue.nack(second.deliveries)
    desk.run()
    queue.ack(second.deliveries)
    assert queue.depth() == Depth(0, 0)


def test_what_comes_back_of_a_stream_that_took_the_place_of_a_deleted_one_has_its_priority(desk):
    queue = declared(desk, "q", "made/#", max_priority=5)

    def ranked_in(stream, number, priority):
        return Event(f"made/{stream}", b"%d" % number, 1, properties=Properties(priority=priority))

    desk.router.lifecycle.create(StreamSettings("old", ("made/old",)))
    desk.run()
    desk.publish(ranked_in("old", 0, 1))
    assert drained(desk, queue) == [b"0"]
    desk.router.lifecycle.delete("old")
    desk.router.lifecycle.create(StreamSettings("new", ("made/new",)))
    desk.run()
    desk.publish(ranked_in("new", 1, 1), ranked_in("new", 2, 4))
    reader = attached(desk, queue, 2)
    queue.nack(reader.deliveries)
    queue.detach(reader)
    desk.publish(ranked_in("new", 3, 2))
    assert drained(desk, queue) == [b"2", b"3", b"1"]


def test_priorities_and_answers_survive_a_kill(desk):
    queue = declared(desk, "q", "a", max_priority=9)
    for number in range(600):
        desk.publish(ranked(number, number % 3))
    taken = [got(desk, queue) for _ in range(50)]
    assert [int(delivery.event.payload) for delivery in taken] == list(range(2, 150, 3))
    queue.ack(taken[:25])
    desk.tick(1.0)
    again = killed(desk)
    queue = again.router.queues.get("q")
    again.tick(0.1)
    assert queue.depth().ready == 575
    rest = [int(payload) for payload in drained(again, queue)]
    assert sorted(rest) == sorted(set(range(600)) - set(range(2, 75, 3)))
    late = [number for number in rest if number not in range(77, 150, 3)]
    assert late == sorted(late, key=lambda number: (-(number % 3), number))
    again.close()


def test_more_than_may_wait_early(desk, monkeypatch):
    monkeypatch.setattr("routing.queues.priorities.EARLY_MAX", 10)
    queue = declared(desk, "q", "a", max_priority=9, max_length=90)
    desk.publish(*[ranked(number, 1 + number % 2) for number in range(100)])
    assert queue.depth() == Depth(90, 0)
    assert sorted(int(payload) for payload in drained(desk, queue)) == sorted(
        set(range(100)) - set(range(10, 20))) and queue.depth() == Depth(0, 0)
    desk.publish(*[ranked(number, 1) for number in range(5)])
    assert queue.purge() == 5 and queue.depth() == Depth(0, 0)


def test_a_kill_between_a_dead_letter_and_its_ack_makes_no_second_one(desk):
    """The copy was durable, the ack not stored: expired, rejected, and to two queues."""
    dead = declared(desk, "dead", "dead/#")
    work = declared(desk, "work", "a", message_ttl_ms=100, dead_letter="dead/{topic}")
    desk.publish(*[Event("a", b"%d" % number, 1) for number in range(5)])
    desk.now_s, desk.now_ms = desk.now_s + 1, desk.now_ms + 1_000
    work.consumer.ready()
    desk.run()                                          # no tick: nothing is checkpointed
    assert dead.depth().ready == 5 and work.depth() == Depth(0, 0)
    again = killed(desk)
    again.now_s, again.now_ms = desk.now_s, desk.now_ms + 1
    for _ in range(4):
        again.tick(0.3)
    assert again.router.queues.get("work").depth() == Depth(0, 0)
    assert drained(again, again.router.queues.get("dead")) == [b"%d" % number for number in range(5)]
    again.close()


def test_what_is_redriven_after_a_start_and_fails_again_is_a_new_dead_letter(desk):
    declared(desk, "dead", "dead/#")
    work = declared(desk, "work", "a", dead_letter="dead/{topic}")
    desk.publish("a")
    work.reject([got(desk, work)])
    for _ in range(3):
        desk.tick(0.5)
    again = killed(desk)
    work, dead = again.router.queues.get("work"), again.router.queues.get("dead")
    (partition,) = again.router.streams.by_name["events"].partitions
    assert redeliver(work.consumer, partition.event(0)) is Answer.DONE
    work.reject([got(again, work)])
    again.run()
    assert dead.depth().ready == 2
    again.close()


@pytest.mark.parametrize("name", ["mqtt/victim", "mqtt-share/g/a/#"])
def test_a_queue_cannot_take_the_name_of_an_mqtt_session(desk, name):
    """The client of that name could not have its session then."""
    refusal = desk.router.queues.declare(name, QueueOptions(), ANA)
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.CONFLICT
    assert isinstance(desk.router.queues.declare("a/b", QueueOptions(), ANA), Queue)


@pytest.mark.parametrize("kill", [False, True])
def test_what_comes_back_has_its_priority_and_its_old_place_in_it(desk, kill):
    queue = declared(desk, "q", "a", max_priority=9)
    desk.publish(ranked(1, 3), ranked(2, 3), ranked(3, 0))
    reader = attached(desk, queue, 3)
    first, second, third = reader.deliveries
    desk.publish(ranked(4, 5), ranked(5, 3), ranked(6, 1), ranked(7, 0))
    queue.nack([third, second, first])
    queue.detach(reader)
    desk.run()
    if kill:
        desk.tick(1.0)
        desk = killed(desk)
        queue = desk.router.queues.get("q")
        desk.tick(0.1)
    deliveries = attached(desk, queue, 10).deliveries
    desk.run()
    if kill:
        desk.close()
    assert [(delivery.event.payload, delivery.attempts > 1) for delivery in deliveries] == [
        (b"4", False), (b"1", True), (b"2", True), (b"5", False), (b"6", False), (b"3", True), (b"7", False)]
