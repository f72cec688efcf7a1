"""Queues of type stream, by pika: each reader has a place of its own in the log, and takes nothing out."""
from __future__ import annotations

import datetime
import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from tests.protocols.amqp091.stand import Stand

STREAM = {"x-queue-type": "stream", "x-max-length-bytes": 1 << 30, "x-stream-max-segment-size-bytes": 1 << 20}


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("streams")).start()
    yield made
    made.stop()


def connect(stand):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))


@pytest.fixture
def channel(stand):
    connection = connect(stand)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=50)
    yield channel
    if connection.is_open:
        connection.close()


def declare(channel, name, **more):
    channel.queue_declare(name, durable=True, arguments={**STREAM, **more})


def publish(channel, name, bodies, exchange=""):
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish(exchange, name, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def read(channel, name, count, offset=None, ack=True):
    """The next count messages from offset on: [(body, offset, redelivered)]."""
    found = []
    arguments = {"x-stream-offset": offset} if offset is not None else {}
    for method, properties, body in channel.consume(name, arguments=arguments, inactivity_timeout=10):
        assert method is not None, f"only {found}"
        found.append((body, properties.headers["x-stream-offset"], method.redelivered))
        if ack:
            channel.basic_ack(method.delivery_tag)
        if len(found) == count:
            break
    channel.cancel()
    return found


def test_everybody_reads_everything_and_each_from_where_he_wants(stand, channel):
    declare(channel, "log")
    publish(channel, "log", [b"%d" % number for number in range(10)])
    other = connect(stand).channel()
    other.basic_qos(prefetch_count=3)
    for reader in (channel, other):
        found = read(reader, "log", 10, "first")
        assert [body for body, _, _ in found] == [b"%d" % number for number in range(10)]
        assert not any(again for _, _, again in found)
    offsets = [offset for _, offset, _ in found]
    assert offsets == sorted(set(offsets))
    assert [body for body, _, _ in read(channel, "log", 4, offsets[6])] == [b"6", b"7", b"8", b"9"]
    assert read(channel, "log", 1, "last")[0][0] == b"9"


def test_a_time_and_an_age_are_places_too(channel):
    declare(channel, "times")
    publish(channel, "times", [b"old"])
    time.sleep(1.1)
    moment = datetime.datetime.now(datetime.UTC)
    time.sleep(0.01)
    publish(channel, "times", [b"new"])
    assert [body for body, _, _ in read(channel, "times", 2, "1h")] == [b"old", b"new"]
    found = read(channel, "times", 1, moment.replace(microsecond=0) + datetime.timedelta(seconds=0))
    assert found[0][0] == b"new"


def test_next_is_what_comes_from_now_on(stand, channel):
    declare(channel, "next")
    publish(channel, "next", [b"before"])
    got = []
    for offset in (None, "next"):
        channel.basic_consume("next", lambda _, method, properties, body: got.append(body),
                              arguments={"x-stream-offset": offset} if offset else {})
    publish(connect(stand).channel(), "next", [b"after"])
    end = time.monotonic() + 10
    while len(got) < 2 and time.monotonic() < end:
        channel.connection.process_data_events(0.05)
    assert got == [b"after", b"after"]


def test_what_exchanges_bring_is_in_it_by_filter_and_by_copy_also_for_readers_that_run(stand, channel):
    declare(channel, "bound")
    channel.exchange_declare("bound-topic", "topic", durable=True)
    channel.exchange_declare("bound-headers", "headers", durable=True)
    channel.queue_bind("bound", "bound-headers", "", {"x-match": "all"})
    got = []
    channel.basic_consume("bound", lambda _, method, properties, body: got.append(body),
                          arguments={"x-stream-offset": "first"})
    other = connect(stand).channel()
    other.queue_bind("bound", "bound-topic", "a.#")
    publish(other, "a.b", [b"topic"], "bound-topic")
    publish(other, "", [b"headers"], "bound-headers")
    publish(other, "bound", [b"straight"])
    end = time.monotonic() + 10
    while len(got) < 3 and time.monotonic() < end:
        channel.connection.process_data_events(0.05)
    assert sorted(got) == [b"headers", b"straight", b"topic"]
    other.queue_unbind("bound", "bound-topic", "a.#")
    with pytest.raises(pika.exceptions.UnroutableError):
        publish(other, "a.b", [b"nobody's"], "bound-topic")


def test_credit_is_the_prefetch_and_nack_gives_nothing_back(channel):
    declare(channel, "credit")
    publish(channel, "credit", [b"%d" % number for number in range(6)])
    channel.basic_qos(prefetch_count=2)
    got = []
    channel.basic_consume("credit", lambda _, method, properties, body: got.append((body, method.delivery_tag)),
                          arguments={"x-stream-offset": "first"})
    channel.connection.process_data_events(0.5)
    assert [body for body, _ in got] == [b"0", b"1"]
    channel.basic_nack(got[0][1], requeue=True)
    channel.basic_reject(got[1][1], requeue=False)
    end = time.monotonic() + 10
    while len(got) < 4 and time.monotonic() < end:
        channel.connection.process_data_events(0.05)
    assert [body for body, _ in got] == [b"0", b"1", b"2", b"3"]


def test_it_is_there_after_a_restart_and_gone_after_a_delete(tmp_path):
    stand = Stand(tmp_path).start()
    try:
        channel = connect(stand).channel()
        declare(channel, "kept", **{"x-max-age": "7D"})
        channel.exchange_declare("kept", "fanout", durable=True)
        channel.queue_bind("kept", "kept", "")
        publish(channel, "", [b"one"], "kept")
        publish(channel, "kept", [b"two"])
        stand.restart()
        connection = connect(stand)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=10)
        declare(channel, "kept", **{"x-max-age": "7D"})
        assert sorted(body for body, _, _ in read(channel, "kept", 2, "first")) == [b"one", b"two"]
        publish(channel, "", [b"three"], "kept")
        channel.basic_consume("kept", lambda *_: None)
        cancelled = []
        channel.add_on_cancel_callback(cancelled.append)
        other = connection.channel()
        other.queue_delete("kept")
        connection.process_data_events(1)
        assert len(cancelled) == 1
        with pytest.raises(ChannelClosedByBroker, match="no queue 'kept'"):
            other.queue_declare("kept", passive=True)
    finally:
        stand.stop()


@pytest.mark.parametrize(("act", "code", "says"), [
    (lambda channel: channel.queue_declare("s", arguments=STREAM), 406, "invalid property 'non-durable'"),
    (lambda channel: channel.queue_declare("s", durable=True, exclusive=True, arguments=STREAM), 406,
     "'exclusive-owner'"),
    (lambda channel: channel.queue_declare("s", durable=True, auto_delete=True, arguments=STREAM), 406,
     "'auto-delete'"),
    (lambda channel: declare(channel, "s", **{"x-max-priority": 3}), 406, "invalid arg 'x-max-priority'"),
    (lambda channel: declare(channel, "s", **{"x-max-age": "soon"}), 406, "invalid arg 'x-max-age'"),
    (lambda channel: channel.basic_consume("refused", print, arguments={"x-stream-offset": "somewhere"}), 406,
     "invalid x-stream-offset 'somewhere'"),
    (lambda channel: channel.basic_consume("refused", print, arguments={"x-stream-offset": -1}), 406,
     "x-stream-offset"),
    (lambda channel: (channel.basic_qos(prefetch_count=0), channel.basic_consume("refused", print)), 406,
     "prefetch count is not set"),
    (lambda channel: channel.queue_declare("refused", durable=True), 406, "inequivalent arg"),
    (lambda channel: channel.basic_get("refused"), 540, "basic.get not supported"),
    (lambda channel: channel.queue_purge("refused"), 540, "queue.purge not supported"),
    (lambda channel: channel.basic_consume("refused", print, auto_ack=True), 540, "automatic acknowledgement"),
])
def test_what_streams_cannot_do_is_refused_as_rabbitmq_does(channel, act, code, says):
    declare(channel, "refused")
    with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as refused:
        act(channel)
    assert refused.value.reply_code == code and says in refused.value.reply_text
