"""pika against a real node: what its users do, and what they are told when it does not work."""
from __future__ import annotations

import pika
import pytest
from pika.exceptions import (
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from mesh.identity.users import hash_password
from tests.support.node import Node
from tests.support.wait import wait_until

USERS = f'''
[[users]]
name = "ana"
password_hash = "{hash_password("secret")}"
[[users]]
name = "eve"
password_hash = "{hash_password("evil")}"
[[users]]
name = "boss"
password_hash = "{hash_password("boss")}"
roles = ["admin"]
[[policies]]
allow = ["connect"]
to = ["*"]
[[policies]]
allow = ["publish", "subscribe"]
to = ["user:ana"]
topics = ["orders/#", "$queue/orders-*", "$queue/orders-work"]
[[policies]]
allow = ["publish", "subscribe"]
to = ["user:eve"]
topics = ["eve/#", "$queue/eve"]
[[policies]]
allow = ["manage", "connect", "publish", "subscribe"]
to = ["role:admin"]
'''


def parameters(node, user="guest", password="guest", **options):
    return pika.ConnectionParameters(
        "127.0.0.1", node.ports["amqp"], credentials=pika.PlainCredentials(user, password),
        blocked_connection_timeout=10, socket_timeout=10, **options)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with_amqp = Node(tmp_path_factory.mktemp("pika"), listeners=("amqp", "mqtt", "http", "console"))
    with_amqp.start()
    yield with_amqp
    with_amqp.kill9()


@pytest.fixture
def channel(node):
    connection = pika.BlockingConnection(parameters(node))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def test_confirmed_and_durable_survives_kill_9_and_comes_again_marked(node):
    """Nothing that was confirmed is lost; what was delivered and not acked comes again with redelivered set."""
    connection = pika.BlockingConnection(parameters(node))
    channel = connection.channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(50):
        channel.basic_publish("", "kept", b"%d" % number, pika.BasicProperties(
            delivery_mode=2, headers={"n": number}, correlation_id=f"c{number}"), mandatory=True)
    taken = [channel.basic_get("kept") for _ in range(5)]
    assert [body for _, _, body in taken] == [b"%d" % number for number in range(5)]
    assert not any(method.redelivered for method, _, _ in taken)
    channel.basic_ack(taken[0][0].delivery_tag)
    wait_until(lambda: channel.queue_declare("kept", passive=True).method.message_count == 45, "the ack is counted")
    connection.sleep(0.6)                       # acks are stored four times a second
    node.kill9()
    node.restart()
    channel = pika.BlockingConnection(parameters(node)).channel()
    found = []
    for method, properties, body in channel.consume("kept", inactivity_timeout=10):
        assert body is not None, f"only {len(found)} came"
        found.append((body, method.redelivered))
        assert properties.headers == {"n": int(body)} and properties.correlation_id == f"c{int(body)}"
        channel.basic_ack(method.delivery_tag)
        if len(found) == 49:
            break
    assert [body for body, _ in found] == [b"%d" % number for number in range(1, 50)]
    assert all(redelivered for _, redelivered in found[:4])
    channel.connection.close()


def test_topology_survives_kill_9(node):
    channel = pika.BlockingConnection(parameters(node)).channel()
    channel.exchange_declare("stays", "topic", durable=True)
    channel.exchange_declare("goes", "topic")
    channel.queue_declare("bound", durable=True)
    channel.queue_declare("lost")
    channel.queue_bind("bound", "stays", "a.*")
    node.kill9()
    node.restart()
    channel = pika.BlockingConnection(parameters(node)).channel()
    channel.exchange_declare("stays", passive=True)
    channel.confirm_delivery()
    channel.basic_publish("stays", "a.b", b"here", mandatory=True)
    assert channel.basic_get("bound", auto_ack=True)[2] == b"here"
    with pytest.raises(UnroutableError):
        channel.basic_publish("stays", "b.b", b"nowhere", mandatory=True)
    for missing in (lambda one: one.exchange_declare("goes", passive=True),
                    lambda one: one.queue_declare("lost", passive=True)):
        with pytest.raises(ChannelClosedByBroker) as error:
            missing(channel)
        assert error.value.reply_code == 404
        channel = channel.connection.channel()
    channel.connection.close()


def test_an_mqtt_event_reaches_a_queue_and_back(node, channel):
    """MQTT topic plant/1/temp is routing key plant.1.temp on amq.topic, and the other way round."""
    import paho.mqtt.client as paho

    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", "plant.*.temp")
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    heard = []
    client.on_message = lambda _, __, message: heard.append((message.topic, message.payload))
    client.connect("127.0.0.1", node.ports["mqtt"])
    client.subscribe("shop/#", 1)
    client.loop_start()
    client.publish("plant/1/temp", b"21.5", 1).wait_for_publish(10)
    found = []
    wait_until(lambda: found.append(channel.basic_get(queue, auto_ack=True)) or found[-1][0] is not None, "it came")
    method, properties, body = found[-1]
    assert (method.exchange, method.routing_key, body) == ("amq.topic", "plant.1.temp", b"21.5")
    assert properties.delivery_mode == 2
    channel.basic_publish("amq.topic", "shop.7", b"sold")
    wait_until(lambda: heard == [("shop/7", b"sold")], "MQTT has heard of it")
    client.loop_stop()


@pytest.mark.parametrize(("act", "code", "text"), [
    (lambda channel: channel.queue_declare("nope", passive=True), 404, "NOT_FOUND - no queue 'nope' in vhost '/'"),
    (lambda channel: channel.basic_consume("nope", print), 404, "NOT_FOUND - no queue 'nope' in vhost '/'"),
    (lambda channel: channel.exchange_declare("nope", passive=True), 404,
     "NOT_FOUND - no exchange 'nope' in vhost '/'"),
    (lambda channel: channel.exchange_declare("", "direct"), 403,
     "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (lambda channel: channel.exchange_declare("amq.x", "direct"), 403,
     "ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'"),
    (lambda channel: channel.exchange_declare("amq.topic", "direct", durable=True), 406,
     "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received 'direct' but "
     "current is 'topic'"),
    (lambda channel: channel.exchange_declare("new", "odd"), 406, "PRECONDITION_FAILED - unknown exchange type 'odd'"),
    (lambda channel: channel.exchange_declare("new", "x-random", arguments={}), 406,
     "PRECONDITION_FAILED - unknown exchange type 'x-random'"),
    (lambda channel: channel.queue_declare("new", durable=True, arguments={"x-queue-type": "odd"}), 406,
     "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'new' in vhost '/': odd"),
    (lambda channel: channel.queue_declare("new", arguments={"x-message-ttl": -1}), 406,
     "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'new' in vhost '/': -1"),
])
def test_soft_errors_close_the_channel_with_rabbitmqs_words(channel, act, code, text):
    with pytest.raises(ChannelClosedByBroker) as error:
        act(channel)
    assert (error.value.reply_code, error.value.reply_text) == (code, text)
    assert channel.connection.is_open
    assert channel.connection.channel().is_open


def test_declaring_again_must_say_the_same(channel):
    channel.queue_declare("same", durable=True, arguments={"x-message-ttl": 1000, "x-queue-type": "classic"})
    channel.queue_declare("same", durable=True, arguments={"x-message-ttl": 1000})
    with pytest.raises(ChannelClosedByBroker) as error:
        channel.queue_declare("same", durable=True, arguments={"x-message-ttl": 2000})
    assert error.value.reply_text == (
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'same' in vhost '/': received '2000' but "
        "current is '1000'")


def test_exclusive_queues_belong_to_their_connection_and_go_with_it(node, channel):
    channel.queue_declare("mine", exclusive=True)
    other = pika.BlockingConnection(parameters(node))
    with pytest.raises(ChannelClosedByBroker) as error:
        other.channel().queue_declare("mine", exclusive=True)
    assert error.value.reply_code == 405 and error.value.reply_text.startswith(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'")
    channel.connection.close()
    other.channel().queue_declare("mine", exclusive=True)
    other.close()


def test_a_transaction_counts_when_it_is_committed(channel):
    channel.queue_declare("tx")
    channel.tx_select()
    channel.basic_publish("", "tx", b"one")
    channel.tx_rollback()
    channel.basic_publish("", "tx", b"two")
    assert channel.connection.channel().basic_get("tx")[0] is None
    channel.tx_commit()
    method, _, body = channel.basic_get("tx")
    assert body == b"two"
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    channel.close()
    assert channel.connection.channel().queue_declare("tx", passive=True).method.message_count == 0


def test_prefetch_holds_back_and_closing_gives_back_in_order(channel):
    channel.queue_declare("few")
    for number in range(10):
        channel.basic_publish("", "few", b"%d" % number)
    channel.basic_qos(prefetch_count=3)
    got = []
    channel.basic_consume("few", lambda _, method, __, body: got.append((body, method.redelivered)))
    wait_until(lambda: channel.connection.process_data_events(0.05) or len(got) == 3, "three have come")
    channel.connection.process_data_events(0.2)
    assert got == [(b"0", False), (b"1", False), (b"2", False)]
    connection = channel.connection
    channel.close()
    again = connection.channel()
    found = [again.basic_get("few", auto_ack=True) for _ in range(4)]
    assert [(body, method.redelivered) for method, _, body in found] == [
        (b"0", True), (b"1", True), (b"2", True), (b"3", False)]


def test_a_reader_is_told_when_its_queue_is_deleted(node, channel):
    channel.queue_declare("doomed")
    told = []
    channel.add_on_cancel_callback(told.append)
    channel.basic_consume("doomed", lambda *_: None)
    other = pika.BlockingConnection(parameters(node))
    other.channel().queue_delete("doomed")
    wait_until(lambda: channel.connection.process_data_events(0.05) or told, "basic.cancel has come")
    other.close()


# ------------------------------------------------------------------------------------------------ users and rights

@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with_users = Node(tmp_path_factory.mktemp("pika-users"), extra=USERS, listeners=("amqp", "http", "console"))
    with_users.start()
    yield with_users
    with_users.kill9()


def test_logins_are_checked(guarded):
    pika.BlockingConnection(parameters(guarded, "ana", "secret")).close()
    with pytest.raises((ProbableAuthenticationError, AuthenticationError)) as error:
        pika.BlockingConnection(parameters(guarded, "ana", "wrong"))
    assert "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN" in str(error.value)
    with pytest.raises((ConnectionClosedByBroker, ProbableAccessDeniedError)):
        pika.BlockingConnection(parameters(guarded, "ana", "secret", virtual_host="nope"))


def test_rights_are_those_of_topics(guarded):
    """Exchange orders is topics orders/#: ana may, eve may not; nor may she learn what is there."""
    ana = pika.BlockingConnection(parameters(guarded, "ana", "secret"))
    channel = ana.channel()
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_declare("orders-work", durable=True)
    channel.queue_bind("orders-work", "orders", "#")
    channel.confirm_delivery()
    channel.basic_publish("orders", "eu.new", b"1", mandatory=True)
    eve = pika.BlockingConnection(parameters(guarded, "eve", "evil"))
    for act in (lambda one: one.queue_declare("orders-work", passive=True),
                lambda one: one.queue_declare("not-there", passive=True),
                lambda one: one.basic_get("orders-work"), lambda one: one.queue_delete("orders-work"),
                lambda one: one.queue_purge("orders-work"), lambda one: one.exchange_declare("orders", passive=True),
                lambda one: one.exchange_delete("orders"),
                lambda one: (one.queue_declare("eve"), one.queue_bind("eve", "orders", "#")),
                lambda one: (one.queue_declare("eve"), one.queue_bind("eve", "amq.topic", "orders.#"))):
        with pytest.raises(ChannelClosedByBroker) as error:
            act(eve.channel())
        assert error.value.reply_code == 403, error.value
    channel_of_eve = eve.channel()
    channel_of_eve.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as error:
        channel_of_eve.basic_publish("orders", "eu.new", b"forged")
    assert error.value.reply_code == 403
    with pytest.raises(ChannelClosedByBroker) as error:
        eve.channel().queue_declare("hers")
    assert error.value.reply_code == 403
    forged = eve.channel()
    forged.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as error:
        forged.basic_publish("", "eve", b"", pika.BasicProperties(user_id="ana"))
    assert error.value.reply_code == 406 and "user_id property set to 'ana'" in error.value.reply_text
    assert channel.queue_declare("orders-work", passive=True).method.message_count == 1
    ana.close()
    eve.close()
