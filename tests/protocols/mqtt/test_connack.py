"""CONNACK comes when what it promises is durable, and what the client sent meanwhile is taken afterwards, in order."""
from __future__ import annotations

import errno

import pytest

from routing.log.fs import RealFileSystem
from tests.protocols.mqtt.harness import (
    CONNACK,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    Client,
    SlowDisk,
    Will,
    connect_packet,
    publish_packet,
    subscribe_packet,
)
from tests.support import rawmqtt as m
from tests.support.disk import FaultyFileSystem

PERSISTENT = {4: {"clean": False}, 5: {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}}
LATER = [(m.WILL_DELAY, 5)]


@pytest.fixture
def disk():
    return SlowDisk()


@pytest.fixture
def files():
    return FaultyFileSystem(RealFileSystem())


@pytest.fixture
def slow(make_broker, disk, files):
    broker = make_broker(spawn_writer=disk, fs=files)
    yield broker
    files.faults.clear()
    disk.close()


def dial(broker, client_id="c", version=5, more=b"", **options):
    """CONNECT and what follows it in the same read; the disk has done nothing yet."""
    client = Client(broker, version)
    client.feed(connect_packet(client_id, version=version, **{**PERSISTENT[version], **options}) + more)
    return client


def kinds(client):
    return [one.kind for one in client.take()]


@pytest.mark.parametrize("version", [4, 5])
def test_a_new_persistent_session_is_durable_before_its_connack(slow, disk, version):
    client = dial(slow, version=version)
    assert kinds(client) == []
    assert client.channel.paused
    disk.work(slow)
    assert kinds(client) == [CONNACK]
    assert not client.channel.paused
    assert dial(slow.crash(), version=version).handler.session is not None


@pytest.mark.parametrize("version", [4, 5])
def test_a_clean_session_does_not_wait(slow, version):
    options = {"clean": True} if version == 4 else {"clean": True, "values": []}
    assert kinds(dial(slow, version=version, **options)) == [CONNACK]


def test_what_is_sent_before_the_connack_is_taken_in_order(slow, disk):
    big = publish_packet("a", b"x" * 200_000, qos=1, packet_id=2)       # more than a stranger may send
    client = dial(slow, more=subscribe_packet(1, [("a", 0)]) + big + b"\xc0\x00" + big[:1000])
    assert kinds(client) == []
    client.feed(big[1000:], run=False)
    disk.work(slow)
    found = kinds(client)
    assert found[0] == CONNACK
    # the subscription stood when the publishes were read; its SUBACK may come after them (§3.8.4)
    assert sorted(found[1:]) == sorted([SUBACK, PUBLISH, PUBLISH, PUBACK, PUBACK, PINGRESP])
    (partition,) = slow.router.streams.by_name["events"].partitions
    assert partition.end_offset == 2


def test_a_delayed_will_survives_a_kill_right_after_the_connack(slow, disk):
    watcher_stored = dial(slow, "watcher", more=subscribe_packet(1, [("gone", 1)]))
    disk.work(slow)
    watcher_stored.take()
    client = dial(slow, will=Will("gone", b"with the node", 1, properties=LATER))
    assert kinds(client) == []
    disk.work(slow)
    assert kinds(client) == [CONNACK]
    reborn = slow.crash()
    watcher = dial(reborn, "watcher")
    disk.work(reborn)
    watcher.take()
    for _ in range(3):
        reborn.tick(5.0)
        disk.work(reborn)
    assert watcher.payloads() == [b"with the node"]
    reborn.store.close()


def test_a_changed_will_is_waited_for_and_an_unchanged_take_over_is_not(slow, disk):
    dial(slow, will=Will("gone", b"1", 1, properties=LATER))
    disk.work(slow)
    second = dial(slow, will=Will("gone", b"1", 1, properties=LATER))
    assert kinds(second) == [CONNACK]
    third = dial(slow, will=Will("gone", b"2", 1, properties=LATER))
    assert kinds(third) == []
    fourth = dial(slow, will=Will("gone", b"2", 1, properties=LATER))        # the third's is not durable yet
    assert kinds(fourth) == []
    disk.work(slow)
    assert kinds(fourth) == [CONNACK]
    assert third.closed


def test_the_removal_of_the_session_before_is_waited_for(slow, disk):
    old = dial(slow)
    disk.work(slow)
    old.lose()
    disk.work(slow)
    clean = dial(slow, clean=True, values=[])
    assert kinds(clean) == []
    disk.work(slow)
    assert [one.session_present for one in clean.take()] == [False]
    reborn = slow.crash()
    assert reborn.server.sessions == {}
    reborn.store.close()


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_that_cannot_be_stored_is_refused(slow, disk, files, version):
    watcher = dial(slow, "watcher", clean=True, values=[], more=subscribe_packet(1, [("gone", 0)]))
    watcher.take()
    files.faults.fail("pwrite", count=-1, code=errno.ENOSPC)
    client = dial(slow, version=version, will=Will("gone", b"", 0), more=publish_packet("gone", version=version))
    disk.work(slow)
    (answer,) = client.take()
    assert (answer.kind, answer.code) == (CONNACK, 0x97 if version == 5 else 3)
    assert client.closed
    assert "c" not in slow.server.sessions
    assert watcher.payloads() == []                         # neither the will nor what was sent along


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_with_the_terms_it_had_goes_on_when_the_disk_is_full(slow, disk, files, version):
    client = dial(slow, version=version)
    disk.work(slow)
    client.lose()
    disk.work(slow)
    files.faults.fail("pwrite", count=-1, code=errno.ENOSPC)
    client = dial(slow, version=version)
    disk.work(slow)
    (answer,) = client.take()
    assert (answer.kind, answer.code, answer.session_present) == (CONNACK, 0, True)


def test_the_client_goes_before_its_connack(slow, disk):
    client = dial(slow, more=subscribe_packet(1, [("a", 0)]))
    client.lose()
    disk.work(slow)
    assert slow.server.sessions["c"].connection is None
    assert len(slow.server.sessions["c"].subscriptions) == 0
    assert bytes(client.channel.sent) == b""


def test_an_operator_and_a_stop_before_the_connack(slow, disk):
    first, second = dial(slow, "a"), dial(slow, "b", 4)
    assert slow.server.kick("a")
    slow.server.shutdown()
    disk.work(slow)
    assert [one.code for one in first.take()] == [0x80]
    assert [one.code for one in second.take()] == [3]
    assert first.closed and second.closed


def test_a_disk_that_hangs_ends_in_the_connect_timeout(slow):
    client = dial(slow)
    slow.tick(11.0)
    assert client.closed
    assert bytes(client.channel.sent) == b""
