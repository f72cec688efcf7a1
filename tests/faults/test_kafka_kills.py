"""Kill rounds under Kafka producers, with MQTT beside them: nothing acked is lost, an idempotent producer writes each
record once and in order, and of a transaction all is there or nothing.
"""
from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter

import paho.mqtt.client as paho
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.node import HOST, Node
from tests.support.wait import wait_until

ROUNDS = 100 if os.environ.get("MESHGATE_SOAK") == "1" else 3
ROUND_S = 1.0
DEADLINE_S = 90
PARTITIONS = 2


def config(node, **more):
    return {"bootstrap.servers": f"{HOST}:{node.ports['kafka']}", "log_level": 0, "linger.ms": 5, "acks": "all",
            "reconnect.backoff.max.ms": 300, "retry.backoff.ms": 50, "socket.timeout.ms": 10_000,
            **{name.replace("_", "."): value for name, value in more.items()}}


class Worker(threading.Thread):
    """Produces until it is told to end; fault: what it could not go on after."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.ends = threading.Event()
        self.fault = None
        self.acked, self.denied, self.unknown = set(), set(), []

    def run(self):
        try:
            self.work()
        except Exception as error:
            self.fault = error

    def end(self):
        self.ends.set()
        self.join(DEADLINE_S)
        assert not self.is_alive() and self.fault is None, repr(self.fault)


class Idempotent(Worker):
    """One producer that outlives all kills."""

    def work(self):
        producer = Producer(config(self.node, enable_idempotence=True, message_timeout_ms=600_000))
        number = 0

        def told(error, message):
            assert error is None, error
            self.acked.add(int(message.value()))

        while not self.ends.is_set():
            producer.produce("once", b"%d" % number, partition=number % PARTITIONS, on_delivery=told)
            number += 1
            producer.poll(0.002)
        assert producer.flush(DEADLINE_S) == 0


class Transactional(Worker):
    """Transactions of four records in two partitions; every fifth is taken back."""

    def work(self):
        producer = self._open()
        number = 0
        while not self.ends.is_set():
            values = list(range(number, number + 4))
            number += 4
            try:
                producer.begin_transaction()
                for value in values:
                    producer.produce("whole", b"%d" % value, partition=value % PARTITIONS)
                if values[0] % 20 == 0:
                    producer.flush(DEADLINE_S)
                    self._again(producer.abort_transaction)
                    self.denied |= set(values)
                else:
                    self._again(producer.commit_transaction)
                    self.acked |= set(values)
            except KafkaException as error:
                if error.args[0].txn_requires_abort():
                    self._again(producer.abort_transaction)
                    self.denied |= set(values)
                else:                                   # fatal: how that one has ended, the log tells
                    self.unknown.append(values)
                    producer = self._open()

    def _open(self):
        producer = Producer(config(self.node, transactional_id="kills", transaction_timeout_ms=60_000))
        self._again(lambda: producer.init_transactions(DEADLINE_S))
        return producer

    @staticmethod
    def _again(act):
        """Whatever librdkafka says may be tried again."""
        until_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                act()
                return
            except KafkaException as error:
                if not (error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT) or (
                        time.monotonic() > until_s):
                    raise


class Mqtt(Worker):
    """QoS 1, by a client that connects again and sends again what was not acked."""

    def work(self):
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="beside", clean_session=False)
        client.reconnect_delay_set(0.1, 0.3)
        sent = {}
        client.on_publish = lambda _client, _data, mid, *_: self.acked.add(sent.get(mid, -1))
        client.connect(HOST, self.node.ports["mqtt"])
        client.loop_start()
        number = 0
        while not self.ends.is_set():
            if len(sent) - len(self.acked) < 50:
                info = client.publish("beside/mqtt", b"%d" % number, qos=1)
                sent[info.mid] = number
                number += 1
            time.sleep(0.005)
        client.loop_stop()
        client.disconnect()


def read(node, topic, partitions):
    """Everything committed, by partition, up to the end."""
    consumer = Consumer(config(node, group_id="look", enable_auto_commit=False, isolation_level="read_committed",
                               enable_partition_eof=True))
    consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    found, ended = {index: [] for index in range(partitions)}, set()

    def more():
        for message in consumer.consume(5_000, 0.5):
            if message.error() is None:
                found[message.partition()].append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
        return len(ended) == partitions

    wait_until(more, f"{topic} is read", deadline_s=DEADLINE_S)
    consumer.close()
    return found


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, listeners=("mqtt", "console", "kafka")).start()
    admin = AdminClient(config(node))
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in ("once", "whole")]).values():
        future.result(30)
    yield node
    node.kill9()


@pytest.mark.timeout(300 + 20 * ROUNDS)
def test_nothing_acked_is_lost_doubled_or_halved_through_kills(node):
    chance = random.Random(3)
    workers = [Idempotent(node), Transactional(node), Mqtt(node)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(ROUND_S * chance.uniform(0.5, 1.5))
            node.kill9()
            node.restart()
            assert all(worker.is_alive() for worker in workers), [worker.fault for worker in workers]
        time.sleep(ROUND_S)
    finally:
        for worker in workers:
            worker.ends.set()
    for worker in workers:
        worker.end()
    once, whole, mqtt = workers
    assert min(len(worker.acked) for worker in workers) > 20 * ROUNDS

    for values in read(node, "once", PARTITIONS).values():
        numbers = [int(value) for value in values]
        assert numbers == sorted(set(numbers)), "twice, or out of order"
        once.acked -= set(numbers)
    assert not once.acked, "lost"

    counts = Counter(int(value) for values in read(node, "whole", PARTITIONS).values() for value in values)
    assert max(counts.values()) == 1 and whole.acked <= set(counts), sorted(whole.acked - set(counts))[:10]
    assert not whole.denied & set(counts), "of what was taken back, something is there"
    for values in whole.unknown:
        assert sum(counts[value] for value in values) in (0, len(values)), "half of a transaction"

    stored = {int(value) for value in read(node, "events", 1)[0] if value.isdigit()}
    assert mqtt.acked - {-1} <= stored, "lost"
