"""What a connection leaves behind when it is over: nothing that waits for a garbage collection or for a deadline."""
from __future__ import annotations

import gc

import pytest

from protocols.mqtt.connection import MqttConnection
from protocols.mqtt.timers import DEAD_MIN, Deadlines, Due
from routing.consumers.consumer import Consumer
from tests.support.rawmqtt import connect_packet, publish_packet, subscribe_packet

SUBSCRIBE = subscribe_packet(1, [("a/#", 1), ("b", 0)], version=4)
PUBLISH = publish_packet("a/b", b"x", qos=1, packet_id=3, version=4) + publish_packet("b", b"y", version=4)
KINDS = {"nothing": b"", "subscribes": SUBSCRIBE, "publishes": PUBLISH, "both": SUBSCRIBE + PUBLISH,
         "live": subscribe_packet(1, [("a/+", 0)], version=4) + PUBLISH, "a fault": SUBSCRIBE + PUBLISH + b"\xf0\x00"}


def left():
    """By reference counting alone: no collection has run."""
    return [found for found in gc.get_objects() if isinstance(found, (MqttConnection, Consumer))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_alive", [0, 65_535])
def test_a_connection_is_freed_when_it_is_over(make_broker, kind, keep_alive):
    """200,000 connects were 340 MiB until a full collection, which held the loop for 3.2 s."""
    broker = make_broker()
    gc.collect()
    gc.disable()
    try:
        before = len(left())
        for number in range(3):
            client = broker.client()
            client.feed(connect_packet(f"c{number}", version=4, keep_alive_s=keep_alive) + KINDS[kind])
            client.lose()
            client.channel.handler = client.handler = None      # a real channel lets go, too
        broker.run()
        assert len(left()) == before
    finally:
        gc.enable()


def test_deadlines_of_those_who_have_gone_do_not_pile_up():
    deadlines = Deadlines()
    called = []
    for number in range(20 * DEAD_MIN):
        due = Due(called.append)
        deadlines.add(1e6 + number, due)
        if number % 1_000:
            deadlines.forget(due)
            deadlines.forget(due)
    assert len(deadlines) < 3 * DEAD_MIN
    while deadlines.run(1e9):
        pass
    assert len(called) == 20
