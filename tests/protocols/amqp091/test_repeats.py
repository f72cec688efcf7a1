"""Messages and acks that are taken many at a time: nothing of it shows, however the bytes are cut into reads."""
from __future__ import annotations

import random

import pytest

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.codec.frames import content_frames, method_frame
from protocols.amqp091.codec.methods import encode_method
from protocols.amqp091.codec.properties import Content, encode_properties
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand

DURABLE = encode_properties(Content(delivery_mode=2))


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    stand = Stand(tmp_path_factory.mktemp("amqp")).start()
    yield stand
    stand.stop()


def published(channel, key, body, properties=DURABLE, exchange=""):
    return method_frame(channel, encode_method(methods.BasicPublish(0, exchange, key))) + content_frames(
        channel, properties, body, 4096)


def send_in_pieces(raw, data, seed):
    """In reads of any length, mostly such that a message is cut."""
    dice = random.Random(seed)
    place = 0
    while place < len(data):
        size = dice.choice((1, 7, 30, 64, 200, 1000, 20_000))
        raw.send_raw(data[place:place + size])
        place += size


def declare(raw, channel, name):
    raw.send(channel, methods.QueueDeclare(0, name, False, True))
    raw.expect(methods.QueueDeclareOk)


def confirms(raw, channels):
    """Reads until so many messages are confirmed on each of the channels: {number: count}."""
    seen = dict.fromkeys(channels, 0)
    while seen != channels:
        kind, number, payload = raw.frame()
        method = methods.decode_method(payload, 0, len(payload))
        assert kind == frames.METHOD and isinstance(method, methods.BasicAck), method
        assert method.delivery_tag > seen[number] and (method.multiple or method.delivery_tag == seen[number] + 1)
        seen[number] = method.delivery_tag


def bodies(raw, channel, name):
    found = []
    while True:
        raw.send(channel, methods.BasicGet(0, name, True))
        method = raw.method()
        if isinstance(method, methods.BasicGetEmpty):
            return found
        raw.frame()
        found.append(raw.frame()[2])


@pytest.mark.parametrize("seed", range(6))
def test_messages_of_a_run_arrive_once_and_in_order_whatever_stands_between_them(stand, seed):
    dice = random.Random(seed)
    raw = Raw(stand.port)
    for channel in (1, 2):
        raw.open(channel)
        raw.send(channel, methods.ConfirmSelect())
        raw.expect(methods.ConfirmSelectOk)
    queues = [f"run-{seed}-{number}" for number in range(2)]
    for name in queues:
        declare(raw, 1, name)
    data, wanted, counts = b"", {name: [] for name in queues}, {1: 0, 2: 0}
    for _ in range(60):
        channel, name = dice.choice((1, 2)), dice.choice(queues)
        size = dice.choice((1, 20, 20, 100))
        properties = dice.choice((DURABLE, DURABLE, encode_properties(Content(delivery_mode=1, content_type="a/b"))))
        for _ in range(dice.choice((1, 2, 5, 30))):
            body = (b"%d." % sum(counts.values())).ljust(size, b"x")
            data += published(channel, name, body, properties)
            wanted[name].append(body)
            counts[channel] += 1
        if dice.random() < 0.2:
            data += frames.HEARTBEAT_FRAME
    send_in_pieces(raw, data, seed)
    confirms(raw, counts)
    for name in queues:
        assert bodies(raw, 1, name) == wanted[name]
    raw.close()


def test_what_the_last_message_came_to_does_not_outlive_a_change(stand):
    """A second queue is bound while messages keep coming, then the first one is deleted."""
    raw = Raw(stand.port)
    raw.open(1)
    raw.send(1, methods.ExchangeDeclare(0, "changes", "fanout"))
    raw.expect(methods.ExchangeDeclareOk)
    for name in ("changes-a", "changes-b"):
        declare(raw, 1, name)
    raw.send(1, methods.QueueBind(0, "changes-a", "changes", ""))
    raw.expect(methods.QueueBindOk)
    raw.send_raw(published(1, "", b"one", exchange="changes") * 5)
    raw.send_raw(method_frame(1, encode_method(methods.QueueBind(0, "changes-b", "changes", "")))
                 + published(1, "", b"two", exchange="changes") * 5)
    raw.expect(methods.QueueBindOk)
    assert bodies(raw, 1, "changes-a") == [b"one"] * 5 + [b"two"] * 5
    assert bodies(raw, 1, "changes-b") == [b"two"] * 5
    other = Raw(stand.port)
    other.open(1)
    raw.send_raw(published(1, "", b"six", exchange="changes"))
    other.send(1, methods.ExchangeDelete(0, "changes"))
    other.expect(methods.ExchangeDeleteOk)
    raw.send_raw(published(1, "", b"six", exchange="changes"))
    assert raw.channel_closed() == (404, "NOT_FOUND - no exchange 'changes' in vhost '/'")
    raw.close()
    other.close()


@pytest.mark.parametrize("place", [0, 1, 40])
def test_a_broken_frame_within_a_run_is_found_and_what_came_before_it_counts(stand, place):
    raw = Raw(stand.port)
    raw.open(1)
    name = f"broken-{place}"
    declare(raw, 1, name)
    message = published(1, name, b"good")
    raw.send_raw(message * place + message[:-1] + b"\x00" + message)
    assert raw.closed() == (501, "FRAME_ERROR - a frame does not end with 0xCE")
    raw.close()
    again = Raw(stand.port)
    again.open(1)
    assert bodies(again, 1, name) == [b"good"] * place
    again.close()


def test_a_message_that_is_begun_twice_is_an_error_in_a_run_too(stand):
    raw = Raw(stand.port)
    raw.open(1)
    declare(raw, 1, "twice")
    message = published(1, "twice", b"good")
    method = method_frame(1, encode_method(methods.BasicPublish(0, "", "twice")))
    raw.send_raw(message * 3 + method + message)
    assert raw.closed()[0] == 505
    raw.close()


@pytest.mark.parametrize("seed", range(4))
def test_acks_one_behind_the_other_settle_exactly_what_they_name(stand, seed):
    dice = random.Random(seed)
    raw = Raw(stand.port)
    raw.open(1)
    name = f"acks-{seed}"
    declare(raw, 1, name)
    raw.send_raw(b"".join(published(1, name, b"%03d" % number) for number in range(300)))
    raw.send(1, methods.BasicQos(0, 300))
    raw.expect(methods.BasicQosOk)
    raw.send(1, methods.BasicConsume(0, name, "t"))
    raw.expect(methods.BasicConsumeOk)
    tags = []
    for number in range(300):
        tags.append(raw.expect(methods.BasicDeliver).delivery_tag)
        raw.frame()
        assert raw.frame()[2] == b"%03d" % number
    dice.shuffle(tags)
    kept = sorted(tags[:40])
    send_in_pieces(raw, b"".join(
        method_frame(1, encode_method(methods.BasicAck(tag, False))) for tag in tags[40:]), seed)
    raw.send(1, methods.ChannelClose(200, "bye"))
    raw.expect(methods.ChannelCloseOk)
    raw.open(1)
    assert bodies(raw, 1, name) == [b"%03d" % (tag - 1) for tag in kept]
    raw.close()


def test_a_tag_that_is_acked_twice_within_a_run_closes_the_channel(stand):
    raw = Raw(stand.port)
    raw.open(1)
    declare(raw, 1, "double")
    raw.send_raw(published(1, "double", b"m") * 3)
    raw.send(1, methods.BasicConsume(0, "double", "t"))
    raw.expect(methods.BasicConsumeOk)
    for _ in range(3):
        raw.expect(methods.BasicDeliver)
        raw.frame()
        raw.frame()
    raw.send_raw(b"".join(method_frame(1, encode_method(methods.BasicAck(tag, False))) for tag in (1, 2, 2, 3)))
    assert raw.channel_closed() == (406, "PRECONDITION_FAILED - unknown delivery tag 2")
    raw.close()
