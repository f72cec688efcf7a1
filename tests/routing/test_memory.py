"""What is kept in memory is bounded by bytes, whatever one client sends: topics, routes, answers, ids, events."""
import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.direct.subscription import Subscription
from routing.event import Event
from routing.fairness.accounts import LEAST_BYTES
from routing.log.records.encode import Encoder
from routing.log.tail_cache import STALE_MAX, TailBudget, TailCache
from routing.publishing.dedupe import First, Windows
from routing.publishing.remembered import Remembered
from routing.rights.policy import Identity
from routing.settings import Limits, StreamSettings
from tests.support.routing import ANA, Desk, Reader

BOB = Identity(user="bob", protocol="test", client_id="bob-1")
LONG = "x" * 60_000


def kept(encoder):
    return sum(len(entries) for entries in encoder._entries.values())


def test_long_topics_are_not_kept_anywhere(tmp_path):
    desk = Desk(tmp_path)
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",)), ANA)
    desk.publish(*(Event(f"{number}/{LONG}", b"", 1) for number in range(20)))
    partition = desk.router.own_partitions()[0]
    assert consumer.lag().events == 20                  # they were routed and stored all the same
    assert not list(desk.router.routes.known_topics())
    assert not desk.publisher.routes
    assert kept(partition._group._encoder) == 0
    assert not consumer.interest._answers
    desk.close()


def test_routes_are_bounded_by_what_they_take(tmp_path):
    desk = Desk(tmp_path, limits=Limits(match_cache_bytes=100_000))
    sinks = [Reader() for _ in range(50)]
    for number, sink in enumerate(sinks):
        assert desk.router.subscribe(Subscription("#", sink, options=number)) is None
    for number in range(200):
        desk.publish(f"t/{number}")
    routes = list(desk.router.routes.known_topics())
    assert 1 <= len(routes) <= 100_000 // (50 * 150)
    desk.close()


def test_answers_of_all_consumers_share_one_bound(tmp_path):
    desk = Desk(tmp_path, limits=Limits(answer_cache_bytes=20_000, tail_cache_bytes=0))
    consumers = [desk.router.open_consumer(ConsumerSpec(f"c{number}", ("t/+",), start="earliest"), ANA)
                 for number in range(20)]
    for consumer in consumers:
        for number in range(300):
            assert consumer.wants(f"t/{number}")
    held = sum(len(topic) + 160 for consumer in consumers for topic in consumer.interest._answers)
    assert held <= 20_000
    desk.close()


def test_the_encoder_forgets_by_bytes_and_counts_shapes_too(monkeypatch):
    monkeypatch.setattr("routing.log.records.encode._BYTES_MAX", 50_000)
    encoder = Encoder()
    for length in range(1_000):
        encoder.encode([Event("a" * 200, bytes(length), 1, offset=0)], first_in_group=True)
    shapes = sum(len(shapes) for entries in encoder._entries.values() for entry in entries.values()
                 for shapes in entry.shapes)
    assert shapes * 200 <= 50_000


def test_ids_are_bounded_by_bytes_per_publisher_and_for_all():
    windows = Windows(10_000, 1_600_000)
    one = windows.of("one")
    for number in range(1_000):
        one.remember((LONG, str(number)), First())
    assert one.bytes <= 100_000 + 61_000
    assert one.find((LONG, "999")) is not None          # the newest
    for number in range(100):
        window = windows.of(f"p{number}")
        for index in range(100):
            window.remember(("t" * 1_000, index), First())
    assert sum(window.bytes for window in windows._windows.values()) <= 1_600_000 + 140_000
    assert "one" not in windows._windows                # quiet longest


def test_ids_that_a_start_has_found_are_bounded_for_all_and_the_newest_stay():
    found = Remembered(10_000, 400_000)
    for partition in ("a", "b"):
        for number in range(1_000):
            found.add("p", ("t" * 100, f"{partition}{number}"), partition, number)
            assert found.bytes <= 401_000
    for partition in ("a", "b"):
        assert found.find("p", ("t" * 100, f"{partition}999")) == (partition, 999)
        assert found.find("p", ("t" * 100, f"{partition}0")) is None
    found.add("p", ("t" * 100, "a999"), "b", 1_000)     # it came again, elsewhere
    for number in range(1_000, 2_000):
        found.add("p", ("t" * 100, f"a{number}"), "a", number)
    assert found.find("p", ("t" * 100, "a999")) == ("b", 1_000)


def test_one_partition_has_a_quarter_of_the_tails_at_most():
    budget = TailBudget(40_000)
    busy, quiet = TailCache(budget, 0), TailCache(budget, 0)
    quiet.add([Event("t", b"", offset=0)], 800, 1)
    for offset in range(100):
        busy.add([Event("t", b"", offset=offset)], 800, offset + 1)
        assert busy.bytes <= 10_000
    assert busy.bytes == 10_000 and busy.first_offset == 90
    assert quiet.bytes == 1_000 and budget.bytes == 11_000
    busy.add([Event("t", b"", offset=100)], 20_000, 101)
    assert busy.bytes == 20_200 and busy.first_offset == 100, "a large group stays, alone"


def test_one_budget_holds_for_the_tails_of_all_partitions(tmp_path):
    settings = [StreamSettings("events", ("#",), partitions=8)]
    desk = Desk(tmp_path, settings, limits=Limits(tail_cache_bytes=50_000))
    for number in range(400):
        desk.publish(Event("t", bytes(500), 1, key=b"%d" % number))
    caches = [partition._cache for partition in desk.router.own_partitions()]
    assert 40_000 < sum(cache.bytes for cache in caches) <= 50_000
    for partition in desk.router.own_partitions():
        found = partition.scan(0, lambda topic: True, max_events=1_000, max_scanned=1_000).events
        assert [event.offset for event in found] == list(range(partition.end_offset))
    desk.close()


def test_the_budget_does_not_remember_groups_that_are_gone():
    budget = TailBudget(1 << 40)
    cache = TailCache(budget, 0)
    for offset in range(5_000):
        cache.add([Event("t", b"", offset=offset)], 10, offset + 1)
        cache.drop_before(offset + 1, offset + 1)
    assert len(budget._groups) <= STALE_MAX + 1 and budget.bytes == 0


@pytest.mark.parametrize("answer", ["ack", "detach", "delete"])
def test_a_user_has_a_bound_of_what_is_in_flight_and_others_go_on(tmp_path, answer):
    desk = Desk(tmp_path, limits=Limits(in_flight_user_bytes=1_000_000))

    def opened(name, identity):
        consumer = desk.router.open_consumer(ConsumerSpec(name, ("#",), Mode.SHARED), identity)
        reader = Reader(identity=identity)
        consumer.attach(reader)
        return consumer, reader

    silent = [opened(f"silent{number}", ANA) for number in range(20)]
    bob, bobs = opened("bob", BOB)
    desk.run()
    for _ in range(20):
        desk.publish(*(Event("t", bytes(10_000), 1) for _ in range(10)))
        bobs.ack_all(bob)
        desk.run()
    held = sum(consumer.in_flight_bytes for consumer, _ in silent)
    assert silent[0][0].account.bytes == held <= 1_000_000 + 20 * (LEAST_BYTES + 10_000)
    assert all(consumer.in_flight for consumer, _ in silent), "each has a little"
    assert bob.acked == 200
    waiting = next(consumer for consumer, _ in silent if consumer.in_flight_bytes <= LEAST_BYTES + 10_000)
    before = waiting.delivered
    for consumer, reader in silent:
        if consumer is not waiting:
            if answer == "ack":
                while reader.ack_all(consumer):
                    desk.run()
            elif answer == "detach":
                consumer.detach(reader)
            else:
                desk.router.delete_consumer(consumer.name)
    desk.tick(0.05)
    assert waiting.delivered > before
    desk.close()
