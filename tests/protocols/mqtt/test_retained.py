"""Retained events are given bit by bit and whatever happens meanwhile: all of them, once, nothing stale.

[MQTT-3.3.1-9] [MQTT-3.3.4-9]; that what waits is part of the session's state: MQTT 5 §4.1.
"""
import time

import pytest

from protocols.mqtt.delivery.outbound import STEP_EVENTS
from routing.event import Event
from routing.rights.policy import ALLOW_ALL, Action, Rule
from tests.protocols.mqtt.harness import PUBACK, PUBCOMP, PUBLISH, PUBREC, RETAIN_AS_PUBLISHED, subscribe_packet
from tests.support import rawmqtt as m

ONE = [(m.SESSION_EXPIRY, 1000), (m.RECEIVE_MAXIMUM, 1)]


def keep(broker, count, qos=1, prefix="t"):
    broker.publish(*(Event(f"{prefix}/{number:05}", b"%d" % number, qos, retain=True) for number in range(count)))


def drain(client):
    """All that comes, answered one after the other."""
    got, todo = [], client.take()
    while todo:
        one = todo.pop(0)
        if one.kind == PUBLISH:
            got.append(one)
            if one.qos:
                client.ack(PUBACK if one.qos == 1 else PUBREC, one.packet_id)
        elif one.kind == m.PUBREL:
            client.ack(PUBCOMP, one.packet_id)
        todo += client.take()
    return got


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("end", ["stops", "crash"])
def test_what_was_not_sent_when_the_node_went_down_is_sent_afterwards(make_broker, qos, end):
    broker = make_broker()
    keep(broker, 50, qos)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", qos))
    first = reader.one(PUBLISH)
    if end == "stops":
        broker.server.shutdown()
        broker.router.close()
        broker.run()
    reborn = broker.crash()
    reader = reborn.client()
    assert reader.connect("r", clean=False, values=ONE).session_present
    reader.stash = reader.rest
    got = drain(reader)
    assert {one.payload for one in got} == {b"%d" % number for number in range(50)}
    assert all(one.retain for one in got)
    if qos == 2 or end == "stops":
        assert len(got) == 50 and got[0].packet_id == first.packet_id and got[0].dup
    reborn.tick(1.1)
    assert not list(reborn.router.state.items("mqtt/retained/"))
    reborn.store.close()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_session_that_leaves_right_after_its_suback_gets_them_when_it_comes_back(broker, qos):
    keep(broker, 30, 2)
    reader = broker.client("r", clean=False, values=ONE)
    reader.feed(subscribe_packet(1, [("t/#", qos)]), run=False)
    while m.SUBACK << 4 not in reader.channel.sent:
        broker.queue.popleft()()
    reader.lose()
    got = []
    while True:
        reader = broker.client()
        reader.connect("r", clean=False, values=ONE)
        reader.stash = reader.rest
        more = drain(reader)
        got += more
        reader.lose()
        if not more:
            break
    if qos:
        assert sorted(one.payload for one in got) == sorted(b"%d" % number for number in range(30))


def test_a_replaced_one_comes_live_only_and_a_removed_one_not_at_all(broker):
    keep(broker, 4)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", RETAIN_AS_PUBLISHED | 1))
    first = reader.one(PUBLISH)
    writer = broker.client("w")
    writer.publish("t/00001", b"newer", qos=1, retain=True)
    writer.publish("t/00002", b"", qos=1, retain=True)
    writer.publish("t/00009", b"new", qos=1, retain=True)
    reader.ack(PUBACK, first.packet_id)
    got = [first, *drain(reader)]
    assert sorted((one.topic, one.payload) for one in got) == [
        ("t/00000", b"0"), ("t/00001", b"newer"), ("t/00002", b""), ("t/00003", b"3"), ("t/00009", b"new")]


def test_a_place_that_was_kept_over_a_restart_tells_live_from_retained(make_broker):
    broker = make_broker()
    keep(broker, 3)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", 1))
    reader.one(PUBLISH)
    broker.client("w").publish("t/00002", b"newer", qos=1, retain=True)
    reborn = broker.crash()
    reader = reborn.client()
    reader.connect("r", clean=False, values=ONE)
    reader.stash = reader.rest
    got = [(one.payload, one.retain) for one in drain(reader)]
    assert sorted(set(got)) == [(b"0", True), (b"1", True), (b"newer", False)] and len(got) == 3
    reborn.store.close()


def test_rights_count_when_it_is_sent(make_broker):
    broker = make_broker()
    keep(broker, 3)
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 1)])
    reader.subscribe(("t/#", 1))
    first = reader.one(PUBLISH)
    broker.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("t/00001",))])
    reader.ack(PUBACK, first.packet_id)
    assert [one.topic for one in drain(reader)] == ["t/00002"]


def test_what_was_sent_and_not_answered_is_not_sent_again_to_who_may_not_read_it_any_more(broker):
    keep(broker, 1)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", 1))
    reader.one(PUBLISH)
    reader.lose()
    broker.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("t/00000",))])
    reader = broker.client()
    reader.connect("r", clean=False, values=ONE)
    assert reader.rest == [] and drain(reader) == []


def test_an_unsubscribe_ends_the_answer_for_good(make_broker):
    broker = make_broker()
    keep(broker, 20)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", 1))
    first = reader.one(PUBLISH)
    reader.unsubscribe("t/#")
    reader.ack(PUBACK, first.packet_id)
    assert drain(reader) == []
    reborn = broker.crash()
    reader = reborn.client()
    reader.connect("r", clean=False, values=ONE)
    assert [one.payload for one in drain(reader)] in ([], [b"0"])
    reborn.store.close()


def test_the_end_of_a_session_leaves_nothing_stored(broker):
    keep(broker, 20)
    reader = broker.client("r", clean=False, values=ONE)
    reader.subscribe(("t/#", 1), ("t/+", 1))
    reader.lose()
    assert len(list(broker.router.state.items("mqtt/retained/"))) == 2
    broker.client("r", clean=True)
    assert not list(broker.router.state.items("mqtt/retained/"))


# -- work and memory


@pytest.mark.measured
def test_answers_take_turns_of_bounded_work(broker):
    """One who asks for everything, again and again, keeps nobody waiting and holds no lists."""
    keep(broker, 20 * STEP_EVENTS)
    greedy = broker.client("g")
    greedy.handler.receive_data(b"".join(
        subscribe_packet(number + 1, [("/".join(["+"] * (number % 2) + ["#"]), 0)]) for number in range(400)),
        broker.now_s)
    modest = broker.client()
    modest.handler.receive_data(m.connect_packet("m", version=5), broker.now_s)
    modest.handler.receive_data(subscribe_packet(1, [("t/00007", 0)]), broker.now_s)
    turns = 0
    while b"t/00007" not in modest.channel.sent:
        broker.queue.popleft()()
        turns += 1
    assert turns < 60, "the other is served between the steps of the greedy one"
    assert len(greedy.channel.sent) < 60 * STEP_EVENTS * 40
    worst = 0.0
    while broker.queue:
        began_s = time.thread_time()
        broker.queue.popleft()()
        worst = max(worst, time.thread_time() - began_s)
    assert worst < 0.05
    sent = sum(one.kind == PUBLISH for one in greedy.take())
    assert 0 <= sent - 2 * 20 * STEP_EVENTS <= 10 * STEP_EVENTS, "once per filter, and a few before it asked again"


def test_a_slow_client_that_asks_for_everything_costs_a_place_per_filter(broker):
    keep(broker, 5_000)
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 1)])
    for number in range(50):
        reader.feed(subscribe_packet(number + 1, [("#", 1)]))
    assert sum(one.kind == PUBLISH for one in reader.take()) == 1
    assert len(reader.handler.session.owned) == 1 and len(reader.handler.session.retained._of) == 1


def test_an_ack_costs_no_walk(broker, monkeypatch):
    """With a window of one each PUBACK looks at a few topics, not at all of them."""
    keep(broker, 3_000)
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 1)])
    reader.subscribe(("#", 1))
    first = reader.one(PUBLISH)
    looks = []
    find = broker.router.retained.tree.find
    monkeypatch.setattr(broker.router.retained.tree, "find", lambda pattern, place, events_max, looks_max: (
        looks.append(events_max), find(pattern, place, events_max, looks_max))[1])
    reader.ack(PUBACK, first.packet_id)
    assert looks == [1]
