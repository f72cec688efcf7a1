"""Clients that read nothing: one bound for what all of them hold of live events, and nobody else pays for it."""
from __future__ import annotations

import pytest

from protocols.mqtt.settings import MqttSettings
from tests.protocols.mqtt.harness import PUBLISH

KIB = 1024


@pytest.fixture
def small(make_broker):
    return make_broker(mqtt=MqttSettings(unsent_bytes_max=400 * KIB, write_buffer_drop_bytes=100 * KIB))


def stalled(broker, count):
    found = []
    for number in range(count):
        client = broker.client(f"stalled-{number}", 4 + number % 2)
        client.subscribe(("flood/#", 0))
        client.channel.stuck = True
        found.append(client)
    return found


def held(clients):
    return [client.channel.buffered for client in clients]


@pytest.mark.parametrize("payload", [100, 20_000])
def test_many_that_read_nothing_share_one_bound(small, payload):
    """1,000 of them were 2 GB."""
    clients = stalled(small, 40)
    reader, writer = small.client("reader"), small.client("writer")
    reader.subscribe(("flood/#", 0))
    count = 0
    for number in range(3_000 * 100 // payload + 20):
        writer.publish(f"flood/{number % 3}", b"x" * payload)
        count += len(reader.payloads())
    assert count == 3_000 * 100 // payload + 20             # who reads gets everything
    assert sum(held(clients)) <= 400 * KIB + 40 * (payload + 100)       # the last one written to each
    assert max(held(clients)) - min(held(clients)) <= 100 * KIB
    assert small.server.counters.dropped["slow subscriber"] > 0


def test_one_that_reads_nothing_has_the_room_it_always_had(small):
    (client,) = stalled(small, 1)
    writer = small.client("writer")
    for _ in range(200):
        writer.publish("flood", b"x" * 1_000)
    assert 99 * KIB < client.channel.buffered < 103 * KIB


def test_room_comes_back_when_they_read_on_or_leave(small):
    clients = stalled(small, 20)
    writer = small.client("writer")
    for _ in range(200):
        writer.publish("flood", b"x" * 1_000)
    assert len(small.server.broker.unsent) == 20 and small.server.broker.unsent.total > 300 * KIB
    for client in clients[:10]:
        client.lose()
    assert len(small.server.broker.unsent) == 10
    for client in clients[10:]:
        client.channel.unstick()
    small.tick(0.1)
    assert len(small.server.broker.unsent) == small.server.broker.unsent.total == 0
    clients[10].take()
    writer.publish("flood", b"again")
    assert clients[10].payloads() == [b"again"]


@pytest.mark.parametrize("version", [4, 5])
def test_a_large_event_is_one_frame_for_all(broker, version):
    """Each socket had a copy of its own."""
    readers = [broker.client(f"r{number}", version) for number in range(3)]
    written = []
    for reader in readers:
        reader.subscribe(("a", 0), ("b", 0))
        write = reader.channel.write
        reader.channel.write = lambda data, write=write: (written.append(data), write(data))
    writer = broker.client("w")
    writer.publish("b", b"1", run=False)
    writer.publish("a", b"x" * 100_000, run=False)
    writer.publish("b", b"2")
    large = [data for data in written if len(data) > 50_000]
    assert len(large) == 3 and len({id(data) for data in large}) == 1
    for reader in readers:
        assert [(one.topic, len(one.payload)) for one in reader.take() if one.kind == PUBLISH] == [
            ("b", 1), ("a", 100_000), ("b", 1)]
    assert not broker.server.broker.large_frames._frames
    assert broker.server.counters.publishes_out == 9
