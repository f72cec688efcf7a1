"""Members of a queue that select, and events that are to be delivered later."""
import pytest

from routing.event import Event, Properties
from routing.queues.depth import Depth
from routing.queues.options import QueueOptions
from routing.queues.predicates import SelectorMatch
from routing.queues.selecting.arrivals import STALE_MAX
from routing.queues.selecting.members import STEP_LOOKED
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


class Chooser(Reader):
    """A member with a demand in place of credit."""

    def __init__(self, demand=1_000):
        super().__init__(0)
        self.demand = demand

    def deliver(self, consumer, deliveries):
        super().deliver(consumer, deliveries)
        self.demand -= len(deliveries)


def declared(desk, name="q", **options):
    return desk.router.queues.declare(name, QueueOptions(**options), ANA)


def colored(queue, count, start=0, **properties):
    return [Event(queue.topic, b"%d" % number, 1, headers=(("even", number % 2 == 0),),
                  properties=Properties(**properties) if properties else None)
            for number in range(start, start + count)]


def choosing(desk, queue, text="even", demand=1_000):
    chooser = Chooser(demand)
    assert queue.attach_selecting(chooser, SelectorMatch(text)) is None
    desk.run()
    return chooser


def payloads(reader):
    return [int(delivery.event.payload) for delivery in reader.deliveries]


def test_it_gets_what_it_wants_and_the_others_the_rest_in_order(desk):
    queue = declared(desk)
    desk.publish(*colored(queue, 1_500))
    chooser = choosing(desk, queue, demand=10)
    assert payloads(chooser) == list(range(0, 20, 2))
    chooser.demand = 1_000
    queue.consumer.ready()
    desk.run()
    assert payloads(chooser) == list(range(0, 1_500, 2))
    assert queue.depth() == Depth(750, 750)
    rest = Reader(5_000)
    queue.attach(rest)
    desk.publish(*colored(queue, 4, 1_500))
    desk.run()
    assert payloads(rest) == list(range(1, 1_504, 2))
    assert payloads(chooser)[-2:] == [1_500, 1_502]


def test_what_it_gives_back_comes_to_who_wants_it_and_its_leaving_gives_back_all(desk):
    queue = declared(desk)
    desk.publish(*colored(queue, 10))
    chooser = choosing(desk, queue)
    first = chooser.deliveries[0]
    queue.nack([first])
    desk.run()
    assert payloads(chooser) == [0, 2, 4, 6, 8, 0]
    assert chooser.deliveries[-1].attempts == 2
    queue.ack(chooser.deliveries[1:3])
    queue.detach(chooser)
    rest = Reader(100)
    queue.attach(rest)
    desk.run()
    assert sorted(payloads(rest)) == [0, 1, 3, 5, 6, 7, 8, 9]


def test_what_it_has_acked_stays_acked_over_a_kill(desk):
    queue = declared(desk)
    desk.publish(*colored(queue, 300))
    chooser = choosing(desk, queue)
    queue.ack(chooser.deliveries[:100])
    desk.tick(1.0)
    desk.store.close()
    again = Desk(desk.path)
    found = again.router.queues.get("q")
    rest = Reader(1_000)
    found.attach(rest)
    again.run()
    assert sorted(payloads(rest)) == [number for number in range(300) if number % 2 or number >= 200]
    again.close()


def test_it_hears_when_nothing_is_left_for_it(desk):
    queue = declared(desk)
    desk.publish(*colored(queue, 1_500, 0))
    chooser = choosing(desk, queue, "even AND JMSPriority > 8")
    called = []
    queue.when_looked_through(chooser, lambda: called.append(len(chooser.deliveries)))
    desk.run()
    assert called == [0]
    desk.publish(*colored(queue, 2, 1_500, priority=9))
    assert payloads(chooser) == [1_500]


class Counting(SelectorMatch, frozen=True):
    """Counts how often it is asked, and lets the time pass that it takes."""

    seen: object = None
    takes_s: float = 0.0
    desk: object = None

    def matches(self, event):
        self.seen.append(event.offset)
        if self.desk is not None:
            self.desk.now_s += self.takes_s
        return super().matches(event)


def busiest(desk, seen):
    """Do all turns; the most that was looked at in one of them."""
    most = 0
    while desk.queue:
        before = len(seen)
        desk.queue.popleft()()
        most = max(most, len(seen) - before)
    return most


def test_all_that_select_share_the_looks_of_a_turn(desk):
    """60 receivers that wait for what is not there look at 600 events each, a bounded number of them in one turn."""
    queue, seen = declared(desk), []
    desk.publish(*colored(queue, 600))
    choosers = [Chooser() for _ in range(60)]
    for number, chooser in enumerate(choosers):
        assert queue.attach_selecting(chooser, Counting(f"even AND JMSPriority = {number + 5}", seen)) is None
    assert busiest(desk, seen) <= STEP_LOOKED
    assert len(seen) == 600 * 60
    desk.publish(*colored(queue, 600, 600, priority=7))
    assert [len(chooser.deliveries) for chooser in choosers] == [0, 0, 300] + [0] * 57


def test_a_selector_that_takes_long_ends_the_turn(desk):
    queue, seen = declared(desk), []
    desk.publish(*colored(queue, 50))
    slow = Chooser()
    assert queue.attach_selecting(slow, Counting("even", seen, 0.002, desk)) is None
    assert busiest(desk, seen) <= 3
    assert payloads(slow) == list(range(0, 50, 2)) and len(seen) < 2 * 50


def test_what_came_back_is_looked_at_once_however_often_the_queue_hands_out(desk):
    queue, seen = declared(desk), []
    desk.publish(*colored(queue, 3_000))
    reader = Reader(3_000)
    queue.attach(reader)
    desk.run()
    reader.credit = 0
    chooser = Chooser(demand=2_000)
    queue.attach_selecting(chooser, Counting("even AND JMSPriority = 9", seen))
    queue.nack(reader.deliveries)
    assert busiest(desk, seen) <= STEP_LOOKED
    assert len(seen) == 3_000
    for _ in range(5):
        desk.publish(Event("elsewhere", b"", 1))
        queue.consumer.ready()
        desk.run()
    assert len(seen) == 3_000
    reader.credit = 1                                   # the first goes out and comes back: it is looked at again
    queue.consumer.ready()
    desk.run()
    queue.nack(reader.deliveries[-1:])
    desk.run()
    assert seen[3_000:] == [seen[0]]


def test_what_others_give_back_while_it_takes_nothing_costs_no_memory_and_comes_when_it_does(desk):
    queue = declared(desk)
    desk.publish(*colored(queue, 20))
    chooser = choosing(desk, queue, demand=1)
    assert payloads(chooser) == [0]
    reader = Reader(0)
    queue.attach(reader)
    for _ in range(600):
        reader.credit = 19
        queue.consumer.ready()
        desk.run()
        given, reader.deliveries, reader.credit = reader.deliveries, [], 0
        queue.put_back(given)
        desk.run()
    arrivals, = (one for cursor in queue.consumer.cursors.values() for one in cursor.again.listeners)
    assert len(arrivals._heap) <= STALE_MAX + 20
    chooser.demand = 100
    queue.consumer.ready()
    desk.run()
    assert payloads(chooser) == list(range(0, 20, 2))
    queue.detach(chooser)
    assert not [one for cursor in queue.consumer.cursors.values() for one in cursor.again.listeners]


def test_priorities_and_selectors_go_together(desk):
    queue = declared(desk, max_priority=9)
    desk.publish(*colored(queue, 4), *colored(queue, 4, 4, priority=5))
    chooser = choosing(desk, queue)
    assert sorted(payloads(chooser)) == [0, 2, 4, 6]
    rest = Reader(100)
    queue.attach(rest)
    desk.run()
    assert payloads(rest) == [5, 7, 1, 3]


def test_an_event_comes_when_its_time_has_come_and_others_go_before(desk):
    queue = declared(desk)
    reader = Reader(100)
    queue.attach(reader)
    desk.publish(Event(queue.topic, b"1", 1, properties=Properties(deliver_at_ms=desk.router.clock_ms() + 5_000)),
                 Event(queue.topic, b"2", 1))
    assert payloads(reader) == [2]
    desk.tick(4.0)
    assert payloads(reader) == [2]
    desk.tick(6.0)
    desk.run()
    assert payloads(reader) == [2, 1]
    assert reader.deliveries[-1].attempts == 1


def test_the_time_of_delivery_survives_a_kill(desk):
    queue = declared(desk)
    at_ms = desk.router.clock_ms() + 50_000
    desk.publish(Event(queue.topic, b"1", 1, properties=Properties(deliver_at_ms=at_ms)))
    desk.tick(1.0)
    desk.store.close()
    again = Desk(desk.path)
    found = again.router.queues.get("q")
    reader = Reader(100)
    found.attach(reader)
    again.run()
    assert payloads(reader) == []
    assert found.depth().ready == 1
    again.close()
