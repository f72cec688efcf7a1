"""A client that logged in with a token is disconnected when that ends; with another token it goes on."""
from __future__ import annotations

import pytest

from routing.rights.policy import Identity
from tests.protocols.mqtt.harness import DISCONNECT, PUBLISH
from tests.support import rawmqtt as m


def with_token(broker, seconds):
    """Logins from now on are good for so long."""
    ends_ms = broker.now_ms + round(seconds * 1000)

    def authenticate(username, password, protocol, client_id, address, done, certificate_name=None):
        done(Identity("ana", (), protocol=protocol, client_id=client_id, address=address, expires_ms=ends_ms))

    broker.users.authenticate = authenticate


@pytest.mark.parametrize("version", [4, 5])
def test_the_connection_ends_with_the_token_and_the_session_stays(broker, version):
    with_token(broker, 100.0)
    more = {"clean": False, **({"values": [(m.SESSION_EXPIRY, 1000)]} if version == 5 else {})}
    client = broker.client("r", version, **more)
    client.subscribe(("a", 1))
    broker.tick(50.0)
    broker.tick(49.9)
    assert not client.closed
    broker.tick(0.2)
    assert client.closed
    if version == 5:
        assert client.one(DISCONNECT).code == 0x87
    broker.publish("a")
    with_token(broker, 100.0)
    again = broker.client("r", version, **more)
    assert [one.payload for one in again.rest if one.kind == PUBLISH] == [b"a"]


def test_a_newer_token_moves_the_end(broker):
    with_token(broker, 100.0)
    broker.client("r")
    broker.tick(50.0)
    with_token(broker, 500.0)
    client = broker.client("r")
    for _ in range(9):
        broker.tick(50.0)
    assert not client.closed
    broker.tick(51.0)
    assert client.closed
    assert len(broker.server._watched) == 0


def test_a_client_that_comes_back_often_is_watched_once(broker):
    with_token(broker, 1000.0)
    before = len(broker.server.deadlines)
    for _ in range(20):
        broker.client("r").lose()
    assert len(broker.server._watched) == 1
    assert len(broker.server.deadlines) < before + 60
