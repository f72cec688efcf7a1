"""Where messages go, with pika against a server in this process: what is remembered, copies, CC, alternates, limits."""
from __future__ import annotations

import pika
import pytest
from pika.exceptions import NackError, UnroutableError

from tests.protocols.amqp091.stand import Stand
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("routing")).start()
    yield made
    made.stop()


@pytest.fixture
def channel(stand):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", stand.port))
    made = connection.channel()
    made.confirm_delivery()
    yield made
    if connection.is_open:
        connection.close()


def bodies(channel, queue):
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(got[2])
    return found


def test_what_is_remembered_of_a_message_is_forgotten_when_the_topology_changes(channel):
    channel.exchange_declare("m", "topic", auto_delete=True)
    for queue in ("m1", "m2"):
        channel.queue_declare(queue, exclusive=True)
    channel.queue_bind("m1", "m", "a.*")
    for _ in range(3):
        channel.basic_publish("m", "a.b", b"1", mandatory=True)
    channel.queue_bind("m2", "m", "#")
    channel.basic_publish("m", "a.b", b"2", mandatory=True)
    channel.queue_delete("m1")
    channel.basic_publish("m", "a.b", b"3", mandatory=True)
    assert bodies(channel, "m2") == [b"2", b"3"]
    channel.queue_unbind("m2", "m", "#")
    channel.exchange_declare("m", "topic", auto_delete=True)        # it went with its last binding
    with pytest.raises(UnroutableError):
        channel.basic_publish("m", "a.b", b"4", mandatory=True)


def test_unbinding_takes_nothing_away_that_was_routed(channel):
    channel.queue_declare("u", exclusive=True)
    channel.queue_bind("u", "amq.direct", "u")
    channel.basic_publish("amq.direct", "u", b"before")
    channel.queue_unbind("u", "amq.direct", "u")
    channel.basic_publish("amq.direct", "u", b"after")
    assert bodies(channel, "u") == [b"before"]


def test_exchanges_are_bound_to_exchanges_and_each_queue_gets_one(channel):
    for name, kind in (("e1", "topic"), ("e2", "fanout")):
        channel.exchange_declare(name, kind)
    channel.exchange_bind("e2", "e1", "#.end")
    for queue in ("e-both", "e-far"):
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, "e2")
    channel.queue_bind("e-both", "e1", "a.#")
    channel.basic_publish("e1", "a.b.end", b"x", mandatory=True)
    assert bodies(channel, "e-both") == bodies(channel, "e-far") == [b"x"]


def test_the_exchange_and_key_of_a_copy_are_those_of_the_message(channel):
    channel.queue_declare("h", exclusive=True)
    channel.queue_bind("h", "amq.headers", "ignored", {"x-match": "any", "a": 1, "b": 2})
    channel.basic_publish("amq.headers", "some.key", b"x", pika.BasicProperties(headers={"b": 2}), mandatory=True)
    method, properties, _ = channel.basic_get("h", auto_ack=True)
    assert (method.exchange, method.routing_key, properties.headers) == ("amq.headers", "some.key", {"b": 2})


def test_cc_and_bcc_are_further_keys_and_bcc_is_not_seen(channel):
    for queue in ("c1", "c2", "c3"):
        channel.queue_declare(queue, exclusive=True)
    channel.basic_publish("", "c1", b"x", pika.BasicProperties(headers={"CC": ["c2"], "BCC": ["c3"], "k": 1}))
    for queue in ("c1", "c2", "c3"):
        _, properties, body = channel.basic_get(queue, auto_ack=True)
        assert (body, properties.headers) == (b"x", {"CC": ["c2"], "k": 1})


def test_what_an_exchange_does_not_route_goes_to_its_alternate(channel):
    channel.exchange_declare("rest", "fanout")
    channel.exchange_declare("main", "direct", arguments={"alternate-exchange": "rest"})
    for queue, exchange, key in (("r-main", "main", "k"), ("r-rest", "rest", "")):
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, exchange, key)
    channel.basic_publish("main", "k", b"1", mandatory=True)
    channel.basic_publish("main", "other", b"2", mandatory=True)
    assert (bodies(channel, "r-main"), bodies(channel, "r-rest")) == ([b"1"], [b"2"])


def test_a_consistent_hash_sends_each_key_to_one_queue(channel):
    channel.exchange_declare("hash", "x-consistent-hash")
    for number in range(3):
        channel.queue_declare(f"hash{number}", exclusive=True)
        channel.queue_bind(f"hash{number}", "hash", "1")
    for number in range(60):
        channel.basic_publish("hash", f"k{number % 20}", b"%d" % (number % 20), mandatory=True)
    found = [bodies(channel, f"hash{number}") for number in range(3)]
    assert sum(map(len, found)) == 60 and all(found)
    assert not set(found[0]) & set(found[1]) and not set(found[1]) & set(found[2])


def test_a_full_queue_refuses_and_the_publisher_hears_it(channel):
    channel.queue_declare("full", exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    for _ in range(2):
        channel.basic_publish("", "full", b"x")
    with pytest.raises(NackError):
        channel.basic_publish("", "full", b"x")


def test_a_queue_expires_and_says_so_to_nobody(channel):
    channel.queue_declare("short", arguments={"x-expires": 300})
    wait_until(lambda: _missing(channel.connection, "short"), "it is gone", pause_s=0.4)


def _missing(connection, queue):
    one = connection.channel()
    try:
        one.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return True
    one.close()
    return False


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel):
    channel.queue_declare("auto", auto_delete=True)
    tag = channel.basic_consume("auto", lambda *_: None)
    channel.basic_cancel(tag)
    wait_until(lambda: _missing(channel.connection, "auto"), "it is gone")


def test_fields_of_other_protocols_are_properties(stand, channel):
    from routing.event import Properties
    channel.queue_declare("fields", exclusive=True)
    channel.queue_bind("fields", "amq.topic", "shop.#")
    stand.publish("shop/v1.2", b"x", key=b"k", headers=(("a", 1), ("b", b"\xff"), ("c", None), ("d", True)),
                  properties=Properties(content_type="text/plain", reply_to="answers", correlation=b"c1"))
    found = []
    wait_until(lambda: found.append(channel.basic_get("fields", auto_ack=True)) or found[-1][0] is not None, "it came")
    method, properties, _ = found[-1]
    assert method.routing_key == "shop.v1%2E2"
    assert properties.headers == {"a": 1, "b": b"\xff", "c": None, "d": True, "meshgate-key": b"k"}
    assert (properties.content_type, properties.reply_to, properties.correlation_id, properties.delivery_mode) == (
        "text/plain", "answers", "c1", 2)


def test_priorities_above_9_are_levels_of_their_own(channel):
    channel.queue_declare("levels", durable=True, arguments={"x-max-priority": 250})
    channel.confirm_delivery()
    for level in (3, 12, 200, 9, 255, 30):
        channel.basic_publish("", "levels", str(level).encode(), pika.BasicProperties(delivery_mode=2, priority=level))
    got = [channel.basic_get("levels", auto_ack=True) for _ in range(6)]
    assert [body for _, _, body in got] == [b"255", b"200", b"30", b"12", b"9", b"3"]
    assert [properties.priority for _, properties, _ in got] == [255, 200, 30, 12, 9, 3]
