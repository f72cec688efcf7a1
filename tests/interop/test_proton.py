"""python-qpid-proton against a real node: queues, topics, outcomes, drain, transactions, and what kill -9 leaves."""
from __future__ import annotations

import os
import time
import uuid
from importlib.util import find_spec

import pytest

from mesh.identity.users import hash_password
from tests.support.node import Node

if find_spec("proton") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("proton is not installed", allow_module_level=True)
import proton
from proton import ConnectionException, Message, byte, int32, symbol, timestamp, ulong
from proton.utils import BlockingConnection, LinkDetached, SendException

USERS = f'''
[[users]]
name = "ana"
password_hash = "{hash_password("secret")}"
[[users]]
name = "eve"
password_hash = "{hash_password("evil")}"
[[policies]]
allow = ["connect"]
to = ["*"]
[[policies]]
allow = ["publish", "subscribe"]
to = ["user:ana"]
topics = ["plant/#", "$queue/jobs", "$queue/other"]
[[policies]]
allow = ["publish"]
to = ["user:eve"]
topics = ["$queue/jobs"]
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with_amqp = Node(tmp_path_factory.mktemp("proton"), listeners=("amqp", "http", "console"))
    with_amqp.start()
    yield with_amqp
    with_amqp.kill9()


def connect(node, user="", **options):
    return BlockingConnection(f"amqp://{user}127.0.0.1:{node.ports['amqp']}", timeout=20, **options)


@pytest.fixture
def connection(node):
    opened = connect(node)
    yield opened
    opened.close()


def full_message():
    return Message(
        id=uuid.UUID(int=5), user_id=b"anonymous", address="queue://full", subject="s", reply_to="queue://back",
        correlation_id=ulong(7), content_type=symbol("application/x"), content_encoding=symbol("gzip"),
        expiry_time=4_000_000_000, creation_time=1_700_000_000, group_id="g", group_sequence=3, reply_to_group_id="rg",
        durable=True, priority=9, ttl=1_000.0,
        annotations={symbol("x-opt-jms-msg-type"): byte(5), symbol("x-opt-list"): [1, "a", None]},
        properties={"i": int32(4), "l": 1 << 40, "t": timestamp(1000), "u": uuid.UUID(int=1), "f": 1.5, "b": b"\0\xff",
                    "n": None, "yes": True},
        body={"map": [1, 2, {"deep": symbol("s")}], "x": ulong(1)})


FIELDS = ("id", "user_id", "address", "subject", "reply_to", "correlation_id", "content_type", "content_encoding",
          "expiry_time", "creation_time", "group_id", "group_sequence", "reply_to_group_id", "durable", "priority",
          "annotations", "properties", "body")


def test_every_section_and_type_comes_out_as_it_went_in_through_kill_9(node):
    connection = connect(node)
    sent = full_message()
    connection.create_sender("queue://full").send(sent)
    node.restart()
    connection = connect(node)
    receiver = connection.create_receiver("queue://full", credit=1)
    found = receiver.receive(timeout=20)
    for field in FIELDS:
        left, right = getattr(sent, field), getattr(found, field)
        assert (left, type(left)) == (right, type(right)), field
    assert 0 < found.ttl <= sent.ttl and found.delivery_count == 0
    kinds = {name: bytes if type(value) is memoryview else type(value) for name, value in found.properties.items()}
    assert kinds == {name: type(value) for name, value in sent.properties.items()}
    receiver.accept()
    connection.close()


def test_accepted_is_on_disk_and_unacked_comes_again_counted(node):
    connection = connect(node)
    sender = connection.create_sender("queue://kept")
    for number in range(20):
        sender.send(Message(body=number, durable=True))
    receiver = connection.create_receiver("queue://kept", credit=3)
    assert [receiver.receive().body for _ in range(3)] == [0, 1, 2]
    receiver.accept()
    receiver.accept()
    connection.create_sender("queue://other").send(Message(body="the answers above came before this"))
    time.sleep(0.5)                                     # a kill repeats at most a quarter of a second of answers
    node.restart()
    connection = connect(node)
    receiver = connection.create_receiver("queue://kept", credit=30)
    found = [receiver.receive() for _ in range(18)]
    assert [message.body for message in found] == list(range(2, 20))
    assert found[0].delivery_count == 1
    connection.close()


def test_released_does_not_count_modified_does_and_rejected_is_gone(connection):
    connection.create_sender("queue://outcomes").send(Message(body="x"))
    receiver = connection.create_receiver("queue://outcomes", credit=1)
    assert receiver.receive().delivery_count == 0
    receiver.release(delivered=False)
    receiver.flow(1)
    assert receiver.receive().delivery_count == 0
    receiver.release(delivered=True)                    # modified, but not failed
    receiver.flow(1)
    assert receiver.receive().delivery_count == 0
    failed = receiver.fetcher.unsettled.popleft()
    failed.local.failed = True
    failed.update(proton.Delivery.MODIFIED)
    failed.settle()
    receiver.flow(1)
    assert receiver.receive().delivery_count == 1
    receiver.reject()
    receiver.flow(1)
    with pytest.raises(proton.Timeout):
        receiver.receive(timeout=0.3)


def test_a_topic_reader_gets_what_other_protocols_publish(node, connection):
    receiver = connection.create_receiver("topic://plant/+/temp")
    from tests.support.node import http
    answer = http("POST", node.url("http", "/v1/events/plant/graz/temp"), b"21.5", {
        "Meshgate-Header-unit": "C", "Content-Type": "text/plain"})
    assert answer.status < 300, answer.body
    message = receiver.receive(timeout=20)
    assert bytes(message.body) == b"21.5" and message.properties == {"unit": "C"}
    assert message.address == "topic://plant/graz/temp" and message.content_type == "text/plain"
    receiver.accept()


def test_a_dynamic_queue_takes_the_answer(connection):
    answers = connection.create_receiver(None, dynamic=True)
    requests = connection.create_receiver("queue://requests")
    connection.create_sender("queue://requests").send(
        Message(body="ask", reply_to=answers.link.remote_source.address, correlation_id="1"))
    asked = requests.receive()
    connection.create_sender(None).send(Message(body="answer", address=asked.reply_to, correlation_id="1"))
    assert answers.receive().body == "answer"


def test_a_name_twice_in_one_direction_is_answered(connection):
    """The newer link takes over (AMQP 1.0 §2.6.1); proton gives two receivers of one address the same name."""
    connection.create_receiver("queue://twice")
    with pytest.raises(LinkDetached, match="stolen"):
        connection.create_receiver("queue://twice")
    connection.create_receiver("queue://twice", name="another")


def test_wrong_and_forbidden_things_get_their_conditions(tmp_path):
    node = Node(tmp_path, listeners=("amqp", "console"), extra=USERS)
    node.start()
    try:
        with pytest.raises(ConnectionException):
            connect(node, "ana:wrong@", allowed_mechs="PLAIN", allow_insecure_mechs=True)
        with pytest.raises(ConnectionException):
            connect(node, allowed_mechs="ANONYMOUS")
        ana = connect(node, "ana:secret@", allowed_mechs="PLAIN", allow_insecure_mechs=True)
        eve = connect(node, "eve:evil@", allowed_mechs="PLAIN", allow_insecure_mechs=True)
        for address in ("queue://secret", "/queues/secret", "topic://secret"):
            with pytest.raises(LinkDetached, match="unauthorized-access"):
                ana.create_receiver(address)
            with pytest.raises(LinkDetached, match="unauthorized-access"):
                ana.create_sender(address)
        with pytest.raises(LinkDetached, match="not-found"):
            ana.create_receiver("/queues/other")
        with pytest.raises(LinkDetached, match="invalid-field"):
            ana.create_sender("topic://plant/+")
        eve.create_sender("queue://jobs").send(Message(body="of eve"))
        with pytest.raises(LinkDetached, match="unauthorized-access"):
            eve.create_receiver("queue://jobs")
        assert ana.create_receiver("queue://jobs").receive().body == "of eve"
        with pytest.raises(SendException):
            ana.create_sender("queue://jobs").send(Message(body="forged", user_id=b"eve"))
        with pytest.raises(SendException):
            ana.create_sender(None).send(Message(body="x", address="topic://elsewhere"))
        ana.create_sender(None).send(Message(body="x", address="topic://plant/a"))
    finally:
        node.kill9()


def test_large_messages_go_in_many_frames_and_too_large_ones_are_refused(connection):
    sender = connection.create_sender("queue://large")
    body = bytes(range(256)) * 3_000
    sender.send(Message(body=body))
    receiver = connection.create_receiver("queue://large")
    assert bytes(receiver.receive().body) == body
    receiver.accept()
    with pytest.raises((LinkDetached, ConnectionException, SendException)):
        sender.send(Message(body=b"x" * (64 << 20)))


def test_a_thousand_messages_keep_their_order(connection):
    sender = connection.create_sender("queue://order")
    receiver = connection.create_receiver("queue://order", credit=100)
    started = time.monotonic()
    for number in range(300):
        sender.send(Message(body=number))
    for number in range(300):
        assert receiver.receive().body == number
        receiver.accept()
    assert time.monotonic() - started < 60
