"""What a client pays for a change of its subscriptions is what it changes; how much it may have is bounded in bytes."""
from __future__ import annotations

import random

import msgspec
import pytest

from protocols.mqtt.codec.filters import parse_share
from protocols.mqtt.codec.packets import FilterRequest
from protocols.mqtt.sessions.session import SESSION_PREFIX, SUBSCRIPTION_PREFIX, StoredSubscription, subscription_key
from protocols.mqtt.sessions.subscriptions import MqttSubscription, SubscriptionSet
from protocols.mqtt.settings import MqttSettings
from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.topic import filter_matches
from tests.protocols.mqtt.harness import NO_LOCAL, PUBLISH
from tests.support import rawmqtt as m

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def written_bytes(broker):
    """What the state table has put into its log so far."""
    found = broker.router.state._partition.scan(0, lambda _: True, max_events=10**6, max_scanned=10**6)
    return sum(len(event.topic) + len(event.payload) for event in found.events)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_subscribe_beside_ten_thousand_writes_a_few_hundred_bytes(make_broker, qos):
    broker = make_broker(mqtt=MqttSettings(subscriptions_max=10_001))
    client = broker.client("c", **KEPT)
    client.subscribe(*[(f"f/{number}/+", qos) for number in range(10_000)])
    before = written_bytes(broker)
    client.subscribe(("one/more", qos))
    client.subscribe(("f/5/+", qos))
    client.unsubscribe("f/7/+")
    assert written_bytes(broker) - before < 2_000
    reborn = broker.crash()
    session = reborn.server.sessions["c"]
    assert set(session.subscriptions.by_pattern) == {"one/more", *(f"f/{n}/+" for n in range(10_000) if n != 7)}
    client = reborn.client("c", clean=True)
    assert not list(reborn.router.state.items(SUBSCRIPTION_PREFIX))
    assert reborn.router.trie.count == 0
    reborn.store.close()


def test_a_change_of_options_is_stored(broker):
    client = broker.client("c", **KEPT)
    client.subscribe(("a", 0))
    client.subscribe(("a", 2 | NO_LOCAL), values=[(m.SUBSCRIPTION_ID, 7)])
    found = broker.crash().server.sessions["c"].subscriptions.by_pattern["a"]
    assert (found.qos, found.no_local, found.identifier) == (2, True, 7)


def test_one_filter_over_and_over_changes_no_route(broker):
    """Every other client's routes were worked out anew after each of them."""
    client, writer = broker.client("c"), broker.client("w")
    for options in (0, 1):
        client.subscribe(("#", options))
        generation = broker.router.routes.generation
        for identifier in range(1, 20):
            client.subscribe(("#", options), values=[(m.SUBSCRIPTION_ID, identifier)])
        assert broker.router.routes.generation == generation
        writer.publish("a", b"1", qos=1)
        (got,) = [one for one in client.take() if one.kind == PUBLISH]
        assert got.all(m.SUBSCRIPTION_ID) == [19]
    assert broker.router.trie.count == 1


def test_a_filter_that_is_not_allowed_any_more_is_not_granted_again(broker):
    client = broker.client("c")
    for options in (0, 1):
        broker.router.apply_rules([ALLOW_ALL])
        assert client.subscribe(("a", options), ("$share/g/a", options)).codes == [options] * 2
        broker.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("a",))])
        assert client.subscribe(("a", options), ("$share/g/a", options)).codes == [0x87] * 2


def test_filters_are_bounded_in_bytes(make_broker):
    broker = make_broker(mqtt=MqttSettings(subscription_bytes_max=1_000))
    client, old = broker.client("c"), broker.client("old", 4)
    codes = client.subscribe(*[(f"{number:02}" + "x" * 98, 1) for number in range(12)]).codes
    assert codes == [1] * 10 + [0x97] * 2
    assert client.subscribe(("00" + "x" * 98, 0)).codes == [0]              # it is there already
    assert client.subscribe(("\u00e9", 0)).codes == [0x97]
    client.unsubscribe("00" + "x" * 98)
    assert client.subscribe(("\u00e9" * 50, 0), ("a", 0)).codes == [0, 0x97]
    assert old.subscribe(("x" * 1_001, 1)).codes == [0x80]


def test_deep_filters_are_all_matched(broker):
    """See tests/routing/test_filter_trie.py for what that costs."""
    client = broker.client("c")
    patterns = [("/".join(f"{'+' if number >> bit & 1 else 'a'}" for bit in range(12)) + "/a/+" * 8, 1)
                for number in range(4_096)]
    assert set(client.subscribe(*patterns).codes) == {1}
    (consumer,) = broker.router.consumers.values()
    topic = "/".join("a" * 28)
    assert len(consumer.interest.matching(topic)) == len(broker.router.trie.match(topic)) == 4_096
    session = broker.server.sessions["c"]
    assert len(session.subscriptions.matching(topic)) == 4_096


def test_sessions_of_older_builds_are_read(broker):
    client = broker.client("c", **KEPT)
    client.subscribe("new")
    key = SESSION_PREFIX + "c"
    old = msgspec.msgpack.decode(broker.router.state.get(key))
    old[4] = [StoredSubscription(FilterRequest("old/#", 1), None)]
    broker.router.state.put(key, msgspec.msgpack.encode(old))
    broker.run()
    for _ in range(2):
        broker = broker.crash()
        assert set(broker.server.sessions["c"].subscriptions.by_pattern) == {"old/#", "new"}
        broker.run()
        client = broker.client("c", **KEPT)                 # the record is written anew
    client.unsubscribe("old/#")
    assert set(broker.crash().server.sessions["c"].subscriptions.by_pattern) == {"new"}


def test_what_a_crash_left_of_a_session_that_ended_goes(broker):
    broker.router.state.put(subscription_key("gone", "a"), msgspec.msgpack.encode(
        StoredSubscription(FilterRequest("a", 1), None)))
    broker.run()
    reborn = broker.crash()
    assert not list(reborn.router.state.items(SUBSCRIPTION_PREFIX)) and not reborn.server.sessions
    reborn.store.close()


@pytest.mark.parametrize("seed", range(30))
def test_plans_are_right_after_every_change(seed):
    """Against a look at all filters, with few and with many of them."""
    dice = random.Random(seed)
    levels = ["a", "b", "+"]
    subscriptions = SubscriptionSet("c")
    truth: dict[str, MqttSubscription] = {}
    for _ in range(200):
        pattern = "/".join(dice.choices(levels, k=dice.randint(1, 3))) + dice.choice(["", "/#"])
        pattern = dice.choice(["", "$share/g/"]) + pattern
        if dice.random() < 0.4 and truth:
            pattern = dice.choice(list(truth))
            assert subscriptions.remove(pattern) is truth.pop(pattern)
        else:
            request = FilterRequest(pattern, dice.randint(0, 2), "$" not in pattern and dice.random() < 0.2,
                                    dice.random() < 0.3)
            truth[pattern] = MqttSubscription(request, dice.choice([None, 5]), parse_share(pattern))
            subscriptions.add(truth[pattern])
        topic, own = "/".join(dice.choices(["a", "b"], k=dice.randint(1, 4))), dice.random() < 0.3
        fits = [one for one in truth.values() if one.share is None and filter_matches(one.pattern, topic)
                and not (own and one.no_local)]
        if subscriptions.single is not None:                # the only filter there is answers for every topic
            assert len(truth) == 1
            continue
        plan = subscriptions.plan(topic, own)
        assert (plan is None) == (not fits)
        if plan is not None:
            assert plan.qos == max(one.qos for one in fits)
            assert plan.retain_as_published == any(one.retain_as_published for one in fits)
            assert len(plan.id_bytes) == 2 * sum(one.identifier is not None for one in fits)
    assert subscriptions.text_bytes == sum(map(len, truth))


@pytest.mark.parametrize("qos", [0, 1])
def test_a_session_of_ten_thousand_filters_goes_in_steps(make_broker, qos):
    """Its filters leave the trie some at a time; nothing that comes meanwhile does harm, and nothing is left."""
    broker = make_broker(mqtt=MqttSettings(subscriptions_max=10_001))
    client, other = broker.client("c"), broker.client("other")
    client.subscribe(*[(f"f/{number}/+", qos) for number in range(10_000)])
    client.disconnect()
    assert broker.router.wanted == {} and not broker.router.routes._topics

    again = broker.client("c")
    again.subscribe(*[(f"f/{number}/+", qos) for number in range(10_000)])
    steps, remove = [], broker.router.trie.remove

    def counted(pattern, entry):
        steps[-1] += 1
        return remove(pattern, entry)

    broker.router.trie.remove = counted
    steps.append(0)
    again.feed(b"\xe0\x00", run=False)
    while broker.queue:
        steps.append(0)
        other.publish("f/9999/x", b"1", run=False)
        for _ in range(len(broker.queue)):
            broker.queue.popleft()()
        if len(steps) > 30:
            break
    assert sum(steps) == 10_000 and max(steps) <= 500
    broker.run()
    assert broker.router.wanted == {} and not broker.router.routes._topics
