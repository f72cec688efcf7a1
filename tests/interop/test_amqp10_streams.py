"""Streams by AMQP 1.0: RabbitMQ's own client and proton begin where they say, beside pika on the same queue."""
from __future__ import annotations

import os
import time
from datetime import datetime
from importlib.util import find_spec

import pika
import pytest

from tests.support.node import Node

if find_spec("rabbitmq_amqp_python_client") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("RabbitMQ's AMQP 1.0 client is not installed", allow_module_level=True)
import rabbitmq_amqp_python_client as rabbitmq
from proton import Described, Message, symbol, timestamp
from proton.reactor import Filter
from proton.utils import BlockingConnection, LinkDetached
from rabbitmq_amqp_python_client import AddressHelper, Environment, OffsetSpecification, StreamConsumerOptions

DONE = "all that was wanted"
COUNT = 20


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    started = Node(tmp_path_factory.mktemp("amqp10-streams"), listeners=("amqp", "http", "console"),
                   extra='[amqp10]\nidentify_as = "RabbitMQ 4.2.0"\n')
    started.start()
    yield started
    started.kill9()


@pytest.fixture(scope="module")
def halves(node):
    """20 messages in the stream "log", and the moment between the first ten and the others."""
    with_rabbitmq(node, lambda connection: connection.management().declare_queue(
        rabbitmq.StreamSpecification(name="log")))
    connection = proton(node)
    sender = connection.create_sender("/queues/log")
    for number in range(COUNT):
        if number == COUNT // 2:
            time.sleep(0.05)
            moment = datetime.now()
            time.sleep(0.05)
        sender.send(Message(body=f"{number}", durable=True, annotations={symbol("x-mine"): number},
                            properties={"even": number % 2 == 0}))
    connection.close()
    return moment


def with_rabbitmq(node, work):
    environment = Environment(uri=f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}/")
    connection = environment.connection()
    connection.dial()
    try:
        return work(connection)
    finally:
        environment.close()


def proton(node):
    return BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=20)


class Collector(rabbitmq.AMQPMessagingHandler):
    def __init__(self, count):
        super().__init__()
        self.count = count
        self.found = []

    def on_amqp_message(self, event):
        self.found.append((event.message.body, event.message.annotations["x-stream-offset"]))
        self.delivery_context.accept(event)
        if len(self.found) == self.count:
            raise InterruptedError(DONE)


def read(node, offset, count):
    """The next count bodies and offsets by RabbitMQ's client."""
    collector = Collector(count)

    def work(connection):
        consumer = connection.consumer(
            AddressHelper.queue_address("log"), message_handler=collector,
            consumer_options=StreamConsumerOptions(offset_specification=offset) if offset is not None else None)
        with pytest.raises(InterruptedError, match=DONE):
            consumer.run()

    with_rabbitmq(node, work)
    return collector.found


def texts(found):
    return [body if isinstance(body, str) else bytes(body).decode() for body, _ in found]


def test_rabbitmqs_client_begins_at_the_first_at_an_offset_and_at_a_time(node, halves):
    found = read(node, OffsetSpecification.first, COUNT)
    assert texts(found) == [f"{number}" for number in range(COUNT)]
    offsets = [offset for _, offset in found]
    assert offsets == sorted(set(offsets))
    assert texts(read(node, offsets[15], 5)) == ["15", "16", "17", "18", "19"]
    assert texts(read(node, halves, 10))[0] == "10"
    assert texts(read(node, OffsetSpecification.last, 1)) == ["19"]


def test_pika_reads_what_amqp_1_has_sent(node, halves):
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.ports["amqp"])) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=50)
        found = []
        for method, _, body in channel.consume("log", arguments={"x-stream-offset": "first"}, inactivity_timeout=10):
            assert method is not None, found
            found.append(body)
            if len(found) == COUNT:
                break
        assert found == [b"%d" % number for number in range(COUNT)]


def receiver(connection, address, value, name="rabbitmq:stream-offset-spec", credit=100, **others):
    """With a filter of this kind; others: filters by key."""
    filters = {symbol(name): Described(symbol(name), value)}
    filters.update({symbol(key): Described(symbol(key), text) for key, text in others.items()})
    return connection.create_receiver(address, credit=credit, options=Filter(filters), name=f"r{time.monotonic_ns()}")


def bodies(reader, count):
    found = []
    for _ in range(count):
        message = reader.receive(timeout=15)
        found.append(message.body)
        assert message.annotations["x-mine"] == int(message.body) and "x-stream-offset" in message.annotations
        reader.accept()
    return found


def test_an_age_credit_a_settled_delivery_and_an_own_place_for_each(node, halves):
    connection = proton(node)
    readers = [receiver(connection, "/queues/log", "1h", credit=3), receiver(connection, "/queues/log", "first")]
    for reader in readers:
        assert bodies(reader, COUNT) == [f"{number}" for number in range(COUNT)]
    applied = readers[0].link.remote_source.filter
    applied.rewind()
    applied.next()
    assert applied.get_dict()[symbol("rabbitmq:stream-offset-spec")].value == "1h"
    connection.close()


def test_what_is_released_is_not_given_back_and_a_selector_picks(node, halves):
    connection = proton(node)
    reader = connection.create_receiver("/queues/log", credit=2, name="picky", options=Filter({
        symbol("at"): Described(symbol("rabbitmq:stream-offset-spec"), "first"),
        symbol("which"): Described(symbol("apache.org:selector-filter:string"), "even")}))
    for number in range(0, COUNT, 2):
        assert reader.receive(timeout=15).body == f"{number}"
        reader.release(delivered=True)
    connection.close()


def test_a_topic_is_read_from_a_place_of_the_log_too(node):
    connection = proton(node)
    sender = connection.create_sender("topic://plant/a")
    for number in range(3):
        sender.send(Message(body=f"{number}", durable=True, annotations={symbol("x-mine"): number}))
    reader = receiver(connection, "topic://plant/#", "first")
    assert bodies(reader, 3) == ["0", "1", "2"]
    sender.send(Message(body="3", durable=True, annotations={symbol("x-mine"): 3}))
    assert bodies(reader, 1) == ["3"]
    moment = timestamp(int(time.time() * 1000) - 3_600_000)
    assert bodies(receiver(connection, "topic://plant/+", moment), 4) == ["0", "1", "2", "3"]
    connection.close()


def test_the_filters_of_event_hubs_say_where_to_begin(node):
    connection = proton(node)
    sender = connection.create_sender("topic://hub/a")
    for number in range(4):
        sender.send(Message(body=f"{number}", durable=True, annotations={symbol("x-mine"): number}))
    selector = "apache.org:selector-filter:string"
    first = receiver(connection, "topic://hub/a", "amqp.annotation.x-opt-offset > '-1'", selector)
    places = []
    for _ in range(4):
        places.append(first.receive(timeout=15).annotations["x-stream-offset"])
        first.accept()
    for text, left in ((f"x-opt-offset > '{places[1]}'", ["2", "3"]),
                       (f"x-opt-sequence-number >= '{places[1]}'", ["1", "2", "3"]),
                       (f"x-opt-enqueued-time > '{int(time.time() * 1000) - 60_000}'", ["0", "1", "2", "3"])):
        assert bodies(receiver(connection, "topic://hub/a", f"amqp.annotation.{text}", selector), len(left)) == left
    connection.close()


@pytest.mark.parametrize("value", ["somewhere", -1, True, "5 years"])
def test_a_place_that_is_none_is_refused(node, halves, value):
    connection = proton(node)
    with pytest.raises(LinkDetached, match="invalid-field"):
        receiver(connection, "/queues/log", value)
    connection.close()


def test_an_ordinary_queue_leaves_the_filter_out_of_its_answer(node):
    connection = proton(node)
    applied = receiver(connection, "queue://plain", "first").link.remote_source.filter
    assert not applied.format(), applied.format()
    connection.close()
