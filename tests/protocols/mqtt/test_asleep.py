"""After a start sessions sleep until their client comes; nobody can tell."""
import pytest

from protocols.mqtt.sessions.asleep import AsleepSession
from protocols.mqtt.sessions.session import Session
from tests.support import rawmqtt as m

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 60)]}


@pytest.fixture
def reborn(broker):
    """A node that was killed and has one session, of a client that is away."""
    client = broker.client("c", **KEPT)
    client.subscribe(("plant/+", 1))
    client.lose()
    broker.run()
    again = broker.crash()
    assert type(again.server.sessions["c"]) is AsleepSession
    yield again
    again.store.close()


def test_its_client_gets_what_came_while_it_slept(reborn):
    reborn.client("w").publish("plant/1", b"x", qos=1)
    assert type(reborn.server.sessions["c"]) is AsleepSession
    client = reborn.client("c", **KEPT)
    assert client.connack.session_present and [one.payload for one in client.rest] == [b"x"]
    assert type(reborn.server.sessions["c"]) is Session


def test_figures_do_not_wake_it(reborn):
    session = reborn.server.sessions["c"]
    assert session.subscription_count == 1 and session.connection is None and session.persistent
    assert type(session) is AsleepSession


def test_a_row_of_it_is_whole(reborn):
    (row,) = reborn.server.clients_snapshot()
    assert (row["client_id"], row["subscriptions"], row["session_expiry_s"], row["connected"]) == ("c", 1, 60, False)


def test_it_expires_in_its_sleep(reborn):
    reborn.tick(61)
    assert not reborn.server.sessions and not list(reborn.router.consumers)
    assert not list(reborn.router.state.items("mqtt/"))


def test_it_ends_with_its_consumer(reborn):
    assert reborn.router.delete_consumer("mqtt/c")
    reborn.server.consumer_deleted("mqtt/c")
    assert not reborn.server.sessions


def test_a_clean_start_ends_it(reborn):
    client = reborn.client("c", clean=True)
    assert not client.connack.session_present
    assert not reborn.server.sessions["c"].subscriptions.by_pattern and "mqtt/c" not in reborn.router.consumers


def test_it_is_awake_after_a_tick(reborn):
    reborn.tick(0.1)
    assert type(reborn.server.sessions["c"]) is Session


def test_one_that_was_connected_is_away_from_the_start_on_over_restarts_too(broker):
    broker.client("c", **KEPT).subscribe("a")
    second = broker.crash()
    assert type(second.server.sessions["c"]) is AsleepSession
    second.tick(0.1)                                        # which stores that it is away
    third = second.crash(later_s=61)
    assert not third.client("c", **KEPT).connack.session_present
    third.store.close()


@pytest.mark.parametrize("how", ["will", "group", "qos 2"])
def test_who_has_something_to_do_does_not_sleep(broker, how):
    options = {"will": m.Will("w", b"x")} if how == "will" else {}
    client = broker.client("c", **KEPT, **options)
    if how == "group":
        client.subscribe(("$share/g/plant/+", 1))
    if how == "qos 2":
        client.publish("plant/1", b"x", qos=2, packet_id=7)
    again = broker.crash()
    assert type(again.server.sessions["c"]) is Session
    again.store.close()
