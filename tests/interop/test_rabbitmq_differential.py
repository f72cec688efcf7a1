"""The same scripts against RabbitMQ and a node: the same answers, texts of errors and headers of dead letters included.

A script is made of a seed: declares, binds, publishes, gets, acks, nacks, deletes on a few names. What the two are
known to do differently (docs/amqp.md) is not in the scripts: a queue gets its messages either straight, or by topics.
Others are about queues with limits: lengths, times to live, priorities, single active consumers, readers that leave.
"""
from __future__ import annotations

import os
import random
import time

import pika
import pytest
from pika.exceptions import AMQPChannelError, NackError, UnroutableError

from tests.conftest import require_peer
from tests.support.node import Node
from tests.support.rabbitmq import RabbitMq, installed

SEEDS = range(500) if os.environ.get("MESHGATE_SOAK") == "1" else range(5)
STEPS = 60
READ_S = 0.5                # for what a consumer gets at once, at most: what has expired does not come
SETTLED_S = 15.0
LOOKS = 3
DEAD_S = 0.03               # RabbitMQ brings a dead letter to its queue by and by; nothing tells when
KEYS = ("a", "a.b", "a.b.c", "b", "")
PATTERNS = ("a", "a.*", "#", "a.#", "*.b.*", "b", "*", "")
HARD_PATTERNS = ("#.c", "a.#.c", "#.b.#", "#.*", "#.a")        # of none is there a topic filter


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    require_peer(installed(), "RabbitMQ")
    folder = tmp_path_factory.mktemp("differential")
    rabbit, node = RabbitMq(folder / "rabbit"), Node(folder / "node", listeners=("amqp", "console"))
    try:
        rabbit.start()
        node.start()
        yield {"rabbitmq": rabbit.port, "node": node.ports["amqp"]}
    finally:
        rabbit.stop()
        node.kill9()


class Side:
    """One broker, and what was said to it."""

    def __init__(self, port):
        self.connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        self._open()

    def _open(self):
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.tags = []

    def do(self, name, *arguments):
        try:
            return getattr(self, name)(*arguments)
        except UnroutableError as error:
            return "returned", error.messages[0].method.reply_code
        except NackError:
            return "nacked"
        except AMQPChannelError as error:
            time.sleep(0.05)                    # what it held goes back by and by
            self._open()
            return error.reply_code, error.reply_text

    def exchange(self, name, kind, durable, auto_delete):
        self.channel.exchange_declare(name, kind, durable=durable, auto_delete=auto_delete)

    def drop_exchange(self, name, if_unused):
        self.channel.exchange_delete(name, if_unused)

    def queue(self, name, durable, arguments):
        found = self.channel.queue_declare(name, durable=durable, arguments=arguments).method
        return found.message_count, found.consumer_count

    def count(self, name):
        return self.channel.queue_declare(name, passive=True).method.message_count

    def bind(self, queue, exchange, key, arguments):
        self.channel.queue_bind(queue, exchange, key, arguments)

    def unbind(self, queue, exchange, key, arguments):
        self.channel.queue_unbind(queue, exchange, key, arguments)

    def bind_exchange(self, destination, source, key):
        self.channel.exchange_bind(destination, source, key)

    def publish(self, exchange, key, body, headers, mandatory):
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(
            headers=headers, delivery_mode=2, correlation_id="c", type="t"), mandatory=mandatory)

    def get(self, queue, auto_ack):
        method, properties, body = self.channel.basic_get(queue, auto_ack)
        if method is None:
            return None
        if not auto_ack:
            self.tags.append(method.delivery_tag)
        headers = properties.headers or {}
        for death in headers.get("x-death", ()):
            death.pop("time")
        headers = {name: value for name, value in headers.items() if not name.startswith("x-last-death")}
        return (method.exchange, method.routing_key, method.redelivered, method.message_count, body, headers,
                properties.correlation_id, properties.type, properties.delivery_mode)

    def send(self, queue, body, priority, expiration):
        """Straight to a queue."""
        self.channel.basic_publish("", queue, body, pika.BasicProperties(
            delivery_mode=2, priority=priority, expiration=expiration))
        if expiration is not None:
            time.sleep(DEAD_S)

    def _wait(self, ready):
        end_s = time.monotonic() + READ_S
        while not ready() and time.monotonic() < end_s:
            self.connection.process_data_events(0.01)

    def read(self, queue, prefetch, acks, how):
        """A consumer that takes what comes at once, acks so many, and breaks off: by its channel, or by a cancel."""
        channel, got = self.connection.channel(), []
        waiting = self.count(queue)
        channel.basic_qos(prefetch_count=prefetch)
        tag = channel.basic_consume(queue, lambda _, method, properties, body: got.append(
            (method.delivery_tag, method.redelivered, body, properties.priority)))
        self._wait(lambda: len(got) >= min(prefetch, waiting))
        if how == "recover":
            channel.basic_recover(requeue=True)
            self._wait(lambda: len(got) >= 2 * min(prefetch, waiting))
        else:                                   # an ack asks for more, unless the consumer is gone
            channel.basic_cancel(tag)
            if acks and got:
                channel.basic_ack(got[min(acks, len(got)) - 1][0], multiple=how == "ack many")
        channel.close()
        time.sleep(DEAD_S)
        return got

    def second(self, queue):
        """Of two consumers beside each other, what the second one gets when the first one leaves."""
        first, other, waiting = self.connection.channel(), self.connection.channel(), self.count(queue)
        got = {"first": [], "other": []}
        for name, channel in (("first", first), ("other", other)):
            channel.basic_consume(queue, lambda _, method, properties, body, name=name: got[name].append(
                (method.redelivered, body)), consumer_tag=name)
        self._wait(lambda: len(got["first"]) >= waiting)
        first.close()
        self._wait(lambda: len(got["other"]) >= len(got["first"]))
        other.close()
        time.sleep(DEAD_S)
        return got

    def settle(self, how, index, multiple, requeue):
        if not self.tags:
            return
        tag = self.tags[index % len(self.tags)]
        gone = [one for one in self.tags if one <= tag] if multiple else [tag]
        self.tags = [one for one in self.tags if one not in gone]
        if how == "ack":
            self.channel.basic_ack(tag, multiple)
        elif how == "nack":
            self.channel.basic_nack(tag, multiple, requeue)
        else:
            self.tags += [one for one in gone if one != tag]
            self.tags.sort()
            self.channel.basic_reject(tag, requeue)
        if how != "ack" and not requeue:
            time.sleep(DEAD_S)

    def bad_tag(self):
        self.channel.basic_ack(9_999)
        self.channel.queue_declare("nothing-like-it", passive=True)

    def purge(self, queue):
        return self.channel.queue_purge(queue).method.message_count

    def drop_queue(self, queue, if_empty):
        return self.channel.queue_delete(queue, if_empty=if_empty).method.message_count


LIMITS = (
    {}, {"x-max-length": 3}, {"x-max-length-bytes": 6}, {"x-max-length": 2, "x-overflow": "reject-publish"},
    {"x-message-ttl": 1}, {"x-max-priority": 3}, {"x-single-active-consumer": True},
)


def limited(seed):
    """Steps on queues with limits; what these let go is looked at in the queue of the dead letters."""
    rng = random.Random(seed)
    letters = f"l{seed}-dead"
    yield "queue", letters, True, {}
    queues = {}
    for number, limit in enumerate(rng.sample(LIMITS, 3)):
        name = f"l{seed}-{number}"
        queues[name] = limit
        yield "queue", name, True, {**limit, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
    for number in range(STEPS):
        queue = rng.choice(list(queues))
        several = rng.choice([*queues, letters])
        single, by_priority = ("x-single-active-consumer" in queues[queue]), ("x-max-priority" in queues[queue])
        priority = rng.choice((None, 0, 1, 3, 7)) if by_priority else None
        expiration = rng.choice((None, None, None, "1", "60000")) if not by_priority else None     # see docs/amqp.md
        yield rng.choices((
            ("send", queue, b"%d" % number, priority, expiration),
            ("get", several, rng.random() < 0.4),
            ("settle", rng.choice(("ack", "nack", "reject")), rng.randrange(5), rng.random() < 0.3, rng.random() < 0.5),
            ("read", several, rng.choice((1, 2, 5)), rng.randrange(3), rng.choice(("ack one", "ack many", "recover"))),
            ("second", queue) if single else ("count", several), ("count", letters), ("purge", several),
        ), (18, 6, 6, 2, 1, 4, 0.5))[0]


def script(seed):
    """Steps (name, arguments). straight: queues get their messages straight, or as copies; else by topics."""
    rng = random.Random(seed)
    straight = seed % 2 == 1
    exchanges, queues = [f"x{seed}-{i}" for i in range(3)], [f"q{seed}-{i}" for i in range(3)]
    kinds = ("topic", "headers", "topic") if straight else ("direct", "fanout", "topic")
    letters = f"q{seed}-dead"
    for _ in range(STEPS):
        exchange, queue = rng.choice(exchanges), rng.choice(queues)
        arguments = {} if rng.random() < 0.5 else {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
        match = {"x-match": rng.choice(("all", "any")), "k": rng.choice((1, "v"))} if straight else None
        pattern = rng.choice(HARD_PATTERNS if straight else PATTERNS)
        to = ("", rng.choice(queues)) if straight and rng.random() < 0.5 else (exchange, rng.choice(KEYS))
        yield rng.choices((
            ("exchange", exchange, kinds[exchanges.index(exchange)], rng.random() < 0.8, rng.random() < 0.1),
            ("drop_exchange", exchange, rng.random() < 0.5),
            ("queue", queue, True, arguments), ("queue", letters, True, {}),
            ("bind", queue, exchange, pattern, match if kinds[exchanges.index(exchange)] == "headers" else None),
            ("unbind", queue, exchange, pattern, None),
            ("publish", *to, b"%d" % rng.randrange(1_000), {"k": rng.choice((1, "v", "w"))}, rng.random() < 0.5),
            ("get", rng.choice([*queues, letters]), rng.random() < 0.4),
            ("settle", rng.choice(("ack", "nack", "reject")), rng.randrange(5), rng.random() < 0.3, rng.random() < 0.5),
            ("count", queue), ("purge", queue), ("drop_queue", queue, rng.random() < 0.5), ("bad_tag",),
            ("bind_exchange", rng.choice(exchanges), exchange, pattern) if straight else ("count", queue),
        ), (3, 0.4, 6, 2, 6, 1, 14, 10, 8, 2, 0.5, 0.7, 0.3, 2))[0]


def settled(sides, queue):
    """What expires, and dead letters, come by and by: until as many are there on both sides, and stay so for some
    looks: both may be about to let the next one go. What is not so, shows.
    """
    end_s = time.monotonic() + SETTLED_S
    before, alike = None, 0
    while alike < LOOKS and time.monotonic() < end_s:
        now = {side.count(queue) for side in sides}
        alike = alike + 1 if len(now) == 1 and now == before else 0
        before = now
        time.sleep(0.01)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", [script, limited])
def test_a_script_has_the_same_answers(ports, steps, seed):
    sides = {name: Side(port) for name, port in ports.items()}
    said = []
    for step in steps(seed):
        if steps is limited and step[0] in ("get", "read", "second", "count", "purge"):
            settled(sides.values(), step[1])
        answers = {name: side.do(*step) for name, side in sides.items()}
        end_s = time.monotonic() + SETTLED_S
        while step[0] == "count" and steps is limited and len(set(answers.values())) > 1 and time.monotonic() < end_s:
            answers = {name: side.do(*step) for name, side in sides.items()}        # one came between the two questions
        said.append(f"{step} -> {answers['rabbitmq']}")
        assert answers["node"] == answers["rabbitmq"], "\n".join(said[-30:])
    for side in sides.values():
        side.connection.close()


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_a_burst_for_a_reader_with_credit_is_not_too_long(ports, overflow):
    """What it takes at once never waits, so a queue of two lets all of it through."""
    for name, port in ports.items():
        reading, writing = (pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) for _ in range(2))
        reader, writer = reading.channel(), writing.channel()
        reader.queue_declare(f"burst-{overflow}", durable=True, arguments={"x-max-length": 2, "x-overflow": overflow})
        reader.basic_qos(prefetch_count=100)
        got = []
        reader.basic_consume(f"burst-{overflow}", lambda *parts, got=got: got.append(parts[3]))
        for number in range(60):
            writer.basic_publish("", f"burst-{overflow}", b"%d" % number)
        end_s = time.monotonic() + SETTLED_S
        while len(got) < 60 and time.monotonic() < end_s:
            reading.process_data_events(0.05)
        assert got == [b"%d" % number for number in range(60)], name
        reading.close()
        writing.close()


def test_x_death_of_a_retry_topology_is_equal_field_by_field(ports):
    """Work, rejected → retry, expired after its time → work, three rounds, then parked."""
    seen = {}
    for name, port in ports.items():
        channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)).channel()
        channel.confirm_delivery()
        channel.exchange_declare("retries", "direct", durable=True)
        channel.queue_declare("work", durable=True, arguments={
            "x-dead-letter-exchange": "retries", "x-dead-letter-routing-key": "later"})
        channel.queue_declare("retry", durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 150})
        channel.queue_declare("parked", durable=True)
        channel.queue_bind("retry", "retries", "later")
        channel.basic_publish("", "work", b"job", pika.BasicProperties(
            delivery_mode=2, headers={"a": 1, "deep": {"b": [1, "x"]}}, expiration="60000", message_id="m1"))
        seen[name] = []
        for _, (method, properties, body) in zip(range(4), channel.consume("work", inactivity_timeout=10)):
            assert method is not None, f"{name}: only {len(seen[name])} rounds"
            deaths = [{key: value for key, value in death.items() if key != "time"}
                      for death in properties.headers.get("x-death", ())]
            headers = {key: value for key, value in properties.headers.items()
                       if key != "x-death" and not key.startswith("x-last-death")}
            seen[name].append((method.exchange, method.routing_key, method.redelivered, deaths, headers,
                               properties.expiration, properties.message_id, body))
            if len(seen[name]) < 4:
                channel.basic_nack(method.delivery_tag, requeue=False)
            else:
                channel.basic_publish("", "parked", body, properties)
                channel.basic_ack(method.delivery_tag)
        channel.cancel()
        assert channel.queue_declare("parked", passive=True).method.message_count == 1
        channel.connection.close()
    assert seen["node"] == seen["rabbitmq"]
