"""A packet of many filters, and a session of many, are worked off in slices; the order of packets stands."""
from __future__ import annotations

import pytest

from tests.protocols.mqtt.harness import CONNACK, PINGRESP, PUBACK, SUBACK, UNSUBACK
from tests.support import rawmqtt as m
from tests.support.rawmqtt import publish_packet, subscribe_packet, unsubscribe_packet

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


@pytest.fixture
def ticking(broker):
    """Each look at the clock takes 0.3 ms, so a slice has about seven steps."""
    turns = broker.router.turns

    def clock_s():
        broker.now_s += 0.0003
        return broker.now_s

    turns.clock_s = clock_s
    return broker


def turns_of(broker):
    """Run the loop; how many turns it took."""
    count = 0
    while broker.queue:
        for _ in range(len(broker.queue)):
            broker.queue.popleft()()
        count += 1
    return count


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("options", [{}, KEPT])
def test_many_filters_take_many_turns_and_what_follows_waits(ticking, options, qos):
    client = ticking.client("c", **options)
    filters = [f"f/{number}" for number in range(100)]
    client.feed(
        subscribe_packet(1, [(name, qos) for name in filters]) + publish_packet("f/99", b"x", qos=1, packet_id=2)
        + unsubscribe_packet(3, filters) + b"\xc0\x00", run=False)
    assert client.channel.paused
    assert turns_of(ticking) > 10
    assert not client.channel.paused
    found = client.take()
    kinds = [one.kind for one in found if one.kind != m.PUBLISH]
    assert kinds.index(SUBACK) == 0 and set(kinds) == {SUBACK, PUBACK, UNSUBACK, PINGRESP}
    assert [one.payload for one in found if one.kind == m.PUBLISH] == [b"x"]
    assert len(found[0].codes) == 100 and not ticking.server.sessions["c"].subscriptions.by_pattern
    assert ticking.router.trie.count == 0


@pytest.mark.parametrize("when", ["subscribe", "resume"])
def test_a_connection_that_goes_in_between_leaves_nothing_behind(ticking, when):
    client = ticking.client("c", **KEPT)
    pairs = [(f"f/{number}", 0) for number in range(100)]
    client.feed(subscribe_packet(1, pairs), run=False)
    if when == "resume":
        client.take()
        client.lose()
        client = ticking.client(version=5)
        client.channel.bring(m.connect_packet("c", **KEPT))
        for _ in range(5):
            ticking.queue.popleft()()
    client.channel.closed = True
    client.handler.eof()
    ticking.run()
    assert ticking.router.trie.count == 0
    client = ticking.client(version=5)
    assert client.connect("c", **KEPT).session_present
    ticking.run()
    there = set(ticking.server.sessions["c"].subscriptions.by_pattern)
    assert ticking.router.trie.count == len(there) == (100 if when == "resume" else len(there))
    assert there == set(ticking.crash().server.sessions["c"].subscriptions.by_pattern)


def test_a_session_goes_on_in_slices_and_its_packets_wait(ticking):
    client = ticking.client("c", **KEPT)
    client.subscribe(*[(f"f/{number}", 0) for number in range(100)])
    client.lose()
    client = ticking.client(version=5)
    client.channel.bring(m.connect_packet("c", **KEPT) + publish_packet("f/99", b"mine", qos=0))
    assert turns_of(ticking) > 10
    found = client.take()
    assert [one.kind for one in found] == [CONNACK, m.PUBLISH]


def test_a_fault_of_ours_ends_the_connection_only(ticking, monkeypatch):
    client, other = ticking.client("c"), ticking.client("o")
    client.feed(subscribe_packet(1, [(f"f/{number}", 0) for number in range(100)]), run=False)

    def fault(pattern, entry):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(ticking.router.trie, "add", fault)
    ticking.run()
    assert client.closed and client.take()[-1].code == 0x80
    monkeypatch.undo()
    assert other.ping()[0].kind == PINGRESP
    assert ticking.router.trie.count == 0
