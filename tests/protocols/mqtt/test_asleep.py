"""After a start sessions sleep until their client comes; nobody can tell."""
import time

import msgspec
import pytest

from mesh.management.tables.deadletter_rows import deadletter_rows
from protocols.mqtt.sessions.asleep import AsleepSession
from protocols.mqtt.sessions.session import (
    SESSION_PREFIX,
    SUBSCRIPTION_PREFIX,
    FilterRequest,
    Session,
    StoredSession,
    StoredSubscription,
)
from protocols.mqtt.timers import RUN_MAX
from protocols.redrive import Redrives
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.registry.asleep import Asleep
from routing.consumers.registry.stored import CONSUMER, FILTER, ConsumerState, FilterState
from tests.support import rawmqtt as m
from tests.support.routing import ANA

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
    assert (row["in_flight"], row["qos2_open"], row["queued"]) == (0, 0, None)      # to count what waits would wake it
    assert type(reborn.server.sessions["c"]) is AsleepSession and type(reborn.router.consumers["mqtt/c"]) is Asleep
    reborn.tick(0.1)
    (woken,) = reborn.server.clients_snapshot()
    assert woken == {**row, "queued": 0}


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


def test_when_it_was_connected_it_is_away_from_the_start_on_not_from_when_it_wakes(broker):
    broker.client("c", **KEPT).subscribe("a")
    second = broker.crash()
    second.tick(5)
    third = second.crash(later_s=57)
    assert not third.client("c", **KEPT).connack.session_present
    third.store.close()


MANY = 20_000
STEP_MAX_S = 0.020          # of CPU


@pytest.fixture
def many(broker):
    """A node that was killed and has many sessions, all of which end at the same time."""
    state = broker.router.state
    for number in range(MANY):
        name, pattern = f"s{number}", f"plant/{number}"
        state.put(SESSION_PREFIX + name, msgspec.msgpack.encode(StoredSession(ANA.user, ANA.roles, 60, 0, [], None)))
        state.put(f"{SUBSCRIPTION_PREFIX}{name}\0{pattern}", msgspec.msgpack.encode(
            StoredSubscription(FilterRequest(pattern, 1, False, False, 0), None)))
        state.put(f"{CONSUMER}mqtt/{name}", msgspec.msgpack.encode(ConsumerState(ConsumerSpec(f"mqtt/{name}"), ANA)))
        state.put(f"{FILTER}mqtt/{name}\0{pattern}", msgspec.msgpack.encode(FilterState(0, [])))
    broker.run()
    again = broker.crash()
    assert sleeping(again) == (MANY, MANY)
    yield again
    again.store.close()


def sleeping(broker):
    return (sum(type(one) is AsleepSession for one in broker.server.sessions.values()),
            sum(type(one) is Asleep for one in broker.router.consumers.values()))


def longest_s(steps):
    """The CPU time of the longest step, and what they gave."""
    found, longest = [], 0.0
    while True:
        begun_s = time.thread_time()
        one = next(steps, StopIteration)
        longest = max(longest, time.thread_time() - begun_s)
        if one is StopIteration:
            return longest, found
        found.append(one)


@pytest.mark.measured
def test_lists_of_many_wake_none_and_have_short_steps_and_those_that_end_together_do_so_some_in_each_turn(many):
    longest, rows = longest_s(many.server.clients_snapshot())
    assert longest < STEP_MAX_S
    assert len(rows) == MANY and {row["subscriptions"] for row in rows} == {1}
    assert {row["client_id"] for row in rows} == {f"s{number}" for number in range(MANY)}
    longest, rows = longest_s(deadletter_rows(many.router, Redrives(many.router)))
    assert longest < STEP_MAX_S and rows == [None] * MANY
    assert sleeping(many) == (MANY, MANY)
    many.now_s += 61
    begun_s = time.thread_time()
    many.server.broker.tick(many.now_s)
    took_s = time.thread_time() - begun_s
    assert len(many.server.sessions) == MANY - RUN_MAX and took_s < STEP_MAX_S
    while len(many.server.sessions) > MANY - 5 * RUN_MAX:           # the others follow by themselves
        left = len(many.server.sessions)
        many.queue.popleft()()
        assert left - len(many.server.sessions) <= RUN_MAX
    assert sleeping(many) == (MANY - 5 * RUN_MAX, MANY - 5 * RUN_MAX)
    print(f"{RUN_MAX} sessions end in {1000 * took_s:.1f} ms of CPU")
