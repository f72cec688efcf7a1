"""RabbitMQ 4's own Python client for AMQP 1.0 against a node that says it is one: /management, queues, exchanges."""
from __future__ import annotations

import os
from importlib.util import find_spec

import pika
import pytest

from tests.support.node import Node

if find_spec("rabbitmq_amqp_python_client") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("RabbitMQ's AMQP 1.0 client is not installed", allow_module_level=True)
import rabbitmq_amqp_python_client as rabbitmq
from rabbitmq_amqp_python_client import AddressHelper, Environment, Message, OutcomeState
from rabbitmq_amqp_python_client.exceptions import ValidationCodeException
from rabbitmq_amqp_python_client.qpid.proton.utils import SendException


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    started = Node(tmp_path_factory.mktemp("rabbitmq-amqp"), listeners=("amqp", "http", "console"),
                   extra='[amqp10]\nidentify_as = "RabbitMQ 4.2.0"\n')
    started.start()
    yield started
    started.kill9()


@pytest.fixture
def connection(node):
    environment = Environment(uri=f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}/")
    opened = environment.connection()
    opened.dial()
    yield opened
    environment.close()


def bound(management, exchange, queue, kind=rabbitmq.ExchangeType.topic, key="eu.#"):
    management.declare_exchange(rabbitmq.ExchangeSpecification(name=exchange, exchange_type=kind))
    management.declare_queue(rabbitmq.QuorumQueueSpecification(name=queue))
    return management.bind(rabbitmq.ExchangeToQueueBindingSpecification(
        source_exchange=exchange, destination_queue=queue, binding_key=key))


def taken(connection, queue, count):
    found = []

    class Handler(rabbitmq.AMQPMessagingHandler):
        def on_amqp_message(self, event):
            found.append(event.message)
            self.delivery_context.accept(event)
            if len(found) == count:
                raise StopIteration

    consumer = connection.consumer(AddressHelper.queue_address(queue), message_handler=Handler())
    with pytest.raises(StopIteration):
        consumer.run()
    consumer.close()
    return found


def test_what_is_declared_is_there_for_both_protocols(node, connection):
    management = connection.management()
    path = bound(management, "orders", "eu-orders")
    info = management.queue_info("eu-orders")
    assert (info.name, info.is_durable, info.queue_type.value, info.message_count) == ("eu-orders", True, "quorum", 0)
    publisher = connection.publisher(AddressHelper.exchange_address("orders", "eu.new"))
    for number in range(3):
        status = publisher.publish(Message(body=b"%d" % number))
        assert status.remote_state == OutcomeState.ACCEPTED
    elsewhere = connection.publisher(AddressHelper.exchange_address("orders", "us.new"))
    with pytest.raises(SendException, match="38"):      # released
        elsewhere.publish(Message(body=b"nobody"))
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.ports["amqp"])).channel()
    assert channel.queue_declare("eu-orders", passive=True).method.message_count == 3
    assert channel.basic_get("eu-orders", auto_ack=True)[2] == b"0"
    channel.basic_publish("orders", "eu.old", b"by 0-9-1")
    assert [bytes(message.body) for message in taken(connection, "eu-orders", 3)] == [b"1", b"2", b"by 0-9-1"]
    management.unbind(path)
    with pytest.raises(SendException, match="38"):
        publisher.publish(Message(body=b"nobody"))
    assert management.purge_queue("eu-orders") == 0
    management.delete_queue("eu-orders")
    management.delete_exchange("orders")
    with pytest.raises(ValidationCodeException):
        management.queue_info("eu-orders")


def test_headers_exchanges_and_bindings_between_exchanges_route_what_comes_by_1_0(connection):
    management = connection.management()
    bound(management, "first", "routed", rabbitmq.ExchangeType.fanout, "")
    management.declare_exchange(
        rabbitmq.ExchangeSpecification(name="second", exchange_type=rabbitmq.ExchangeType.direct))
    management.bind(rabbitmq.ExchangeToExchangeBindingSpecification(
        source_exchange="second", destination_exchange="first", binding_key="k"))
    publisher = connection.publisher(AddressHelper.exchange_address("second", "k"))
    assert publisher.publish(Message(body=b"far")).remote_state == OutcomeState.ACCEPTED
    assert [bytes(message.body) for message in taken(connection, "routed", 1)] == [b"far"]


def test_another_declaration_is_refused_and_the_same_one_is_not(connection):
    management = connection.management()
    for _ in range(2):
        management.declare_queue(rabbitmq.ClassicQueueSpecification(name="twice", max_len=10))
    with pytest.raises(ValidationCodeException, match="Precondition"):
        management.declare_queue(rabbitmq.ClassicQueueSpecification(name="twice", max_len=11))


def test_a_queue_of_jms_is_there_for_0_9_1(node):
    proton_utils = pytest.importorskip("proton.utils")
    from proton import Message as ProtonMessage
    blocking = proton_utils.BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=20)
    blocking.create_sender("queue://made-by-1.0").send(ProtonMessage(body="hello", durable=True))
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.ports["amqp"])).channel()
    channel.queue_declare("made-by-1.0", durable=True)
    method, _properties, body = channel.basic_get("made-by-1.0", auto_ack=True)
    assert body == b"hello" and not method.redelivered
    channel.confirm_delivery()
    channel.basic_publish("", "made-by-1.0", b"back", pika.BasicProperties(
        headers={"n": 1}, correlation_id="c", content_type="text/plain", delivery_mode=2), mandatory=True)
    message = blocking.create_receiver("queue://made-by-1.0").receive()
    assert (bytes(message.body), message.properties, message.correlation_id) == (b"back", {"n": 1}, "c")
