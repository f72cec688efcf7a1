"""AMQP 0-9-1: every kind of method as fast as it goes, content of any size, before and after the login."""
from __future__ import annotations

import struct

import pytest

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.codec.frames import content_frames, method_frame
from protocols.amqp091.codec.methods import encode_method
from protocols.amqp091.codec.properties import Content, encode_properties
from tests.fairness.chunks import SEVERAL, many
from tests.fairness.floods import Flood
from tests.fairness.harness import SOAK, grows, hold
from tests.support.node import Node

pytestmark = pytest.mark.measured

FRAME_BYTES = 131_072


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("fairness-amqp"), listeners=("mqtt", "http", "console", "amqp"))
    made.start()
    yield made
    made.kill9()


def method(channel, it):
    return method_frame(channel, encode_method(it))


def login(*more):
    """All at a time: nothing in it depends on an answer."""
    return b"".join((
        frames.PROTOCOL_HEADER, method(0, methods.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest", "en_US")),
        method(0, methods.ConnectionTuneOk(2047, FRAME_BYTES, 0)), method(0, methods.ConnectionOpen("/")),
        method(1, methods.ChannelOpen()), *more))


def address(node):
    return "127.0.0.1", node.ports["amqp"]


def flood(node, chunk, *more, **options):
    return Flood(address(node), chunk, opening=login(*more), opening_reply_bytes=100, **options)


def publish(exchange, key, body=b"x", properties=b"\0\0"):
    return method(1, methods.BasicPublish(0, exchange, key)) + content_frames(1, properties, body, FRAME_BYTES)


def queue(name="evil", durable=True, **arguments):
    return method(1, methods.QueueDeclare(0, name, False, durable, False, False, True, arguments))


def bind(key, source="evil"):
    return method(1, methods.QueueBind(0, "evil", source, key, True))


def unbind(key):
    return method(1, methods.QueueUnbind(0, "evil", "evil", key))


def delete(name):
    return method(1, methods.QueueDelete(0, name, False, False, True))


def consume(tag, name="evil", no_ack=False):
    return method(1, methods.BasicConsume(0, name, tag, no_ack=no_ack, nowait=True))


def reopen(number):
    channel = number % 2000 + 2
    return method(channel, methods.ChannelOpen()) + method(channel, methods.ChannelClose(200, "x"))


def exchange(name, kind, **arguments):
    return method(1, methods.ExchangeDeclare(0, name, kind, False, False, False, False, True, arguments))


HEADERS = encode_properties(Content(headers={f"name-{n}": [n, "text", {"inner": n}] for n in range(200)}))
LATE = encode_properties(Content(headers={"x-delay": 50}))
TOPIC = exchange("evil", "topic")
WORDS = ".".join(["a"] * 28)
DEEP = [bind(".".join(["#", "a"] * depth + ["#"])) for depth in range(1, 14)]
ROUND = queue("evil-round", **{"x-max-length": 10, "x-dead-letter-exchange": "",
                               "x-dead-letter-routing-key": "evil-round"})

CHUNKS = {          # what is sent again and again, and what goes before it
    "heartbeats": lambda: (frames.HEARTBEAT_FRAME * (SEVERAL // 8), ()),
    "the same message": lambda: (publish("", "evil") * (SEVERAL // 60), (queue(),)),
    "the same message with confirms": lambda: (
        publish("", "evil", b"x" * 100, b"\x10\x00\x02") * 6_000, (queue(), method(1, methods.ConfirmSelect(True)))),
    "ever new keys": lambda: (many(lambda n: publish("amq.topic", f"evil.{n % 97}.{n}")), ()),
    "large header tables": lambda: (publish("", "evil", b"x", HEADERS) * 100, (queue(),)),
    "large bodies": lambda: (publish("", "evil", b"x" * 900_000) * 4, (queue(),)),
    "keys of 28 words, bindings full of #": lambda: (publish("evil", WORDS) * 5_000, (TOPIC, queue(), *DEEP)),
    "gets": lambda: (method(1, methods.BasicGet(0, "evil", True)) * (SEVERAL // 30), (queue(),)),
    "declares of one queue": lambda: (queue() * (SEVERAL // 40), ()),
    "ever new queues, and away again": lambda: (
        many(lambda n: queue(f"evil-{n}", False) + delete(f"evil-{n}"), SEVERAL // 2), ()),
    "binding and unbinding": lambda: (
        many(lambda n: bind(f"k.{n % 50}.#") + unbind(f"k.{n % 50}.#"), SEVERAL // 2), (TOPIC, queue())),
    "channels open and close": lambda: (many(reopen), ()),
    "consuming and cancelling": lambda: (
        many(lambda n: consume(f"t{n}") + method(1, methods.BasicCancel(f"t{n}", True)), SEVERAL // 2),
        (queue(), publish("", "evil") * 100)),
    "transactions": lambda: (
        (publish("", "evil") * 20 + method(1, methods.TxCommit())) * 500, (queue(), method(1, methods.TxSelect()))),
    "a queue that deals with itself": lambda: (publish("", "evil-round", b"x" * 100) * 5_000, (ROUND,)),
    "delays": lambda: (publish("evil-late", "k", b"x", LATE) * 5_000,
                       (exchange("evil-late", "x-delayed-message", **{"x-delayed-type": "fanout"}),)),
}


QUICK = ("the same message with confirms", "large header tables", "keys of 28 words, bindings full of #", "gets",
         "ever new queues, and away again", "a queue that deals with itself", "delays")


@pytest.mark.parametrize("name", CHUNKS if SOAK else QUICK)
def test_one_client_that_is_logged_in(node, name):
    chunk, more = CHUNKS[name]()
    hold(node, flood(node, chunk, *more))


def test_acks_of_nothing(node):
    """Each closes the channel, and the next one is on its way."""
    chunk = (method(1, methods.BasicAck(7, False)) + method(1, methods.ChannelCloseOk())
             + method(1, methods.ChannelOpen())) * 20_000
    hold(node, flood(node, chunk))


def test_a_consumer_that_reads_nothing(node):
    chunk = publish("", "evil-slow", b"x" * 1_000) * 500
    hold(node, flood(node, chunk, queue("evil-slow", False), consume("t", "evil-slow", True), reads=False))


def test_logins_again_and_again(node):
    hold(node, Flood(address(node), login() + method(0, methods.ConnectionClose(200, "x")), connections=30))


def test_no_amqp_at_all(node):
    hold(node, Flood(address(node), b"GET / HTTP/1.1\r\n\r\n" * 10_000, connections=30))


def test_a_login_byte_by_byte_with_a_table_that_does_not_end(node):
    table = struct.pack(">I", 50_000) + b"\x01aS" + struct.pack(">I", 40_000) + b"x" * 20_000
    start = struct.pack(">BHI", 1, 0, 60_000) + b"\x00\x0a\x00\x0b" + table
    hold(node, Flood(address(node), frames.PROTOCOL_HEADER + start, connections=30, drip_bytes=7))


def test_bodies_that_do_not_end_leave_nothing_behind(node):
    head = struct.pack(">BHIHHQ", 2, 1, 14, 60, 0, 1_000_000) + b"\0\0\xce"
    part = struct.pack(">BHI", 3, 1, 100_000) + b"x" * 100_000 + b"\xce"
    begun = method(1, methods.BasicPublish(0, "", "evil")) + head + part * 9
    grows(node, flood(node, begun, once=True, connections=20))
