"""A login that was not decided in time: Server busy, 0x89 or code 3, and a client that leaves gives up its place."""
from __future__ import annotations

import pytest

from routing.errors import Reason, Refusal
from tests.protocols.mqtt.harness import CONNACK, Client, connect_packet

BUSY = Refusal(Reason.BUSY, "too many logins at once, try again in 3s", 3)


def answering(broker, answer, cancelled):
    def authenticate(username, password, protocol, client_id, address, done, certificate_name=None):
        if answer is not None:
            done(answer)
        return lambda: cancelled.append(client_id)

    broker.users.authenticate = authenticate


@pytest.mark.parametrize(("version", "code"), [(4, 3), (5, 0x89)])
def test_busy_is_told_in_the_words_of_the_version(broker, version, code):
    """MQTT 5 §3.2.2.2, MQTT 3.1.1 §3.2.2.3."""
    answering(broker, BUSY, [])
    client = Client(broker, version)
    client.feed(connect_packet("c", version=version))
    connack = client.one(CONNACK)
    assert connack.code == code and client.closed


def test_a_client_that_leaves_while_it_is_decided_gives_up_its_place(broker):
    cancelled = []
    answering(broker, None, cancelled)
    client = Client(broker, 5)
    client.feed(connect_packet("c"))
    assert not cancelled
    client.handler.eof()
    client.handler.eof()
    assert cancelled == ["c"]


def test_a_client_that_was_answered_has_no_place_to_give_up(broker):
    cancelled = []
    answering(broker, BUSY, cancelled)
    Client(broker, 5).feed(connect_packet("c"))
    assert not cancelled
