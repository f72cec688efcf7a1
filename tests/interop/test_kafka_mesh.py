"""Topics between nodes: what confluent-kafka has compressed stands at the other nodes as it was compressed, byte for
byte, through cuts and kills; and a topic that is deleted and made again is another one there, too.
"""
from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, bootstrap, unique
from tests.support.loopthread import LoopThread
from tests.support.node import HOST, Node
from tests.support.tcpproxy import TcpProxy
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "kafka", "link")
PARTITIONS = 3
CHECKED_FROM = 16               # of a batch: behind base offset, length and leader epoch, which the node sets
EVERYTHING = '[[replicate]]\nfilter = "#"\nfrom = "earliest"\n'


class Nodes:
    """graz and lyon dial cloud; the line of graz can be cut."""

    def __init__(self, folder):
        self.loop = LoopThread("proxy")
        self.loop.start()
        self.cloud = Node(folder / "cloud", EVERYTHING, "cloud", "eu", LISTENERS)
        self.line = TcpProxy(self.cloud.ports["link"])
        self.loop.wait(self.line.start())
        self.graz = self._plant(folder, "graz", self.line.port)
        self.lyon = self._plant(folder, "lyon", self.cloud.ports["link"])
        self.all = self.cloud, self.graz, self.lyon
        for node in self.all:
            node.start()

    def _plant(self, folder, name, port):
        return Node(folder / name, f'[[links]]\nto = "ws://{HOST}:{port}"\n{EVERYTHING}', name, name, LISTENERS)

    def cut(self):
        self.loop.call(self.line.refuse)
        self.loop.call(self.line.cut)

    def mend(self):
        self.loop.call(self.line.resume)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    nodes = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        yield nodes
        for node in nodes.all:
            assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
    finally:
        for node in nodes.all:
            node.process.kill9()


def create(node, topic):
    client = AdminClient({"bootstrap.servers": bootstrap(node)})
    client.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(DEADLINE_S)


def delete(node, topic):
    client = AdminClient({"bootstrap.servers": bootstrap(node)})
    client.delete_topics([topic])[topic].result(DEADLINE_S)


class Sender:
    """acks=all; it goes on through kills of its node."""

    def __init__(self, node, topic, codec):
        self.topic = topic
        self.values = []
        self.acked = 0
        self.client = Producer({
            "bootstrap.servers": bootstrap(node), "compression.type": codec, "linger.ms": 5,
            "message.timeout.ms": 120_000, "enable.idempotence": True, "reconnect.backoff.max.ms": 500})

    def send(self, count):
        for _ in range(count):
            number = len(self.values)
            value = f"{self.topic} {number} ".encode() + b"x" * (number % 300)
            self.values.append(value)
            self.client.produce(self.topic, value, key=b"%d" % (number % 40), partition=number % PARTITIONS,
                                on_delivery=self._delivered)
        self.client.poll(0)

    def _delivered(self, error, message):
        assert error is None, error
        self.acked += 1

    def flush(self):
        assert self.client.flush(DEADLINE_S * 2) == 0
        assert self.acked == len(self.values)


def fetch(node, topic, partition):
    """The stored batches of a partition, as a client of Fetch version 4 gets them."""
    found, offset = [], 0
    with contextlib.closing(socket.create_connection((HOST, node.ports["kafka"]), DEADLINE_S)) as connection:
        while True:
            name = topic.encode()
            body = struct.pack(">iiiibi", -1, 0, 1, 1 << 20, 0, 1) + struct.pack(">h", len(name)) + name + struct.pack(
                ">iiqi", 1, partition, offset, 1 << 20)
            request = struct.pack(">hhih", 1, 4, 7, -1) + body
            connection.sendall(struct.pack(">i", len(request)) + request)
            size, = struct.unpack(">i", _read(connection, 4))
            answer = _read(connection, size)
            at = 4 + 4 + 4 + 2 + len(name) + 4 + 4
            code, _, _, aborted = struct.unpack_from(">hqqi", answer, at)
            assert not code and aborted <= 0
            size, = struct.unpack_from(">i", answer, at + 22)
            data = answer[at + 26:at + 26 + size]
            if not data:
                return found
            while data:
                base, length = struct.unpack_from(">qi", data)
                found.append(data[:12 + length])
                offset = base + struct.unpack_from(">i", data, 23)[0] + 1
                data = data[12 + length:]


def _read(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the node has closed the connection"
        data += more
    return data


def contents(node, topic):
    return [[batch[CHECKED_FROM:] for batch in fetch(node, topic, index)] for index in range(PARTITIONS)]


def pulled(node, origin, topic):
    """Names, by which nodes know the topic, of what one of them pulls as it is stored."""
    rows = [row["stream"] for row in node.get("/api/v1/mesh/lag").json["origins"] if row["node"] == origin.name
            and row["stream"].startswith(f"{topic}@") and row["state"] == "running" and row["as_stored"]]
    return {name for name in rows if rows.count(name) == PARTITIONS}


def wait_known(origin, topic, *others, before=frozenset()):
    wait_until(lambda: all(pulled(node, origin, topic) - before for node in others), f"{topic} is known elsewhere")


def wait_same(origin, others, topic):
    wanted = contents(origin, topic)
    for node in others:
        wait_until(lambda node=node: sum(map(len, contents(node, topic))) >= sum(map(len, wanted)),
                   f"{node.name} has {topic}", deadline_s=DEADLINE_S * 2)
        assert contents(node, topic) == wanted, node.name
    return wanted


@pytest.mark.timeout(240)
@pytest.mark.parametrize("codec, number", [("lz4", 3), ("zstd", 4), ("none", 0)])
def test_a_topic_is_the_same_byte_for_byte_on_three_nodes(nodes, codec, number):
    """Cuts and kills of origin and destination in the middle of it."""
    topic = unique(f"raw.{codec}")
    for node in nodes.all:
        create(node, topic)
    wait_known(nodes.graz, topic, nodes.cloud, nodes.lyon)
    sender = Sender(nodes.graz, topic, codec)
    sender.send(600)
    sender.flush()
    if codec == "lz4":
        nodes.cut()
        sender.send(600)
        sender.flush()
        nodes.lyon.kill9()
        nodes.mend()
        sender.send(300)
        nodes.graz.kill9()
        nodes.lyon.restart()
        nodes.graz.restart()
    sender.send(300)
    sender.flush()
    for batches in wait_same(nodes.graz, (nodes.cloud, nodes.lyon), topic):
        assert batches and all(batch[6] & 7 == number for batch in batches), "compressed as the producer did it"


@pytest.mark.timeout(240)
def test_a_topic_that_is_deleted_and_made_again_at_the_origin_comes_again(nodes):
    topic = unique("again")
    create(nodes.graz, topic)
    create(nodes.lyon, topic)
    wait_known(nodes.graz, topic, nodes.lyon)
    first = Sender(nodes.graz, topic, "lz4")
    first.send(90)
    first.flush()
    before = wait_same(nodes.graz, [nodes.lyon], topic)
    known = pulled(nodes.lyon, nodes.graz, topic)
    delete(nodes.graz, topic)
    create(nodes.graz, topic)
    wait_known(nodes.graz, topic, nodes.lyon, before=known)
    second = Sender(nodes.graz, topic, "lz4")
    second.send(60)
    second.flush()
    wanted = [old + new for old, new in zip(before, contents(nodes.graz, topic))]
    wait_until(lambda: contents(nodes.lyon, topic) == wanted, "what is in the new one has come behind the old")


@pytest.mark.timeout(240)
def test_events_of_mqtt_stand_between_them_and_everything_is_there_once(nodes):
    topic = unique("mixed")
    create(nodes.graz, topic)
    create(nodes.cloud, topic)
    sender = Sender(nodes.graz, topic, "zstd")
    mesh_topic = topic.replace(".", "/")
    for number in range(30):
        sender.send(10)
        assert nodes.graz.publish(mesh_topic, b"event %d" % number).status < 300
    sender.flush()
    total = 330

    def count(node):
        return sum(struct.unpack_from(">i", batch, 57)[0]
                   for index in range(PARTITIONS) for batch in fetch(node, topic, index))

    wait_until(lambda: count(nodes.cloud) == total == count(nodes.graz), "all of it has come")
