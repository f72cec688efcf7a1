"""One queue on two real nodes that are linked: each message to one worker, also when a node is killed; answers by
direct reply-to between clients of different nodes.
"""
from __future__ import annotations

import threading

import pika
import pytest

from tests.support.node import HOST, Node
from tests.support.wait import DEADLINE_S, wait_until

LISTENERS = ("http", "console", "link", "amqp")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    settings = "[mesh]\nqueue_lost_s = 2\n"
    first = Node(folder / "one", name="one", listeners=LISTENERS, extra=settings)
    second = Node(folder / "two", name="two", listeners=LISTENERS,
                  extra=f'{settings}\n[[links]]\nto = "ws://{HOST}:{first.ports["link"]}"')
    for node in (first, second):
        node.start()
    wait_linked(first)
    yield first, second
    for node in (second, first):
        node.kill9()


def wait_linked(node):
    wait_until(lambda: len(node.get("/api/v1/nodes?filter=hops>=0").json["nodes"]) == 2, "the nodes have met",
               also=lambda: node.get("/api/v1/nodes").text)


def connect(node):
    return pika.BlockingConnection(pika.ConnectionParameters(HOST, node.ports["amqp"], heartbeat=0))


class Worker(threading.Thread):
    """Acks what it gets, until it is stopped or its node is gone."""

    def __init__(self, node, queue, prefetch=10):
        super().__init__(daemon=True)
        self.node, self.queue, self.prefetch = node, queue, prefetch
        self.got = []
        self.stopped = False
        self.start()

    def run(self):
        try:
            with connect(self.node) as connection:
                channel = connection.channel()
                channel.basic_qos(prefetch_count=self.prefetch)
                for method, _, body in channel.consume(self.queue, inactivity_timeout=0.1):
                    if self.stopped:
                        return
                    if method is not None:
                        self.got.append((body, method.redelivered))
                        channel.basic_ack(method.delivery_tag)
        except pika.exceptions.AMQPError:
            pass

    def stop(self):
        self.stopped = True
        self.join(DEADLINE_S)


def declare(node, queue):
    with connect(node) as connection:
        channel = connection.channel()
        channel.exchange_declare("jobs", "topic", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "jobs", "#")


def publish(node, queue, bodies):
    """Half of them by the exchange, half straight to the queue; confirmed."""
    with connect(node) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for index, body in enumerate(bodies):
            exchange, key = ("jobs", "a.b") if index % 2 else ("", queue)
            channel.basic_publish(exchange, key, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def bodies_of(name, count):
    return [f"{name}-{number}".encode() for number in range(count)]


def test_each_message_goes_to_one_worker_and_a_killed_node_stops_nothing(nodes):
    one, two = nodes
    for node in nodes:
        declare(node, "work")
    workers = [Worker(one, "work"), Worker(two, "work")]
    sent = []
    for node in nodes:
        bodies = bodies_of(node.name, 100)
        publish(node, "work", bodies)
        sent += bodies

    def got():
        return sorted(body for worker in workers for body, _ in worker.got)

    wait_until(lambda: len(got()) >= len(sent), "all have come")
    assert got() == sorted(sent), "each once"
    assert all(worker.got for worker in workers)
    workers[0].stop()
    publish(one, "work", bodies_of("far", 50))
    sent += bodies_of("far", 50)
    wait_until(lambda: len(got()) >= len(sent), "all have come")
    assert got() == sorted(sent), "work goes to where somebody takes it"

    one.kill9()
    publish(two, "work", bodies_of("alone", 50))
    sent += bodies_of("alone", 50)
    wait_until(lambda: set(got()) >= set(sent), "all have come")
    one.restart()
    wait_linked(one)
    publish(one, "work", bodies_of("back", 50))
    sent += bodies_of("back", 50)
    wait_until(lambda: set(got()) >= set(sent), "all have come")
    workers[1].stop()
    everything = [entry for worker in workers for entry in worker.got]
    fresh = [body for body, redelivered in everything if not redelivered]
    assert len(fresh) == len(set(fresh)), "what came twice was marked"
    with connect(one) as connection:
        assert connection.channel().queue_declare("work", passive=True).method.message_count == 0


def test_a_get_on_one_node_finds_what_is_on_the_other(nodes):
    one, two = nodes
    for node in nodes:
        declare(node, "gets")
    publish(one, "gets", [b"a"])
    with connect(two) as connection:
        channel = connection.channel()
        found = [channel.basic_get("gets", auto_ack=True) for _ in range(2)]
    assert [body for _, _, body in found] == [b"a", None]


def test_direct_reply_to_reaches_the_node_of_who_asked(nodes):
    one, two = nodes
    declare(two, "questions")
    declare(one, "questions")
    with connect(one) as asking, connect(two) as answering:
        asker, answerer = asking.channel(), answering.channel()
        answers = []
        asker.basic_consume("amq.rabbitmq.reply-to", lambda *parts: answers.append(parts), auto_ack=True)
        asker.basic_publish("", "questions", b"2+3", pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id="7"))
        method, properties, body = next(iter(answerer.consume("questions", inactivity_timeout=DEADLINE_S)))
        answerer.basic_publish("", properties.reply_to, b"5", pika.BasicProperties(
            correlation_id=properties.correlation_id, headers={"nested": {"a": [1, None]}}))
        answerer.basic_ack(method.delivery_tag)
        wait_until(lambda: asking.process_data_events(0.05) or answers, "the answer")
        _, _, found, body = answers[0]
        assert (body, found.correlation_id, found.headers) == (b"5", "7", {"nested": {"a": [1, None]}})
        answerer.confirm_delivery()
        gone = properties.reply_to.replace("amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.9")
        answerer.basic_publish("", gone, b"nobody")                 # forged: nobody hears it, and nothing breaks
        asking.process_data_events(0.2)
        assert len(answers) == 1


def test_a_remote_call_is_answered_into_a_queue_that_only_the_askers_node_has(nodes):
    """As Celery's RPC backend and kombu do it."""
    one, two = nodes
    with connect(one) as asking, connect(two) as answering:
        asker, answerer = asking.channel(), answering.channel()
        asker.queue_declare("answers-of-one", durable=True, auto_delete=True, arguments={"x-expires": 60_000})
        answers = []
        asker.basic_consume("answers-of-one", lambda *parts: answers.append(parts[3]), auto_ack=True)
        answerer.confirm_delivery()
        for number in range(5):
            answerer.basic_publish("", "answers-of-one", b"%d" % number, pika.BasicProperties(delivery_mode=2))
        wait_until(lambda: asking.process_data_events(0.05) or len(answers) >= 5, "the answers")
        assert answers == [b"%d" % number for number in range(5)]
