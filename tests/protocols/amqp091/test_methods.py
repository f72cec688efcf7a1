"""Methods that few clients send, each as the specification or RabbitMQ has it."""
from __future__ import annotations

import pika
import pytest

from mesh.identity.apikeys import ApiKey, hash_key, make_key
from protocols.amqp091.codec import frames, methods
from protocols.amqp091.settings import AmqpSettings
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("methods"), settings=AmqpSettings(vhosts=("/", "", "plant"))).start()
    yield made
    made.stop()


@pytest.fixture
def channel(stand):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def filled(channel, name, count):
    channel.queue_declare(name)
    for number in range(count):
        channel.basic_publish("", name, b"%d" % number)


def all_of(channel, queue):
    """Everything that is ready: (body, redelivered)."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append((body, method.redelivered))


def come(channel, held, count):
    """So many come, and then no more."""
    wait_until(lambda: channel.connection.process_data_events(0.05) or len(held) >= count, f"{count} have come")
    channel.connection.process_data_events(0.2)
    assert len(held) == count


def test_recover_gives_everything_unacked_out_again_in_its_order(channel):
    filled(channel, "recover", 5)
    bodies = [channel.basic_get("recover")[2] for _ in range(3)]
    assert bodies == [b"0", b"1", b"2"]
    channel.basic_recover(requeue=True)
    assert all_of(channel, "recover") == [
        (b"0", True), (b"1", True), (b"2", True), (b"3", False), (b"4", False)]


def test_a_channel_that_stops_the_flow_gets_nothing_until_it_goes_on(stand):
    raw = Raw(stand.port)
    raw.open()
    raw.send(1, methods.QueueDeclare(0, "flow"))
    raw.expect(methods.QueueDeclareOk)
    raw.send(1, methods.ChannelFlow(False))
    assert raw.expect(methods.ChannelFlowOk).active is False
    raw.send(1, methods.BasicConsume(0, "flow", "c"))
    raw.expect(methods.BasicConsumeOk)
    raw.publish(1, "", "flow", b"x")
    raw.send(1, methods.QueueDeclare(0, "flow", True))
    assert raw.expect(methods.QueueDeclareOk).message_count == 1, "it waits"
    raw.send(1, methods.ChannelFlow(True))
    found = {type(raw.method()), type(raw.method())}
    assert found == {methods.ChannelFlowOk, methods.BasicDeliver}
    raw.close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_prefetch_holds_for_each_consumer_or_for_the_channel(channel, shared):
    """global_qos of RabbitMQ: false, each consumer; true, all of the channel together."""
    name = f"prefetch-{shared}"
    filled(channel, name, 20)
    channel.basic_qos(prefetch_count=3, global_qos=shared)
    held = []
    for _ in range(2):
        channel.basic_consume(name, lambda *parts: held.append(parts[3]))
    come(channel, held, 3 if shared else 6)


def test_a_qos_that_comes_later_counts_for_consumers_that_run(channel):
    """As Celery wants it for tasks with an ETA."""
    filled(channel, "later", 20)
    channel.basic_qos(prefetch_count=2)
    held = []
    channel.basic_consume("later", lambda *parts: held.append(parts[3]))
    come(channel, held, 2)
    channel.basic_qos(prefetch_count=7)
    come(channel, held, 7)


@pytest.mark.parametrize("kind", ["x-modulus-hash", "x-consistent-hash"])
def test_a_hash_exchange_gives_each_message_to_one_queue_and_one_key_to_the_same_one(channel, kind):
    exchange = f"by-{kind}"
    channel.exchange_declare(exchange, kind)
    queues = [f"{kind}-{number}" for number in range(3)]
    for name in queues:
        channel.queue_declare(name)
        channel.queue_bind(name, exchange, "1")
    for number in range(90):
        for _ in range(2):
            channel.basic_publish(exchange, f"key {number}", b"%d" % number)
    found = [[body for body, _ in all_of(channel, name)] for name in queues]
    assert sorted(body for part in found for body in part) == sorted(2 * [b"%d" % number for number in range(90)])
    assert all(part.count(body) == 2 for part in found for body in part)
    assert all(len(part) > 10 for part in found)


@pytest.mark.parametrize(("vhost", "refused"), [("/", False), ("", False), ("plant", False), ("elsewhere", True)])
def test_a_virtual_host_is_one_of_the_names_that_are_configured(stand, vhost, refused):
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.PROTOCOL_HEADER)
    raw.expect(methods.ConnectionStart)
    raw.send(0, methods.ConnectionStartOk({"capabilities": {}}, "PLAIN", b"\0guest\0guest", "en_US"))
    offered = raw.expect(methods.ConnectionTune)
    raw.send(0, methods.ConnectionTuneOk(offered.channel_max, offered.frame_max, 0))
    raw.send(0, methods.ConnectionOpen(vhost))
    if refused:
        assert raw.closed() == (530, "NOT_ALLOWED - vhost elsewhere not found")
    else:
        raw.expect(methods.ConnectionOpenOk)
    raw.close()


@pytest.mark.parametrize(("secret", "taken"), [(b"secret", True), (b"wrong", False), (b"other", False)])
def test_a_new_secret_must_be_one_of_the_same_user(tmp_path, secret, taken):
    stand = Stand(tmp_path, users=[("ana", "secret", ()), ("bob", "other", ())]).start()
    try:
        raw = Raw(stand.port, user=b"ana", password=b"secret")
        raw.send(0, methods.ConnectionUpdateSecret(secret, "the old one ends"))
        if taken:
            raw.expect(methods.ConnectionUpdateSecretOk)
            raw.open()
        else:
            assert raw.closed() == (530, "NOT_ALLOWED - the new secret was refused")
        raw.close()
    finally:
        stand.stop()


@pytest.mark.parametrize("user", [b"robot", b"bearer", b""])
def test_a_token_is_a_password(tmp_path, user):
    """An API key or a JWT; its user's name beside it, "bearer", or none."""
    stand = Stand(tmp_path, users=[("ana", "secret", ())]).start()
    try:
        key = make_key()
        stand.do(lambda: stand.authenticator.tokens.replace(
            {hash_key(key): ApiKey("the robot's", "robot", (), None)}, ()))
        raw = Raw(stand.port, user=user, password=key.encode())
        assert {row["user"] for row in stand.do(stand.amqp.clients_snapshot)} == {"robot"}
        raw.close()
        wrong = Raw(stand.port, login=False)
        wrong.send_raw(frames.PROTOCOL_HEADER)
        wrong.expect(methods.ConnectionStart)
        wrong.send(0, methods.ConnectionStartOk(
            {"capabilities": wrong.capabilities}, "PLAIN", b"\0ana\0" + key.encode(), "en_US"))
        assert wrong.closed()[0] == 403, "it is another user's"
    finally:
        stand.stop()


def test_heartbeats_are_those_that_were_agreed_on_and_none_when_the_client_wants_none(stand):
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.PROTOCOL_HEADER)
    raw.expect(methods.ConnectionStart)
    raw.send(0, methods.ConnectionStartOk({"capabilities": {}}, "PLAIN", b"\0guest\0guest", "en_US"))
    offered = raw.expect(methods.ConnectionTune)
    raw.send(0, methods.ConnectionTuneOk(offered.channel_max, offered.frame_max, 1))
    raw.send(0, methods.ConnectionOpen("/"))
    raw.expect(methods.ConnectionOpenOk)
    assert raw.frame()[:2] == (frames.HEARTBEAT, 0)
    while raw.frame() is not None:                      # we send none: it ends
        pass
    raw.close()
