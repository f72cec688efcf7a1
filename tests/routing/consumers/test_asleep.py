"""Consumers of sessions sleep after a start, and nobody can tell: what is asked of one is answered as ever."""
import pytest

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.registry.asleep import Asleep
from routing.rights.policy import Identity
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk, Reader


def spec(name="mqtt/a", *filters):
    return ConsumerSpec(name, filters or ("plant/+",))


def consumer_of(desk, name="mqtt/a") -> Consumer:
    return desk.router.consumers[name]


def asleep(desk, name="mqtt/a"):
    return type(consumer_of(desk, name)) is Asleep


def stopped(path, *specs, settings=None):
    """A desk that had these consumers and was closed."""
    desk = Desk(path, settings)
    for one in specs or (spec(),):
        desk.router.open_consumer(one, ANA)
    desk.publish("plant/1")
    desk.tick(1.0)
    desk.close()


@pytest.fixture
def desk(tmp_path):
    stopped(tmp_path)
    again = Desk(tmp_path)
    assert asleep(again)
    yield again
    again.close()


def test_events_of_before_and_of_while_it_slept_are_delivered_once_and_in_order(desk):
    desk.publish("plant/2", "elsewhere", "plant/3")
    assert asleep(desk)
    reader = Reader()
    consumer = consumer_of(desk)
    assert consumer.attach(reader) is None
    desk.run()
    assert not asleep(desk) and type(consumer) is Consumer
    desk.publish("plant/4")
    assert reader.topics == ["plant/1", "plant/2", "plant/3", "plant/4"]
    assert [delivery.attempts for delivery in reader.deliveries] == [1, 1, 1, 1]


def test_what_is_known_of_it_does_not_wake_it(desk):
    consumer = consumer_of(desk)
    assert (consumer.name, consumer.spec.name, consumer.identity) == ("mqtt/a", "mqtt/a", ANA)
    assert list(consumer.filters) == ["plant/+"] and not consumer.closed and not consumer.is_read
    assert "mqtt/a" in desk.router.consumers and desk.router.wanted == {"plant/+": 1}
    assert asleep(desk)


@pytest.mark.parametrize("act", [
    lambda consumer: consumer.pause(), lambda consumer: consumer.seek({}), lambda consumer: consumer.lag(),
    lambda consumer: setattr(consumer, "held", True),
])
def test_whatever_is_done_to_it_lasts(desk, act):
    consumer = consumer_of(desk)
    act(consumer)
    assert not asleep(desk)
    assert consumer.paused or consumer.held or consumer.generation or consumer.lag().events == 1


def test_a_pause_is_not_lost_by_waking(desk):
    consumer_of(desk).pause()
    assert consumer_of(desk).paused


def test_it_can_be_deleted_in_its_sleep(desk, tmp_path):
    consumer = consumer_of(desk)
    assert desk.router.delete_consumer("mqtt/a")
    desk.run()
    assert consumer.closed and not desk.router.wanted and "mqtt/a" not in desk.router.consumers
    desk.publish("plant/9")
    assert not [key for key, _ in desk.router.state.items("consumer-filter/")]


def test_all_are_awake_after_a_while(tmp_path):
    stopped(tmp_path, *(spec(f"mqtt/{number}", f"plant/{number}") for number in range(30)))
    desk = Desk(tmp_path)
    assert all(type(consumer) is Asleep for consumer in desk.router.consumers.values())
    assert list(desk.router.registry.awake()) == []
    desk.tick(0.1)                                          # the clock stands still, so one tick wakes them all
    assert all(type(consumer) is Consumer for consumer in desk.router.consumers.values())
    desk.close()


def test_quiet_ones_that_slept_are_not_taken_for_having_read_on(tmp_path):
    """The ends that stand for all quiet consumers are not stored while one sleeps that has not looked."""
    stopped(tmp_path)
    for _ in range(3):                                      # each start is killed in its sleep
        desk = Desk(tmp_path)
        desk.publish("plant/7")
        desk.store.close()
    desk = Desk(tmp_path)
    reader = Reader()
    consumer_of(desk).attach(reader)
    desk.run()
    assert reader.topics == ["plant/1", "plant/7", "plant/7", "plant/7"]
    desk.close()


def test_only_what_may_have_been_delivered_before_is_marked_as_a_repeat(tmp_path):
    desk = Desk(tmp_path)
    consumer = desk.router.open_consumer(spec(), ANA)
    reader = Reader()
    consumer.attach(reader)
    desk.publish("plant/1")
    desk.store.close()                                      # killed with somebody attached
    again = Desk(tmp_path)
    again.publish("plant/2")                                # while it sleeps
    late = Reader()
    consumer_of(again).attach(late)
    again.run()
    assert [(delivery.event.topic, delivery.attempts > 1) for delivery in late.deliveries] == [
        ("plant/1", True), ("plant/2", False)]
    again.close()


def test_a_stream_made_anew_in_its_sleep_is_read_from_its_start(tmp_path):
    stopped(tmp_path, spec("mqtt/a", "plant/+"), settings=[StreamSettings("events", ("shop/#",))])
    desk = Desk(tmp_path, [StreamSettings("events", ("shop/#",))])

    def make():
        desk.router.lifecycle.create(StreamSettings("plants", ("plant/#",)))
        desk.run()

    make()
    desk.publish("plant/1", "plant/2")
    desk.router.lifecycle.delete("plants")
    desk.run()
    make()
    desk.publish("plant/3")
    assert asleep(desk)
    reader = Reader()
    consumer_of(desk).attach(reader)
    desk.run()
    assert reader.topics == ["plant/3"]
    desk.close()


def test_what_no_stream_captures_is_kept_for_a_session_that_sleeps(tmp_path):
    settings = [StreamSettings("events", ("shop/#",))]
    stopped(tmp_path, settings=settings)
    desk = Desk(tmp_path, settings)
    consumer_of(desk).keep_untracked()
    assert asleep(desk)
    desk.publish("plant/5")
    reader = Reader()
    consumer_of(desk).attach(reader)
    desk.run()
    assert reader.topics == ["plant/5"]
    desk.close()


def test_rights_count_for_who_sleeps(tmp_path):
    stopped(tmp_path)
    desk = Desk(tmp_path)
    desk.router.logins.renew_owner = lambda identity: Identity("ana", (), "test", "ana-1", revoked=True)
    desk.publish("plant/2")
    reader = Reader()
    consumer_of(desk).attach(reader)
    desk.run()
    assert consumer_of(desk).identity.revoked and reader.topics == []
    desk.close()


@pytest.mark.parametrize("one", [
    ConsumerSpec("named", ("plant/+",)), ConsumerSpec("mqtt/b", ("plant/+",), start="earliest"),
    ConsumerSpec("mqtt/b", ("plant/+",), expires_s=60.0),
])
def test_others_are_awake_from_the_start(tmp_path, one):
    stopped(tmp_path, one)
    desk = Desk(tmp_path)
    assert not asleep(desk, one.name)
    desk.close()
