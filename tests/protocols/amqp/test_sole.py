"""sole-connection-for-container is between the connections of one user: nobody takes away another's container id."""
from __future__ import annotations

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.types import Symbol
from tests.protocols.amqp.raw import Raw
from tests.protocols.amqp.stand import Stand

SOLE = {"desired_capabilities": (Symbol("sole-connection-for-container"),)}
USERS = [("ana", "the right one", ()), ("eve", "another one", ())]


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path, users=USERS).start()
    yield started
    started.stop()


def opened(stand, user, password, **options):
    """A connection as container "pump"; None: refused."""
    client = Raw(stand.port, login=False)
    client.sasl("PLAIN", b"\0" + user + b"\0" + password)
    client.open("pump", **options)
    if Symbol("amqp:connection-establishment-failed") in (client.opened.properties or {}):
        assert client.closed() == "amqp:invalid-field"
        return None
    client.begin()
    return client


def test_a_container_of_somebody_else_is_another_one(stand):
    evil = opened(stand, b"eve", b"another one", **SOLE)
    first = opened(stand, b"ana", b"the right one", **SOLE)
    assert evil is not None and first is not None
    assert opened(stand, b"ana", b"the right one") is None
    assert opened(stand, b"ana", b"the right one", **SOLE) is None
    first.send(p.Close())
    first.expect(p.Close)
    assert opened(stand, b"ana", b"the right one", **SOLE) is not None
    assert opened(stand, b"eve", b"another one") is None
