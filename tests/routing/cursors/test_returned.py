"""What came back and waits to be delivered again: in order, at a price that does not grow, within a bound of memory."""
import random

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.cursors.cursor import Delivery
from routing.cursors.returned import Returned
from routing.event import Event
from routing.settings import Limits
from tests.support.routing import ANA, Desk, Reader


def returned(offset, attempts=2, topic="t"):
    return Delivery(Event(topic, b"x", offset=offset), attempts)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_dictionary_whose_first_is_at_hand(seed):
    rng = random.Random(seed)
    table, model = Returned(), {}
    for _ in range(600):
        offset = rng.randrange(40)
        action = rng.randrange(5)
        if action < 2:
            model[offset] = table[offset] = returned(offset, topic=f"t/{rng.randrange(3)}")
        elif action == 2 and offset in model:
            del table[offset], model[offset]
        elif action == 3:
            assert table.take(offset) is model.pop(offset, None)
        else:
            walked = []
            walk = table.in_order()
            for delivery in walk:
                walked.append(delivery.event.offset)
                if rng.random() < 0.3:
                    del table[delivery.event.offset], model[delivery.event.offset]
                    if rng.random() < 0.5:              # it comes back at once
                        again = delivery.event.offset
                        model[again] = table[again] = returned(again)
                if rng.random() < 0.1:
                    break
            walk.close()
            assert walked == sorted(set(walked))
        assert dict(table) == model
        assert table.bytes == len(model)
        first = table.first()
        assert (first.event.offset if first else None) == min(model, default=None)
    assert [delivery.event.offset for delivery in table.in_order()] == sorted(model)


def test_the_first_of_many_is_taken_without_looking_at_all():
    """The price of a redelivery with prefetch 1 does not depend on how many wait."""
    class Counted(int):
        compared = 0

        def __lt__(self, other):
            Counted.compared += 1
            return int(self) < int(other)

    table = Returned()
    offsets = list(range(20_000))
    random.Random(1).shuffle(offsets)
    for offset in offsets:
        table[Counted(offset)] = returned(Counted(offset))
    Counted.compared = 0
    for expected in range(100):
        walk = table.in_order()
        delivery = next(walk)
        assert delivery.event.offset == expected
        del table[delivery.event.offset]
        walk.close()
    assert Counted.compared < 100 * 4 * 15


def test_what_came_back_beyond_the_bound_is_read_from_the_log_again(tmp_path):
    desk = Desk(tmp_path, limits=Limits(in_flight_bytes_max=10_000, tail_cache_bytes=0))
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), Mode.SHARED), ANA)
    reader = Reader()
    consumer.attach(reader)
    payloads = [bytes([number]) * 4_000 for number in range(50)]
    for number, payload in enumerate(payloads):
        desk.publish(Event(f"t/{number}", payload, 1, headers=(("n", str(number)),)))
    for _ in range(40):
        for delivery in reader.deliveries:
            consumer.nack(delivery, 60.0)
        reader.credit += len(reader.deliveries)
        reader.deliveries.clear()
        desk.run()
    cursor = next(iter(consumer.cursors.values()))
    assert len(cursor.delayed) == 50
    held = sum(len(delivery.event.payload) for delivery in cursor.delayed.values())
    assert held == cursor.delayed.bytes <= 10_000
    assert consumer.lag().events == 50
    desk.tick(61.0)
    got = []
    for _ in range(60):
        got += [(delivery.event.payload, delivery.event.headers, delivery.attempts)
                for delivery in reader.ack_all(consumer)]
        desk.run()
    assert got == [(payload, (("n", str(number)),), 2) for number, payload in enumerate(payloads)]
    assert consumer.lag().events == 0
    desk.close()


def test_what_retention_took_meanwhile_is_counted_as_lost(tmp_path):
    desk = Desk(tmp_path, limits=Limits(in_flight_bytes_max=100, tail_cache_bytes=0))
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), Mode.SHARED), ANA)
    reader = Reader(credit=1)
    consumer.attach(reader)
    desk.publish(Event("t", b"x" * 500, 1), Event("t", b"y", 1))
    partition = desk.router.own_partitions()[0]
    partition.event = lambda offset: None               # as if it were gone
    consumer.nack(reader.deliveries.pop())
    reader.credit = 5
    consumer.ready()
    desk.run()
    assert [delivery.event.payload for delivery in reader.deliveries] == [b"y"]
    assert desk.router.registry.skipped_by_retention == 1
    desk.close()


def test_renewing_leases_over_and_over_costs_the_same_each_time(tmp_path):
    """Entries of times that count no more do not pile up, and are not looked through again and again."""
    desk = Desk(tmp_path)
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), Mode.SHARED, ack_timeout_s=30.0), ANA)
    reader = Reader()
    consumer.attach(reader)
    desk.publish(*(Event("t", b"%d" % number, 1) for number in range(300)))
    for _ in range(60):
        desk.tick(1.0)
        for delivery in reader.deliveries:
            consumer.extend(delivery, 30.0)
        assert len(consumer._timetable) <= 2 * 300 + 256 + 1
    rebuilt = 0
    for _ in range(3):
        for delivery in reader.deliveries:
            before = len(consumer._timetable)
            consumer.extend(delivery, 30.0)
            rebuilt += len(consumer._timetable) <= before
    assert rebuilt <= 5
    assert consumer.redelivered == 0
    desk.tick(29.0)
    assert consumer.redelivered == 0
    desk.tick(2.0)
    assert consumer.redelivered == 300
    desk.close()


def test_timeouts_of_many_at_once_are_seen_to_in_several_turns(tmp_path):
    desk = Desk(tmp_path)
    consumer = desk.router.open_consumer(
        ConsumerSpec("c", ("#",), Mode.SHARED, ack_timeout_s=5.0, max_in_flight=5_000), ANA)
    reader = Reader(credit=2_000)
    consumer.attach(reader)
    desk.publish(*(Event("t", b"%d" % number, 1) for number in range(2_000)))
    reader.deliveries.clear()
    cursor = next(iter(consumer.cursors.values()))
    desk.tick(6.0)
    assert len(cursor.again) == 500
    for _ in range(3):
        desk.tick(0.05)
    assert len(cursor.again) == 2_000


def test_only_consumers_whose_time_has_come_are_looked_at(tmp_path):
    desk = Desk(tmp_path)
    consumers = []
    for number in range(50):
        spec = ConsumerSpec(f"c{number}", (f"t/{number}",), Mode.SHARED, ack_timeout_s=10.0 + number)
        consumers.append(desk.router.open_consumer(spec, ANA))
        consumers[-1].attach(Reader())
        desk.publish(f"t/{number}")
    looked = []
    for consumer in consumers:
        consumer.handle_deadline = lambda now_s, consumer=consumer: looked.append(consumer.name)
    desk.tick(5.0)
    assert looked == []
    desk.tick(6.5)
    assert looked == ["c0", "c1"]
    desk.close()
