"""RabbitMQ's Java client against a node: what java/AmqpPeer.java does, in one program for all."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peer_process import PeerProcess
from tests.support import rabbitmq_tools
from tests.support.node import Node

SOURCE = Path(__file__).parent / "java" / "AmqpPeer.java"
KILLS = 3


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("amqp-java"), listeners=("amqp", "console"))
    made.start()
    yield made
    made.kill9()


@pytest.fixture(scope="module")
def java(node) -> Iterator[PeerProcess]:
    rabbitmq_tools.install()
    peer = PeerProcess(["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{rabbitmq_tools.JARS}/*", str(SOURCE),
                        str(node.ports["amqp"])])
    yield peer
    peer.kill()


def test_every_type_of_header_and_every_property_comes_back_as_it_was(java):
    java.run("values")


def test_what_is_refused_closes_the_channel_with_rabbitmqs_code_and_text(java):
    java.run("errors")


def test_a_return_comes_before_its_confirm_and_thousands_are_confirmed(java):
    java.run("confirms")


def test_prefetch_nack_reject_and_a_cancel_that_is_told(java):
    java.run("consumers")


def test_topic_headers_alternate_exchanges_and_bindings_between_exchanges(java):
    java.run("routing")


def test_time_to_live_dead_letters_priorities_length_and_single_active_consumer(java):
    java.run("queues")


def test_the_rpc_client_uses_direct_reply_to(java):
    java.run("rpc")


def test_transactions_cover_publishes_and_acks(java):
    java.run("transactions")


def test_passive_declares_and_declaring_anew_as_spring_does_it(java):
    java.run("spring", "20")


def test_automatic_recovery_brings_the_topology_back_after_kill9_and_nothing_confirmed_is_lost(java, node):
    java.begin("recovery", str(KILLS))
    for _ in range(KILLS):
        java.wait(until="kill")
        node.kill9()
        node.restart()
    java.wait()
