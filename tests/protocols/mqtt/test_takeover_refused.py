"""The client comes back while its QoS 2 PUBLISH waits for the disk, and the disk says no."""
from __future__ import annotations

import errno

import pytest

from protocols.mqtt.settings import MqttSettings
from routing.log.fs import RealFileSystem
from tests.protocols.mqtt.harness import DISCONNECT, PUBREC, Client, SlowDisk, connect_packet, publish_packet
from tests.support import rawmqtt as m
from tests.support.disk import FaultyFileSystem

EXPIRY_S = MqttSettings().session_expiry_v3_s       # the same terms in both versions
PERSISTENT = {4: {"clean": False}, 5: {"clean": False, "values": [(m.SESSION_EXPIRY, EXPIRY_S)]}}


def connected(broker, disk, version):
    client = Client(broker, version)
    client.feed(connect_packet("k", version=version, **PERSISTENT[version]))
    if disk is not None:
        disk.work(broker)
    client.take()
    return client


@pytest.mark.parametrize("old_version", [4, 5])
@pytest.mark.parametrize("version", [4, 5])
def test_the_refusal_reaches_the_client_where_it_is_now(make_broker, old_version, version):
    disk, files = SlowDisk(), FaultyFileSystem(RealFileSystem())
    broker = make_broker(fs=files, spawn_writer=disk)
    old = connected(broker, disk, old_version)
    old.feed(publish_packet("a", b"1", qos=2, packet_id=7, version=old_version))
    new = connected(broker, None, version)
    assert old.closed
    new.feed(publish_packet("a", b"1", qos=2, packet_id=7, dup=True, version=version))
    files.faults.fail("pwrite", count=-1, code=errno.ENOSPC)
    disk.work(broker)
    files.faults.clear()
    broker.tick(5)
    disk.work(broker)
    got = new.take()
    if version == 5:
        assert [(one.kind, one.packet_id, one.code) for one in got] == [(PUBREC, 7, 0x97)]
        assert not new.closed
    else:
        assert new.closed
        assert DISCONNECT not in [one.kind for one in got]
    session = broker.server.sessions["k"]
    assert not session.open_ids
