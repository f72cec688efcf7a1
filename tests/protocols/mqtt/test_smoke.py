"""The shortest way through: connect, subscribe, publish."""
from __future__ import annotations

import pytest

from tests.protocols.mqtt.harness import PUBACK, PUBLISH


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("sent", "granted", "got"), [
    (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_the_lower_qos_of_the_two_is_delivered(broker, version, sent, granted, got):
    """[MQTT-3.3.4-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-3.8.4-8]"""
    reader = broker.client("reader", version)
    assert reader.subscribe(("a/#", granted)).codes == [granted]
    writer = broker.client("writer", version)
    writer.publish("a/b", b"hello", qos=sent)
    found = reader.one(PUBLISH)
    assert (found.topic, found.payload, found.qos, found.dup, found.retain) == ("a/b", b"hello", got, False, False)
    assert (found.packet_id > 0) == (got > 0)


def test_qos1_is_acked_only_after_the_append_is_durable(broker):
    writer = broker.client("writer")
    number = writer.publish("a", b"x", qos=1, run=False)
    assert not writer.channel.sent
    broker.run()
    assert writer.one(PUBACK).packet_id == number
