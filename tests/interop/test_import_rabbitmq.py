"""`meshgate import rabbitmq`: a RabbitMQ is set up, its definitions are exported, and a node becomes what it was."""
from __future__ import annotations

import json

import pika
import pytest

from tests.conftest import require_peer
from tests.support import rabbitmq
from tests.support.node import Node, meshgate

ARGUMENTS = {"x-message-ttl": 60_000, "x-dead-letter-exchange": "dead", "x-max-priority": 5}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("import"), listeners=("amqp", "console"))
    made.start()
    yield made
    made.kill9()


def address(node):
    return f"amqp://127.0.0.1:{node.ports['amqp']}"


def channel_of(port):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)).channel()


def set_up(channel):
    channel.exchange_declare("orders", "topic", durable=True, arguments={"alternate-exchange": "dead"})
    channel.exchange_declare("dead", "fanout", durable=True)
    channel.exchange_declare("kinds", "headers", durable=True)
    channel.queue_declare("work", durable=True, arguments=ARGUMENTS)
    channel.queue_declare("quorate", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    channel.queue_declare("graves", durable=True)
    channel.queue_bind("work", "orders", "eu.#")
    channel.queue_bind("graves", "dead", "")
    channel.queue_bind("quorate", "kinds", "", arguments={"x-match": "any", "n": 1, "text": "a"})
    channel.exchange_bind("kinds", "orders", "*.special")


def test_what_rabbitmq_exports_is_declared_here_and_works_as_it_did_there(tmp_path, node):
    require_peer(rabbitmq.installed(), "RabbitMQ")
    broker = rabbitmq.RabbitMq(tmp_path / "rabbitmq").start()
    file = tmp_path / "definitions.json"
    try:
        set_up(channel_of(broker.port))
        broker.control("set_policy", "short", "^work$", '{"max-length": 100}')
        broker.control("add_user", "ana", "secret")
        broker.control("set_permissions", "ana", "^$", "^orders$", "^(work|graves)$")
        broker.control("export_definitions", str(file))
    finally:
        broker.stop()
    dry = meshgate("import", "rabbitmq", str(file), "--dry-run")
    said = dry.stdout.decode()
    assert dry.returncode == 0, dry.stderr
    for line in ("exchange orders (topic)", "binding orders → work, key eu.#",
                 "policy short (max-length 100 for ^work$)", "user ana: its password",
                 'topics = ["orders/#"]', 'topics = ["$queue/graves", "$queue/work"]',
                 "nothing was changed"):
        assert line in said, said
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel_of(node.ports["amqp"]).queue_declare("work", passive=True)
    for _ in range(2):                                              # again changes nothing
        done = meshgate("import", "rabbitmq", str(file), "--amqp", address(node))
        assert done.returncode == 0 and "0 refused" in done.stdout.decode(), (done.stdout, done.stderr)
    channel = channel_of(node.ports["amqp"])
    set_up(channel)                                                 # what clients declare is what is there
    channel.confirm_delivery()
    channel.basic_publish("orders", "eu.1", b"one", pika.BasicProperties(priority=3), mandatory=True)
    assert channel.basic_get("work", auto_ack=True)[2] == b"one"
    channel.basic_publish("orders", "us.1", b"nobody's", mandatory=True)
    assert channel.basic_get("graves", auto_ack=True)[2] == b"nobody's"
    channel.basic_publish("orders", "x.special", b"two", pika.BasicProperties(headers={"n": 1}), mandatory=True)
    assert channel.basic_get("quorate", auto_ack=True)[2] == b"two"


def write(tmp_path, **parts):
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(parts))
    return str(file)


def test_what_has_no_counterpart_is_named_and_left_out(tmp_path):
    file = write(
        tmp_path, vhosts=[{"name": "/"}, {"name": "other"}],
        exchanges=[{"name": "odd", "vhost": "/", "type": "x-recent-history"}, {"name": "away", "vhost": "other"},
                   {"name": "late", "type": "x-delayed-message", "arguments": {"x-delayed-type": "direct"}}],
        queues=[{"name": "bad", "arguments": {"x-max-length": -1}}, {"name": "n" * 256}, {"name": "amq.gen-1"},
                {"name": "huge", "arguments": {"x": 1 << 70}}, {"name": "good"}],
        bindings=[{"source": "odd", "destination": "good"},
                  {"source": "late", "destination": "good", "routing_key": "k"}],
        parameters=[{"component": "shovel", "name": "dig"}], topic_permissions=[{}],
        users=[{"name": "root", "tags": ["administrator"]}],
        permissions=[{"user": "root", "write": ".*", "read": "(a+)+$"}, {"user": "eve", "write": "["}])
    done = meshgate("import", "rabbitmq", file, "--dry-run")
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "3 to make" in said
    for line in ("vhost other:", "exchange odd: type x-recent-history", "queue bad: invalid arg 'x-max-length'",
                 "a name has more than 255 bytes", "queue amq.gen-1: named by the server", "queue huge: an argument",
                 "binding odd → good: odd is not made", "shovel dig:", "1 topic permissions",
                 "meshgate user add root --role admin", "'(a+)+$' (subscribe) is not understood",
                 "'[' (publish) is not understood", 'topics = ["#", "$queue/#"]'):
        assert line in said, said


@pytest.mark.parametrize(("text", "says"), [
    ("no json", "no definitions of RabbitMQ"), ('{"queues": [{"name": 5}]}', "no definitions of RabbitMQ"),
    ("[]", "no definitions of RabbitMQ")])
def test_a_file_that_is_something_else_is_one_line(tmp_path, text, says):
    file = tmp_path / "file.json"
    file.write_text(text)
    done = meshgate("import", "rabbitmq", str(file), "--dry-run")
    assert done.returncode == 1 and says in done.stderr.decode() and len(done.stderr.splitlines()) == 1
    missing = meshgate("import", "rabbitmq", str(tmp_path / "none"), "--dry-run")
    assert missing.returncode == 1 and b"cannot read" in missing.stderr


def test_a_node_that_is_not_there_or_refuses_is_said(tmp_path, node):
    file = write(tmp_path, queues=[{"name": "twice", "durable": True}])
    assert meshgate("import", "rabbitmq", file, "--amqp", address(node)).returncode == 0
    other = write(tmp_path, queues=[{"name": "twice", "durable": True, "arguments": {"x-max-length": 7}},
                                    {"name": "next"}])
    done = meshgate("import", "rabbitmq", other, "--amqp", address(node))
    assert done.returncode == 1 and b"inequivalent arg 'x-max-length'" in done.stderr and b"1 made" in done.stdout
    gone = meshgate("import", "rabbitmq", file, "--amqp", "amqp://127.0.0.1:1")
    assert gone.returncode == 1 and b"no AMQP listener" in gone.stderr
    wrong = meshgate("import", "rabbitmq", file, "--amqp", f"amqp://127.0.0.1:{node.ports['console']}")
    assert wrong.returncode == 1 and b"Traceback" not in wrong.stderr
