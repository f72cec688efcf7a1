"""Three nodes that are one Kafka cluster: clients may begin at any of them, one leads; it is killed, another goes on.

confluent-kafka on all sides. Nothing that was acked is lost to the members of a group; they go on from their last
commit. Which of the three leads is not asked: on a machine that stands still for long another one may do so.
"""
from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, bootstrap, unique
from tests.support.node import HOST, Node
from tests.support.ports import free_port
from tests.support.wait import wait_until

NAMES = ("one", "two", "three")
PARTITIONS = 6


class Nodes:
    """two dials one, three dials both."""

    def __init__(self, folder):
        ports = {name: {listener: free_port() for listener in ("kafka", "link")} for name in NAMES}
        self.by_name = {}
        for number, name in enumerate(NAMES):
            links = "".join(f'[[links]]\nto = "ws://{HOST}:{ports[other]["link"]}"\n' for other in NAMES[:number])
            self.by_name[name] = Node(
                folder / name, f'{links}\n[[replicate]]\nfilter = "#"\nfrom = "earliest"\n\n[kafka]\n'
                f'cluster = {list(NAMES)}\nadvertise = "{HOST}:{ports[name]["kafka"]}"\ncluster_lost_s = 4.0\n',
                name, listeners=("mqtt", "http", "console", "kafka", "link"), ports=ports[name])
        for node in self.by_name.values():
            node.start()

    def addresses(self, *names):
        return ",".join(bootstrap(self.by_name[name]) for name in names)

    def leader(self, name):
        """Whom this node believes to lead, by its Metadata; None: it does not say."""
        try:
            found = AdminClient({"bootstrap.servers": self.addresses(name)}).list_topics(timeout=5)
        except KafkaException:
            return None
        return found.controller_id if found.controller_id in found.brokers else None

    def wait_led(self, *names):
        """The name of the node that all of these believe to lead, and that is one of them."""
        def agreed():
            found = {self.leader(name) for name in names}
            number = found.pop()
            return NAMES[number - 1] if not found and number and NAMES[number - 1] in names else None
        return wait_until(agreed, "all have the same leader")

    def create(self, topic, name):
        client = AdminClient({"bootstrap.servers": self.addresses(name)})
        wait_until(lambda: self._created(client, topic), f"{topic} is made")
        for each in NAMES:
            wait_until(lambda each=each: topic in {
                row["name"] for row in self.by_name[each].get("/api/v1/streams").json["streams"]}, f"{topic} on {each}")

    def count(self, name, topic):
        """Records of a topic on a node."""
        return next(row["events"] for row in self.by_name[name].get("/api/v1/streams").json["streams"]
                    if row["name"] == topic)

    @staticmethod
    def _created(client, topic):
        try:
            client.create_topics([NewTopic(topic, PARTITIONS)], operation_timeout=10)[topic].result(DEADLINE_S)
        except KafkaException as error:
            return error.args[0].name() == "TOPIC_ALREADY_EXISTS"
        return True


@pytest.fixture
def nodes(tmp_path):
    nodes = Nodes(tmp_path)
    try:
        yield nodes
        for node in nodes.by_name.values():
            assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
    finally:
        for node in nodes.by_name.values():
            node.process.kill9()


class Member(threading.Thread):
    """Reads and commits after each record."""

    def __init__(self, addresses, group, topic, read, protocol="classic"):
        super().__init__(daemon=True)
        options = {} if protocol == "consumer" else {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
        self.client = Consumer({
            "bootstrap.servers": addresses, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "group.protocol": protocol, "reconnect.backoff.max.ms": 500, **options})
        self.client.subscribe([topic])
        self.read = read
        self.count = 0
        self.ends = False

    def run(self):
        while not self.ends:
            message = self.client.poll(0.1)
            if message is None or message.error() is not None:
                continue
            self.read[message.value()] += 1
            self.count += 1
            try:
                self.client.commit(message, asynchronous=False)
            except KafkaException:
                pass                            # it has lost the partition: who has it now reads the record again
        self.client.close()


class Sender(threading.Thread):
    """acks=all, some records each few milliseconds."""

    def __init__(self, addresses, topic):
        super().__init__(daemon=True)
        self.client = Producer({"bootstrap.servers": addresses, "acks": "all", "linger.ms": 2,
                                "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 500,
                                "compression.type": "lz4"})
        self.topic = topic
        self.acked = set()
        self.ends = False

    def run(self):
        number = 0
        while not self.ends:
            for _ in range(5):
                number += 1
                self.client.produce(self.topic, b"%06d" % number, key=b"%d" % (number % 50), on_delivery=self._told)
            self.client.poll(0)
            time.sleep(0.02)
        self.client.flush(DEADLINE_S)

    def _told(self, error, message):
        if error is None:
            self.acked.add(message.value())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_home_of_a_group_dies_and_its_members_go_on_elsewhere(nodes, protocol):
    home = nodes.wait_led(*NAMES)
    others = [name for name in NAMES if name != home]
    topic, group, read = unique("home"), unique("group"), Counter()
    nodes.create(topic, "two")
    members = [Member(nodes.addresses(*names), group, topic, read, protocol)
               for names in (["one", "two"], ["two", "three"], ["three", "one"])]
    sender = Sender(nodes.addresses("three", "two", "one"), topic)
    for thread in (*members, sender):
        thread.start()
    wait_until(lambda: len(read) > 600 and all(member.count for member in members), "all three read")
    time.sleep(1)                               # so long what was committed may take to get elsewhere, and more
    before, counts = set(read), [member.count for member in members]
    nodes.by_name[home].kill9()
    nodes.wait_led(*others)
    acked = set(sender.acked)
    wait_until(lambda: len(set(sender.acked) - acked) > 400, "the producer goes on")
    wait_until(lambda: all(member.count > count for member, count in zip(members, counts)), "all members go on")
    wait_until(lambda: len(set(read) - before - acked) > 200, "what is new is read")
    again = sum(count - 1 for count in read.values())
    assert again < len(before) // 2, f"{again} of {len(before)} were read again: they did not go on where they were"
    nodes.by_name[home].restart()
    nodes.wait_led(*NAMES)
    sender.ends = True
    sender.join(DEADLINE_S)
    wait_until(lambda: sender.acked <= set(read), "everything that was acked is read",
               also=lambda: f"{len(sender.acked - set(read))} of {len(sender.acked)} are missing")
    for member in members:
        member.ends = True
        member.join(DEADLINE_S)
    print(f"{len(sender.acked)} acked, {sum(count - 1 for count in read.values())} read twice")


@pytest.mark.timeout(200)
def test_a_home_that_comes_back_neither_gives_offsets_nor_takes_them(nodes):
    """It was away while another node led; then that is lost, too, and it goes on from what the other has told."""
    home = nodes.wait_led(*NAMES)
    topic, group = unique("back"), unique("group")
    nodes.create(topic, home)
    client = Producer({"bootstrap.servers": nodes.addresses(*NAMES)})
    for number in range(100):
        client.produce(topic, b"%03d" % number, partition=0)
    assert client.flush(DEADLINE_S) == 0
    for name in NAMES:                          # else they begin at what they have: it is read again
        wait_until(lambda name=name: nodes.count(name, topic) == 100, f"the records are on {name}")
    commit(nodes.addresses(home), group, topic, 10)
    time.sleep(1)
    nodes.by_name[home].kill9()
    second = nodes.wait_led(*[name for name in NAMES if name != home])
    wait_until(lambda: committed(nodes.addresses(second), group, topic) == 10, "what was committed is there",
               also=lambda: f"{second} after {home}: {committed(nodes.addresses(second), group, topic)}")
    commit(nodes.addresses(second), group, topic, 60)
    nodes.by_name[home].restart()
    second = nodes.wait_led(*NAMES)
    wait_until(lambda: committed(nodes.addresses(home), group, topic) == 60, "it sends clients to who leads")
    time.sleep(1)
    nodes.by_name[second].kill9()
    left = [name for name in NAMES if name != second]
    third = nodes.wait_led(*left)
    wait_until(lambda: committed(nodes.addresses(*left), group, topic) == 60, f"{third} goes on from there")


def commit(addresses, group, topic, offset):
    client = Consumer({"bootstrap.servers": addresses, "group.id": group})
    client.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    client.close()


def committed(addresses, group, topic):
    client = Consumer({"bootstrap.servers": addresses, "group.id": group})
    try:
        return client.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    except KafkaException:
        return None
    finally:
        client.close()
