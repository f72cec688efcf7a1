"""Dead letters of dead letters: nothing is lost, the history is complete, a circle does not fill the log."""
import json

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.registry import dead_letters
from routing.event import Event
from routing.rights.policy import ALLOW_ALL, Action, Identity, Rule
from tests.support.routing import ANA, Desk, Reader


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def opened(desk, name, topic, dead=None, **options):
    options = {"max_deliveries": 1, "backoff_initial_s": 0.0, "backoff_max_s": 5.0, **options}
    consumer = desk.router.open_consumer(
        ConsumerSpec(name, (topic,), Mode.SHARED, dead_letter_topic=dead, **options), ANA)
    reader = Reader()
    consumer.attach(reader)
    return consumer, reader


def reject(desk, consumer, reader):
    """Give up what it has. Returns how much that was."""
    held, reader.deliveries = reader.deliveries, []
    for delivery in held:
        reader.credit += 1
        consumer.nack(delivery)
    desk.run()
    return len(held)


def test_work_retry_work_three_rounds_then_parked(desk):
    """Issue 9: nothing lost, history complete."""
    work, worker = opened(desk, "work", "work", "retry")
    retry, waiter = opened(desk, "retry", "retry", "work")
    desk.publish(Event("work", b"job", 1, key=b"k", headers=(("mine", "1"),)))
    for _ in range(3):
        assert reject(desk, work, worker) == 1
        desk.tick(10.0)
        assert reject(desk, retry, waiter) == 1
    (delivery,) = worker.deliveries
    event = delivery.event
    assert (event.payload, event.key, event.topic) == (b"job", b"k", "work")
    history = json.loads(dict(event.headers)["dead-letter-history"])
    assert [(one["consumer"], one["topic"], one["rounds"], one["count"]) for one in history] == [
        ("work", "work", 3, 3), ("retry", "retry", 3, 3)]
    assert all(one["reason"] == dead_letters.LIMIT_REACHED for one in history)
    assert history[0]["last_ms"] - history[0]["first_ms"] == 20_000
    assert dict(event.headers)["mine"] == "1" and len([1 for name, _ in event.headers if name == "mine"]) == 1
    assert event.properties.dead_letter.topics[-2:] == ["work", "retry"]


def test_a_dead_letter_of_a_dead_letter_is_kept(desk, tmp_path):
    """F2: it was acked and lost at its second station."""
    desk.publish(Event("work", b"x", 1))
    for name, topic in (("first", "work"), ("second", "dead-letter/first"), ("third", "dead-letter/second")):
        consumer, reader = opened(desk, name, topic, start="earliest")
        desk.run()
        assert reject(desk, consumer, reader) == 1
    desk.store.close()
    desk = Desk(tmp_path / "data")
    last = desk.router.own_partitions()[0].event(3)
    assert (last.topic, last.payload) == ("dead-letter/third", b"x")
    assert [death.topic for death in last.properties.dead_letter.history] == [
        "work", "dead-letter/first", "dead-letter/second"]
    desk.close()


def test_a_circle_does_not_fill_the_log_and_loses_nothing(desk, monkeypatch):
    monkeypatch.setattr(dead_letters, "ROUNDS_MAX", 5)
    one, first = opened(desk, "one", "a", "b")
    two, second = opened(desk, "two", "b", "a")
    desk.publish(Event("a", b"x", 1))
    for _ in range(50):
        reject(desk, one, first)
        reject(desk, two, second)
    partition = desk.router.own_partitions()[0]
    assert partition.end_offset == 1 + 2 * 5
    assert one.lag().events + two.lag().events == 1, "it stays with one of them"
    before = partition.end_offset
    desk.tick(6.0)
    assert partition.end_offset == before and one.lag().events + two.lag().events == 1


def test_who_reads_his_own_dead_letters_leaves_them_there(desk):
    consumer, reader = opened(desk, "all", "#")
    desk.publish(Event("t", b"x", 1))
    for _ in range(10):
        reject(desk, consumer, reader)
    assert [desk.router.own_partitions()[0].event(offset).topic for offset in range(2)] == ["t", "dead-letter/all"]
    assert desk.router.own_partitions()[0].end_offset == 2 and consumer.lag().events == 0


def test_who_may_not_read_a_station_does_not_read_it_further_on(tmp_path):
    bob = Identity(user="bob", protocol="test", client_id="b")
    desk = Desk(tmp_path, rules=(ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("user:bob",), topics=("secret/#",))))
    for name, topic in (("first", "secret/1"), ("second", "dead-letter/first")):
        opened(desk, name, topic)
    desk.publish(Event("secret/1", b"x", 1))
    for name in ("first", "second"):
        consumer = desk.router.consumers[name]
        reject(desk, consumer, consumer.members.all[0])
    last = desk.router.own_partitions()[0].event(2)
    assert last.topic == "dead-letter/second"
    assert desk.router.rights.may_read_event(ANA, last) and not desk.router.rights.may_read_event(bob, last)
    desk.close()


def test_a_way_of_too_many_stations_ends_without_a_loss(desk, monkeypatch):
    monkeypatch.setattr(dead_letters, "HISTORY_MAX", 3)
    consumers = [opened(desk, f"c{number}", f"s/{number}", f"s/{number + 1}") for number in range(6)]
    desk.publish(Event("s/0", b"x", 1))
    for consumer, reader in consumers:
        reject(desk, consumer, reader)
    assert sum(consumer.lag().events for consumer, _ in consumers) == 1
