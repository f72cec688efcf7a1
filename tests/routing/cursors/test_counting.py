"""Lag: counted in small steps, exact afterwards, kept up as events come and go."""
import random

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.cursors import counting
from routing.event import Event
from routing.rights.policy import ALLOW_ALL, Action, Identity, Rule
from routing.settings import Limits, StreamSettings
from routing.topic import filter_matches
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(counting, "STEP_COST_MAX", 300)
    monkeypatch.setattr(counting, "PIECE_SCANNED", 64)
    monkeypatch.setattr("routing.log.segments.summary.BLOCK_BYTES", 8_000)
    monkeypatch.setattr("routing.log.segments.summary.BLOCK_TOPICS_MAX", 5)


@pytest.fixture
def desk(tmp_path, small_steps):
    desk = Desk(tmp_path / "data", [StreamSettings("events", ("#",), segment_bytes=100_000)],
                limits=Limits(tail_cache_bytes=20_000))
    yield desk
    desk.close()


def settled(desk, consumer, ticks=500):
    """The lag when it is known."""
    for _ in range(ticks):
        lag = consumer.lag()
        if lag.exact:
            return lag
        desk.tick()
    raise AssertionError("never counted")


def counted_by_hand(desk, consumer, done):
    """Events in the log that it wants, less those that were acked."""
    total = 0
    for partition in consumer.cursors:
        total += partition.count(0, consumer.wants)
    return total - done


def fill(desk, count, rng, topics=20):
    for _ in range(count // 50):
        desk.publish(*(Event(f"a/{rng.randrange(topics)}", b"x" * rng.randrange(60), 1) for _ in range(50)))


def test_a_lag_that_takes_long_is_counted_in_steps_and_says_so(desk):
    fill(desk, 5_000, random.Random(1))
    looked = []
    scan_block = type(next(iter(desk.router.own_partitions()))._reader)._scan_block

    def spy(reader, *arguments, **options):
        found = scan_block(reader, *arguments, **options)
        looked.append(found[1])
        return found

    type(desk.router.own_partitions()[0]._reader)._scan_block = spy
    try:
        consumer = desk.router.open_consumer(ConsumerSpec("c", ("a/+",), start="earliest"), ANA)
        first = consumer.lag()
        assert not first.exact and first.state == "counting" and first.events < 5_000
        assert sum(looked) <= 700
        looked.clear()
        consumer.lag()
        assert not looked                       # the next look is for the next tick
        known = settled(desk, consumer)
    finally:
        type(desk.router.own_partitions()[0]._reader)._scan_block = scan_block
    assert known.events == 5_000 and known.state == "exact"
    assert max(looked) <= 2 * 64


def test_a_lag_stays_exact_while_events_come_and_go(desk):
    rng = random.Random(2)
    fill(desk, 2_000, rng)
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("a/+",), start="earliest", max_in_flight=100), ANA)
    assert settled(desk, consumer).events == 2_000
    reader = Reader(credit=0)
    consumer.attach(reader)
    done = 0
    for _ in range(60):
        fill(desk, 50, rng)
        assert consumer.lag().events == counted_by_hand(desk, consumer, done)
        reader.credit = rng.randrange(80)
        consumer.ready()
        desk.run()
        taken = reader.deliveries[:rng.randrange(40)]
        del reader.deliveries[:len(taken)]
        consumer.ack(taken)
        done += len(taken)
        desk.run()
        assert consumer.lag() == type(consumer.lag())(counted_by_hand(desk, consumer, done), 0.0, True)


@pytest.mark.parametrize("seed", range(6))
def test_any_program_of_reading_publishing_and_seeking_ends_with_the_exact_lag(desk, seed):
    rng = random.Random(seed)
    mode = rng.choice([Mode.EXCLUSIVE, Mode.SHARED, Mode.KEY_SHARED])
    fill(desk, 1_000, rng)
    filters = rng.choice([("a/1", "a/3"), ("a/+",), ("#",), ("a/1", "b/#")])
    consumer = desk.router.open_consumer(ConsumerSpec("c", filters, mode, start="earliest", max_in_flight=50), ANA)
    partition = desk.router.own_partitions()[0]
    reader = Reader(credit=0)
    consumer.attach(reader)
    desk.run()
    floor, acked, added = 0, set(), {}
    for _ in range(80):
        action = rng.randrange(8)
        if action == 0:
            fill(desk, 50, rng)
        elif action == 1:
            reader.credit = rng.randrange(60)
            consumer.ready()
            desk.run()
        elif action in (2, 3):
            rng.shuffle(reader.deliveries)
            taken = [reader.deliveries.pop() for _ in range(min(len(reader.deliveries), rng.randrange(30)))]
            consumer.ack(taken)
            acked.update(delivery.event.offset for delivery in taken)
        elif action == 4 and rng.random() < 0.3:
            floor = rng.randrange(partition.end_offset)
            consumer.seek({partition: floor})
            reader.deliveries.clear()
            acked.clear()
            added.clear()
        elif action == 5 and reader.deliveries:
            consumer.nack(reader.deliveries.pop())
        elif action == 6:
            consumer.lag()
            desk.tick()
        elif action == 7 and len(consumer.filters) < 4 and rng.random() < 0.5:
            pattern = f"a/{rng.randrange(4, 9)}"
            if not any(filter_matches(known, pattern) for known in consumer.filters):
                added[pattern] = partition.next_offset
            consumer.add_filter(pattern, ANA)
        desk.run()
    wanted = 0
    offset = floor
    while offset < partition.end_offset:
        found = partition.scan(offset, consumer.wants, max_events=1_000, max_scanned=1_000)
        wanted += sum(event.offset not in acked and event.offset >= added.get(event.topic, 0)
                      for event in found.events)
        offset = found.next_offset
    assert settled(desk, consumer).events == wanted


def test_the_age_of_the_first_event_is_found_in_steps(desk):
    fill(desk, 2_000, random.Random(3))
    desk.publish("rare")
    desk.tick(7.0)
    fill(desk, 100, random.Random(3))
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("rare",), start="earliest"), ANA)
    lag = settled(desk, consumer)
    assert (lag.events, lag.seconds) == (1, 7.0)


def test_consumers_at_one_place_share_the_look_at_the_log(desk):
    fill(desk, 3_000, random.Random(4))
    partition = desk.router.own_partitions()[0]
    tallies = []
    tally = partition.tally

    def spy(offset, **options):
        tallies.append(offset)
        return tally(offset, **options)

    partition.tally = spy
    consumers = [desk.router.open_consumer(ConsumerSpec(f"c{number}", (f"a/{number}", "a/+"), start="earliest"), ANA)
                 for number in range(10)]
    while [consumer for consumer in consumers if not consumer.lag().exact]:       # ask all of them
        desk.tick()
    assert all(consumer.lag().events == 3_000 for consumer in consumers)
    assert len(tallies) < 2 * len(set(tallies))


def test_what_retention_took_away_counts_no_more(desk):
    fill(desk, 4_000, random.Random(5))
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("a/+",), start="earliest"), ANA)
    assert settled(desk, consumer).events == 4_000
    partition = desk.router.own_partitions()[0]
    partition.drop_segments(partition.segments[:2])
    assert settled(desk, consumer).events == partition.end_offset - partition.start_offset < 4_000


def test_a_consumer_that_is_deleted_is_not_counted_on(desk):
    fill(desk, 3_000, random.Random(6))
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("a/+",), start="earliest"), ANA)
    assert not consumer.lag().exact
    desk.router.delete_consumer("c")
    for _ in range(3):
        desk.tick()
    assert len(desk.router.registry.counting) == 0


def test_who_may_not_read_a_part_has_no_lag_of_it(tmp_path, small_steps):
    desk = Desk(tmp_path, rules=(ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("user:bob",), topics=("a/1",))))
    for number in range(600):
        desk.publish(f"a/{number % 3}")
    bob = Identity(user="bob", protocol="test", client_id="b")
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("a/+",), start="earliest"), bob)
    assert settled(desk, consumer).events == 400
    desk.close()
