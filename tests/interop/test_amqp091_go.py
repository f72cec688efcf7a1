"""amqp091-go against a node: what go_amqp/main.go does, in one program for all."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.go_peer import go_program
from tests.interop.peer_process import PeerProcess
from tests.support.node import Node

KILLS = 3


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("amqp-go"), listeners=("amqp", "console"))
    made.start()
    yield made
    made.kill9()


@pytest.fixture(scope="module")
def client(node) -> Iterator[PeerProcess]:
    peer = PeerProcess([go_program("go_amqp", "amqp091"), str(node.ports["amqp"])])
    yield peer
    peer.kill()


def test_every_width_of_number_and_every_property_comes_back_as_it_was(client):
    client.run("values")


def test_a_return_comes_before_its_confirm_and_each_message_is_confirmed_once(client):
    client.run("confirms")


def test_what_is_refused_closes_the_channel_with_code_and_text(client):
    client.run("errors")


def test_prefetch_nack_reject_multiple_and_a_cancel_that_is_told(client):
    client.run("consumers")


def test_connecting_and_declaring_anew_after_kill9_loses_nothing_confirmed(client, node):
    client.begin("recovery", str(KILLS))
    for _ in range(KILLS):
        client.wait(until="kill")
        node.kill9()
        node.restart()
    client.wait()
