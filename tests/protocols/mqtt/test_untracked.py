"""Topics that no stream captures: what was acked is kept for a session until it acks, or is counted."""
from __future__ import annotations

import pytest

from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.settings import Limits, StreamSettings
from tests.protocols.mqtt.harness import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL
from tests.support import rawmqtt as m

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


@pytest.fixture
def bare(make_broker):
    """Nothing but orders/# is captured."""
    return make_broker(settings=[StreamSettings("orders", ("orders/#",))], limits=Limits(untracked_bytes_max=10_000))


def received(client):
    return [(one.payload, one.packet_id, one.dup) for one in client.take() if one.kind == PUBLISH]


@pytest.mark.parametrize("pattern", ["a", "$share/g/a"])
@pytest.mark.parametrize("qos", [1, 2])
def test_receive_maximum_1_gets_all_of_ten_in_order(bare, qos, pattern):
    reader = bare.client("r", values=[(m.RECEIVE_MAXIMUM, 1)])
    reader.subscribe((pattern, qos))
    writer = bare.client("w")
    for number in range(10):
        writer.publish("a", b"%d" % number, qos=qos)
    got = []
    while found := received(reader):
        ((payload, packet_id, dup),) = found
        assert not dup
        got.append(payload)
        if qos == 1:
            reader.ack(PUBACK, packet_id)
        else:
            reader.ack(PUBREC, packet_id)
            assert [one.kind for one in reader.take()] == [PUBREL]
            reader.ack(PUBCOMP, packet_id)
    assert got == [b"%d" % number for number in range(10)]
    (consumer,) = bare.router.consumers.values()
    assert len(consumer.untracked) == consumer.untracked.bytes == consumer.in_flight_bytes == 0
    assert consumer.dropped == 0


def test_a_session_that_is_away_gets_them_when_it_comes_back(bare):
    reader = bare.client("r", **KEPT)
    reader.subscribe(("a", 1), ("orders/#", 1))
    writer = bare.client("w")
    writer.publish("a", b"0", qos=1)
    writer.publish("a", b"1", qos=1)
    first = received(reader)
    assert [payload for payload, _, _ in first] == [b"0", b"1"]
    reader.ack(PUBACK, first[0][1])
    reader.lose()
    writer.publish("a", b"2", qos=1)
    writer.publish("a", b"live only", qos=0)
    writer.publish("orders/1", b"3", qos=1)
    reader = bare.client("r", **KEPT)
    reader.stash = reader.rest
    found = received(reader)
    assert (b"1", first[1][1], True) in found               # [MQTT-4.4.0-1] under its old id
    assert [(payload, dup) for payload, _, dup in found if payload != b"3"] == [(b"1", True), (b"2", False)]
    assert (b"3", False) in [(payload, dup) for payload, _, dup in found]
    for _, packet_id, _ in found:
        reader.ack(PUBACK, packet_id)
    assert len(bare.server.sessions["r"].consumer.untracked) == 0
    assert not bare.server.sessions["r"].unacked


def test_what_it_keeps_is_bounded_and_the_rest_is_counted(bare):
    reader = bare.client("r", **KEPT)
    reader.subscribe(("a", 1))
    reader.lose()
    writer = bare.client("w")
    for _ in range(20):
        writer.publish("a", b"x" * 1_000, qos=1)
    consumer = bare.server.sessions["r"].consumer
    assert len(consumer.untracked) == 9 and consumer.untracked.bytes <= 10_000
    assert consumer.dropped == 11
    reader = bare.client("r", **KEPT)
    reader.stash = reader.rest
    assert len(received(reader)) == 9


def test_what_is_not_wanted_or_not_allowed_any_more_is_not_kept(bare):
    reader = bare.client("r", values=[(m.RECEIVE_MAXIMUM, 1)])
    reader.subscribe(("a", 1), ("b", 1), ("c", 1))
    writer = bare.client("w")
    for topic in "aabbcc":
        writer.publish(topic, b"1", qos=1)
    ((_, packet_id, _),) = received(reader)
    reader.unsubscribe("b")
    bare.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("c",))])
    reader.ack(PUBACK, packet_id)
    ((payload, packet_id, _),) = received(reader)
    assert payload == b"1"
    reader.ack(PUBACK, packet_id)
    assert received(reader) == []
    (consumer,) = bare.router.consumers.values()
    assert consumer.untracked.bytes == 0


def test_they_go_with_the_session(bare):
    reader = bare.client("r", **KEPT)
    reader.subscribe(("a", 1))
    reader.lose()
    bare.client("w").publish("a", b"1", qos=1)
    account = bare.server.sessions["r"].consumer.account
    assert account.bytes > 0
    bare.client("r")
    assert account.bytes == 0
