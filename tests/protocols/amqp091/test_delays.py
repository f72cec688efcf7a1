"""Delayed messages, by pika: each when it is due, whatever order they came in, also after a restart."""
from __future__ import annotations

import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from protocols.amqp091.codec.properties import Content, encode_properties
from protocols.amqp091.codec.tables import Long, encode_value, with_field
from protocols.amqp091.delays import NAME, Delays
from protocols.amqp091.settings import AmqpSettings
from protocols.amqp091.topology.declared import Declared
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import DELAYED, DELAYED_TYPE
from routing.rights.policy import Action, Rule
from tests.protocols.amqp091.stand import Stand
from tests.support.disk import SimulatedDisk
from tests.support.routing import Desk
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("delays")).start()
    yield made
    made.stop()


def connect(stand, user="guest", password="guest"):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", stand.port, credentials=pika.PlainCredentials(user, password)))


@pytest.fixture
def channel(stand):
    connection = connect(stand)
    yield connection.channel()
    connection.close()


def declare(channel, name, kind="direct", key="k"):
    channel.exchange_declare(name, "x-delayed-message", durable=True, arguments={"x-delayed-type": kind})
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, key)
    channel.confirm_delivery()


def publish(channel, name, body, delay_ms, key="k", **fields):
    headers = {"x-delay": delay_ms} if delay_ms is not None else {}
    channel.basic_publish(name, key, body, pika.BasicProperties(delivery_mode=2, headers=headers, **fields))


def take(channel, name, count):
    found = []

    def more():
        method, properties, body = channel.basic_get(name, auto_ack=True)
        if method is not None:
            found.append((body, properties))
        return len(found) == count

    wait_until(more, f"{count} messages")
    assert channel.basic_get(name)[0] is None
    return found


def test_each_comes_when_it_is_due_and_not_before(channel):
    declare(channel, "due")
    began = time.monotonic()
    for delay_ms in (900, 300, 600, 0, None, -5, "soon"):
        publish(channel, "due", str(delay_ms).encode(), delay_ms)
    at_once = [body for body, _ in take(channel, "due", 4)]
    assert at_once == [b"0", b"None", b"-5", b"soon"]
    for due_s in (0.3, 0.6, 0.9):
        (body, properties), = take(channel, "due", 1)
        assert int(body) == round(due_s * 1000) == -properties.headers["x-delay"]
        assert time.monotonic() - began >= due_s - 0.02


def test_bindings_and_kind_are_those_of_the_moment_it_is_due(channel):
    declare(channel, "later", "topic", "a.#")
    publish(channel, "later", b"for two", 300, key="a.b")
    publish(channel, "later", b"for none", 300, key="b.b")
    channel.queue_declare("later-2", durable=True)
    channel.queue_bind("later-2", "later", "*.#.b")             # no topic filter says that: a copy
    channel.queue_unbind("later", "later", "a.#")
    channel.queue_bind("later", "later", "a.*")
    assert [body for body, _ in take(channel, "later", 1)] == [b"for two"]
    assert sorted(body for body, _ in take(channel, "later-2", 2)) == [b"for none", b"for two"]


def test_they_survive_a_restart_and_are_not_early_after_it(tmp_path):
    stand = Stand(tmp_path).start()
    try:
        connection = connect(stand)
        channel = connection.channel()
        declare(channel, "again")
        began = time.monotonic()
        publish(channel, "again", b"late", 1_500)
        publish(channel, "again", b"overdue", 100)
        stand.restart()
        channel = connect(stand).channel()
        assert [body for body, _ in take(channel, "again", 1)] == [b"overdue"]
        assert [body for body, _ in take(channel, "again", 1)] == [b"late"]
        assert time.monotonic() - began >= 1.48
        wait_until(lambda: stand.do(lambda: stand.router.queues.get(NAME).depth().ready) == 0, "nothing waits")
    finally:
        stand.stop()


def test_a_kill_behind_a_release_publishes_nothing_a_second_time(tmp_path):
    """The ack of what waited is stored a little later: it comes again, and is known."""
    disk = SimulatedDisk()

    def started():
        desk = Desk(tmp_path / "data", fs=disk)
        declared = Declared(desk.router, AmqpSettings())
        delays = Delays(desk.router, declared)
        declared.restore()
        if "later" not in declared.topology.exchanges:
            declared.add_exchange(Exchange("later", DELAYED, True, False, False, {DELAYED_TYPE: "fanout"}, "ana"))
            delays.open()
        delays.restore()
        desk.run()
        return desk, delays

    desk, delays = started()
    header = with_field(b"", "x-delay", encode_value(Long(100)))
    raw = encode_properties(Content(delivery_mode=2, raw_headers=header))
    desk.router.publish([delays.event("later", "k", raw, b"%d" % number, "ana") for number in range(3)],
                        desk.router.internal)
    desk.run()
    for _ in range(3):                                          # kills before anything is stored of the acks
        desk.tick(0.1)
        desk.store.close()
        again, _ = started()
        again.now_ms, again.now_s = desk.now_ms, desk.now_s
        desk = again
        desk.tick(0.02)
    desk.tick(0.3)
    found = desk.router.streams.by_name["events"].partitions[0].scan(
        0, lambda topic: True, max_events=100, max_scanned=1_000).events
    assert [event.payload for event in found if event.topic == "later/k"] == [b"0", b"1", b"2"]


def test_a_transaction_delays_from_its_commit_on(channel):
    declare(channel, "tx")
    other = channel.connection.channel()
    other.tx_select()
    publish(other, "tx", b"m", 200)
    time.sleep(0.4)
    assert channel.basic_get("tx")[0] is None
    other.tx_commit()
    take(channel, "tx", 1)


def test_what_is_no_delayed_exchange_is_refused(stand):
    for kind in (None, "x-delayed-message", 5, "nothing"):
        channel = connect(stand).channel()
        with pytest.raises(ChannelClosedByBroker) as refused:
            channel.exchange_declare("bad", "x-delayed-message", arguments={"x-delayed-type": kind})
        assert refused.value.reply_code == 406 and "x-delayed-type" in refused.value.reply_text
    channel = connect(stand).channel()
    channel.exchange_declare("good", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    channel.exchange_declare("good", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    with pytest.raises(ChannelClosedByBroker, match="inequivalent arg 'x-delayed-type'"):
        channel.exchange_declare("good", "x-delayed-message", arguments={"x-delayed-type": "direct"})


def test_the_right_to_publish_is_asked_for_at_once(tmp_path):
    rules = (Rule(allow=(Action.CONNECT,), to=("*",)),
             Rule(allow=(Action.SUBSCRIBE,), to=("user:eve",), topics=("mine/#",)),
             Rule(allow=tuple(Action), to=("user:boss",), topics=("#", "$queue/#")))
    stand = Stand(tmp_path, rules=rules, users=[("eve", "e", ()), ("boss", "b", ())]).start()
    try:
        boss = connect(stand, "boss", "b").channel()
        declare(boss, "mine")
        channel = connect(stand, "eve", "e").channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker) as refused:
            publish(channel, "mine", b"m", 100)
        assert refused.value.reply_code == 403
        publish(boss, "mine", b"m", 100)
        assert [body for body, _ in take(boss, "mine", 1)] == [b"m"]
    finally:
        stand.stop()
