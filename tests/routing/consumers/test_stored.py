"""What is stored of consumers: little and often; and where quiet ones stand after a crash."""
import random

import msgspec
import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.registry.checkpoints import ENDS_S
from routing.consumers.registry.stored import CONSUMER, CURSORS, ENDS_KEY, CursorState, runs_of
from routing.event import Event
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def crash(desk, path):
    """What a kill leaves: everything committed, nothing else."""
    desk.store.close()
    return Desk(path)


def sizes(desk, name="c"):
    return [len(desk.router.state.get(prefix + name) or b"") for prefix in (CONSUMER, CURSORS)]


def open_consumer(desk, name="c", filters=("#",), **options):
    return desk.router.open_consumer(ConsumerSpec(name, filters, Mode.SHARED, **options), ANA)


@pytest.mark.parametrize("seed", range(50))
def test_runs_say_the_same_as_the_offsets(seed):
    rng = random.Random(seed)
    unacked = {rng.randrange(200): rng.randrange(1, 3) for _ in range(rng.randrange(150))}
    state = CursorState("s", 0, 0, runs_of(unacked))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=CursorState)
    assert dict(again.attempts()) == unacked


def test_a_busy_consumer_writes_where_it_stands_and_not_what_it_is(desk):
    filters = tuple(f"a/{number}/+" for number in range(1_000))
    consumer, reader = open_consumer(desk, filters=filters), Reader(credit=2_000)
    consumer.attach(reader)
    desk.tick(1.0)
    written = []
    put = desk.router.state.put
    desk.router.state.put = lambda key, value: (written.append((key, len(value))), put(key, value))[1]
    for number in range(10):
        desk.publish(*(Event(f"a/{number}/x", b"", 1) for _ in range(100)))
        desk.tick(1.0)
    assert consumer.in_flight == 1_000
    about = [(key, size) for key, size in written if key.endswith("/c")]
    assert {key for key, _ in about} == {CURSORS + "c"}
    assert max(size for _, size in about) < 100
    written.clear()
    consumer.pause()
    desk.tick(1.0)
    assert {key for key, _ in written} >= {CONSUMER + "c"}


def test_a_quiet_consumer_is_not_behind_after_a_crash(desk, tmp_path):
    """F7: its position is not stored again and again, yet it need not look through what it did not want."""
    open_consumer(desk, "quiet", ("rare/#",))
    busy, reader = open_consumer(desk, "busy", ("often/#",)), Reader()
    busy.attach(reader)
    desk.tick(1.0)
    before = desk.router.state.get(CURSORS + "quiet")
    for _ in range(50):
        desk.publish(*(Event("often/x", b"", 1) for _ in range(100)))
        reader.ack_all(busy)
    desk.tick(ENDS_S + 1)
    assert desk.router.state.get(CURSORS + "quiet") == before
    desk = crash(desk, tmp_path / "data")
    cursor = next(iter(desk.router.consumers["quiet"].cursors.values()))
    assert cursor.position == cursor.partition.end_offset == 5_000
    desk.close()


@pytest.mark.parametrize("seed", range(12))
def test_no_crash_makes_a_quiet_consumer_miss_an_event(tmp_path, seed):
    """At any moment: what it was offered and has not acked comes again, however the ends were stored meanwhile."""
    rng = random.Random(seed)
    desk = Desk(tmp_path / "data", [StreamSettings("events", ("#",), partitions=2)])
    for number in range(5):
        open_consumer(desk, f"c{number}", (f"t/{number}",))
    owed = {f"c{number}": set() for number in range(5)}
    number = 0
    for _ in range(4):
        readers = {}
        for _ in range(60):
            name = f"c{rng.randrange(5)}"
            consumer = desk.router.consumers[name]
            action = rng.randrange(6)
            if action < 2:
                number += 1
                topic = f"t/{rng.randrange(8)}"
                desk.publish(Event(topic, b"%d" % number, 1, key=b"%d" % number))
                if f"c{topic[2:]}" in owed:
                    owed[f"c{topic[2:]}"].add(b"%d" % number)
            elif action == 2 and name not in readers:
                readers[name] = Reader(credit=rng.randrange(4))
                consumer.attach(readers[name])
                desk.run()
            elif action == 3 and name in readers:
                for delivery in readers[name].ack_all(consumer):
                    owed[name].discard(delivery.event.payload)
                desk.run()
            elif action == 4 and name in readers:
                consumer.detach(readers.pop(name))
                desk.run()
            else:
                desk.tick(rng.choice([0.05, 0.3, 6.0]))
        desk.store.close()
        desk = Desk(tmp_path / "data", [StreamSettings("events", ("#",), partitions=2)])
        for name, missing in owed.items():
            consumer, reader = desk.router.consumers[name], Reader(credit=10_000)
            consumer.attach(reader)
            for _ in range(3):
                desk.tick(0.3)
            got = {delivery.event.payload for delivery in reader.deliveries}
            assert missing <= got, (name, missing - got)
            reader.ack_all(consumer)
            owed[name].clear()
            consumer.detach(reader)
            desk.tick(0.3)
    desk.close()


@pytest.mark.parametrize("is_there_s", [0.0, 0.05, ENDS_S + 1])
def test_what_came_just_before_a_crash_outlives_a_second_crash_that_comes_before_its_reader(tmp_path, is_there_s):
    """After the first one the consumer is behind, and ends that are stored then are past what it has to read."""
    desk = Desk(tmp_path / "data")
    open_consumer(desk)
    desk.tick(ENDS_S + 1)
    desk.publish(Event("a", b"last words", 1))
    desk = crash(desk, tmp_path / "data")
    desk.tick(is_there_s)
    desk.tick(is_there_s)
    desk = crash(desk, tmp_path / "data")
    consumer, reader = desk.router.consumers["c"], Reader()
    consumer.attach(reader)
    desk.tick(0.3)
    assert [delivery.event.payload for delivery in reader.deliveries] == [b"last words"]
    desk.close()


def test_ends_are_not_stored_while_a_record_is_refused(desk):
    open_consumer(desk)
    desk.tick(1.0)
    desk.router.state._refused["consumer/x"] = b"x"     # as after a full disk
    put = []
    desk.router.state.put = lambda key, value: put.append(key)
    desk.publish("a")
    desk.router.registry.tick(desk.now_s + 100)
    assert ENDS_KEY not in put
    desk.router.state._refused.clear()
    desk.router.registry.tick(desk.now_s + 101)
    assert ENDS_KEY in put
    del desk.router.state.put


def test_what_an_older_build_stored_is_read(desk, tmp_path):
    open_consumer(desk)
    desk.publish("a", "b", "c", "d")
    desk.tick(1.0)
    state = desk.router.state
    old = msgspec.msgpack.decode(state.get(CONSUMER + "c"))
    old["cursors"] = [["events", 0, 3, {0: 2, 2: 1}]]
    old["attached"] = True
    state.put(CONSUMER + "c", msgspec.msgpack.encode(old))
    state.delete(CURSORS + "c")
    desk.router.registry.dirty.clear()
    desk.run()
    desk.router.end_turn()
    desk.run()
    desk = crash(desk, tmp_path / "data")
    consumer, reader = desk.router.consumers["c"], Reader()
    consumer.attach(reader)
    desk.run()
    assert [(delivery.event.topic, delivery.attempts) for delivery in reader.deliveries] == [
        ("a", 3), ("c", 2), ("d", 2)]
    desk.close()


def test_a_deleted_consumer_leaves_nothing(desk):
    open_consumer(desk)
    desk.tick(1.0)
    assert all(sizes(desk))
    desk.router.delete_consumer("c")
    desk.tick(1.0)
    assert sizes(desk) == [0, 0]


def test_a_start_does_not_write_every_consumer_again(desk, tmp_path):
    for number in range(20):
        open_consumer(desk, f"c{number}")
    desk.tick(1.0)
    desk = crash(desk, tmp_path / "data")
    assert not desk.router.registry.dirty
    desk.close()
