"""What queues owe outlives the retention of a stream, and the disk is freed all the same."""
import os
import random

import pytest

from routing.event import Event
from routing.log.inspect import verify
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.queues.predicates import HeadersMatch
from routing.settings import Limits, StreamSettings
from tests.support.disk import PowerLoss, SimulatedDisk
from tests.support.routing import ANA, Desk, Reader

SOAK = os.environ.get("MESHGATE_SOAK") == "1"
PAYLOAD = bytes(100)
STREAMS = [StreamSettings("events", ("#",), retention_bytes=40_000, segment_bytes=20_000)]


def opened(tmp_path, streams=STREAMS, **options):
    return Desk(tmp_path / "data", streams, limits=Limits(tail_cache_bytes=0), **options)


@pytest.fixture
def desk(tmp_path):
    desk = opened(tmp_path)
    yield desk
    desk.close()


def declared(desk, name, *bindings, **options):
    queue = desk.router.queues.declare(name, QueueOptions(**options), ANA)
    for binding in bindings:
        assert queue.bind(binding, ANA) is None
    desk.run()
    return queue


def filled(desk, count, every=100, size=100):
    """Every hundredth event is work/…, in groups of a hundred. Its payload is its number."""
    for first in range(0, count, 100):
        desk.publish(*(Event(f"work/{number % 7}" if number % every == 0 else f"noise/{number % 50}",
                             b"%d" % number if number % every == 0 else bytes(size), 1)
                       for number in range(first, first + 100)))


def retained(desk, seconds=6):
    """Let retention do its work."""
    for _ in range(seconds):
        desk.store.maintain(desk.now_ms)
        desk.tick(1.0)


def all_of(desk, queue, credit=1_000):
    """Everything that comes, acked."""
    reader = Reader(credit)
    assert queue.attach(reader) is None
    desk.run()
    found = []
    while reader.deliveries:
        taken = reader.ack_all(queue.consumer)
        found += taken
        desk.run()
        desk.tick(0.05)
    queue.detach(reader)
    return found


def numbers(deliveries):
    return [int(delivery.event.payload) for delivery in deliveries]


def test_what_a_queue_has_not_read_comes_though_retention_has_passed(desk):
    queue = declared(desk, "q", Binding("work/#"))
    filled(desk, 5_000)
    partition = desk.router.streams.by_name["events"].partitions[0]
    retained(desk)
    assert partition.start_offset > 4_000 and partition.size_bytes < 100_000
    assert partition.kept.events <= 60 and partition.kept.size_bytes < 20_000
    assert queue.depth().ready == 50
    found = all_of(desk, queue)
    assert numbers(found) == list(range(0, 5_000, 100))
    assert [delivery.event.offset for delivery in found] == numbers(found)
    retained(desk)
    assert partition.kept.events == 0 and not list(desk.path.glob("streams/events/0/kept/*"))


def test_what_is_unacked_and_what_came_back_is_kept_over_a_kill(tmp_path):
    desk = opened(tmp_path)
    queue = declared(desk, "q", Binding("work/#"))
    filled(desk, 2_000)
    reader = Reader(10)
    queue.attach(reader)
    desk.run()
    queue.nack(reader.deliveries[:3], delay_s=3_600)
    queue.ack(reader.deliveries[3:5])
    filled(desk, 3_000)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.start_offset > 4_000 and partition.kept.events < 60
    desk.store.close()
    assert "records kept for queues" in "".join(finding.text for finding in verify(desk.path))
    again = opened(tmp_path)
    queue = again.router.queues.get("q")
    assert queue.depth().ready == 48
    retained(again)
    found = all_of(again, queue)
    assert sorted(numbers(found)) == sorted([*(n for n in range(0, 2_000, 100) if n not in (300, 400)),
                                             *range(0, 3_000, 100)])
    assert all(delivery.attempts > 1 for delivery in found[:8])
    again.close()


def test_others_begin_where_retention_says(desk):
    declared(desk, "q", Binding("work/#"))
    filled(desk, 5_000)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.event(0) is None and partition.event(0, owed=True) is not None
    assert partition.scan(0, lambda topic: True, max_events=1, max_scanned=1_000).events[0].offset == (
        partition.start_offset)


def test_each_queue_is_owed_its_own_by_filter_and_by_predicate(desk):
    one = declared(desk, "one", Binding("work/1"))
    two = declared(desk, "two", Binding("#", HeadersMatch("all", (("kind", "x"),))))
    late = declared(desk, "late")
    filled(desk, 2_000)
    desk.publish(*(Event(f"noise/{number}", b"%d" % number, 1, headers=(("kind", "x"),)) for number in range(5)))
    late.bind(Binding("work/#"), ANA)
    filled(desk, 3_000)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.start_offset > 4_000 and partition.kept.events < 60
    assert numbers(all_of(desk, two)) == [0, 1, 2, 3, 4]
    assert numbers(all_of(desk, late)) == list(range(0, 3_000, 100))
    assert numbers(all_of(desk, one)) == [n for count in (2_000, 3_000) for n in range(0, count, 100) if n % 7 == 1]


def test_a_queue_that_is_owed_most_of_the_log_pins_it_and_no_more_than_that(desk):
    """Copying would free less than it writes."""
    queue = declared(desk, "q", Binding("noise/#"))
    filled(desk, 2_000)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.start_offset == 0 and partition.kept.events == 0
    assert len(all_of(desk, queue)) == 1_980
    retained(desk, 70)
    assert partition.start_offset > 0


def test_straight_to_queues_one_forgotten_queue_does_not_keep_what_others_have_done(desk):
    forgotten, busy = declared(desk, "forgotten"), declared(desk, "busy")
    partition = desk.router.streams.by_name["$queues"].partitions[0]
    reader = Reader(100_000)
    busy.attach(reader)
    for round_ in range(40):
        desk.publish(Event(forgotten.topic, b"%d" % round_, 1))
        desk.publish(*(Event(busy.topic, bytes(30_000), 1) for _ in range(50)))
        reader.ack_all(busy.consumer)
        desk.run()
    assert partition.size_bytes > 48_000_000
    retained(desk)
    assert partition.size_bytes < 17_000_000 and partition.kept.size_bytes < 10_000
    assert numbers(all_of(desk, forgotten)) == list(range(40))


def test_kept_events_that_were_settled_meanwhile_go_in_time(desk):
    queue = declared(desk, "q", Binding("work/#"))
    filled(desk, 5_000, every=10)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    size = partition.kept.size_bytes
    reader = Reader(450)
    queue.attach(reader)
    desk.run()
    queue.ack(reader.deliveries[1:])            # the first one stays out
    retained(desk)
    assert partition.kept.size_bytes == size
    retained(desk, 620)
    assert partition.kept.size_bytes < size / 4
    queue.detach(reader)
    assert numbers(all_of(desk, queue)) == [0, *range(4_500, 5_000, 10)]


def test_many_small_kept_segments_become_few(desk):
    queue = declared(desk, "q", Binding("work/#"))
    for _ in range(40):
        filled(desk, 500)
        retained(desk, 3)
    partition = desk.router.streams.by_name["events"].partitions[0]
    retained(desk, 3)
    assert partition.start_offset > 19_000 and len(partition.kept.segments) < 12
    assert len(all_of(desk, queue)) == 200


def test_a_trimmed_start_counts_for_queues_too(desk):
    queue = declared(desk, "q", Binding("work/#"))
    filled(desk, 5_000, every=10)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.kept.events > 400
    partition.trim(partition.start_offset + 1)
    desk.run()
    assert numbers(all_of(desk, queue)) == list(range(partition.start_offset + 9, 5_000, 10))


def test_a_deleted_queue_is_owed_nothing(desk):
    declared(desk, "q", Binding("work/#"))
    filled(desk, 5_000)
    retained(desk)
    partition = desk.router.streams.by_name["events"].partitions[0]
    assert partition.kept.events
    desk.router.queues.delete("q")
    retained(desk)
    assert not partition.kept.events and not list(desk.path.glob("streams/events/0/kept/*"))


def test_the_power_fails_at_any_operation_of_retention_and_nothing_is_lost(tmp_path):
    """Whatever a queue is owed comes, once, in order; the log is whole."""
    operations = None
    for seed in range(400 if SOAK else 12):
        rng = random.Random(seed)
        disk = SimulatedDisk()
        desk = opened(tmp_path, fs=disk)
        declared(desk, "q", Binding("work/#"))
        for _ in range(2):                              # the second round lifts beside what is kept already
            filled(desk, 1_500)
            retained(desk, 3)
        filled(desk, 1_500)
        counted = 1_000_000
        disk.loss_at = counted if operations is None else 1 + rng.randrange(operations)
        try:
            retained(desk, 4)
            operations = operations or counted - disk.loss_at
        except PowerLoss:
            pass
        disk.power_loss(rng)
        again = opened(tmp_path, fs=disk)
        again.now_s, again.now_ms = desk.now_s, desk.now_ms
        retained(again, rng.randrange(5))
        partition = again.router.streams.by_name["events"].partitions[0]
        assert not partition.damage, seed
        assert numbers(all_of(again, again.router.queues.get("q"))) == 3 * list(range(0, 1_500, 100)), seed
        again.close()


@pytest.mark.timeout(6_000 if SOAK else 300)
def test_one_in_a_hundred_is_unacked_and_all_of_them_come_while_the_disk_is_freed(tmp_path):
    """100,000 unacked of 10,000,000 in the long form."""
    count = 10_000_000 if SOAK else 30_000
    desk = opened(tmp_path, [StreamSettings("events", ("#",), retention_bytes=300_000, segment_bytes=150_000)])
    queue = declared(desk, "q", Binding("work/#"))
    reader = Reader(1_000_000)
    queue.attach(reader)
    for _ in range(30):
        filled(desk, count // 30 // 100 * 100)
        retained(desk, 2)
    held = len(reader.deliveries)
    assert held == min(30 * (count // 30 // 100), 50_000)
    partition = desk.router.streams.by_name["events"].partitions[0]
    on_disk = sum(path.stat().st_size for path in desk.path.glob("streams/events/0/**/*") if path.is_file())
    assert partition.start_offset > count - 8_000 and partition.kept.events > 0.8 * count / 100
    assert on_disk < 1_000_000 + count // 100 * 200 < partition.end_offset * 100
    queue.detach(reader)
    assert numbers(all_of(desk, queue)) == 30 * list(range(0, count // 30 // 100 * 100, 100))
    retained(desk)
    assert not partition.kept.size_bytes
    desk.close()
