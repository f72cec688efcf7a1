"""Expiry of durable subscriptions: with the link, the session, the connection, or so long after. AMQP 1.0 §3.5.3."""
from __future__ import annotations

import time

import pytest

from protocols.amqp.codec import performatives as p
from tests.protocols.amqp.raw import Raw
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path).start()
    yield started
    started.stop()


def subscriptions(stand):
    return stand.do(lambda: sorted(name for name in stand.router.queues.by_name if name.startswith("amqp/")))


def subscribed(stand, policy, timeout=None):
    raw = Raw(stand.port, container="c")
    raw.begin()
    raw.receiver("topic://a/#", name="sub", durable=2, expiry_policy=policy, timeout=timeout)
    assert subscriptions(stand) == ["amqp/c/sub"]
    return raw


def detach(raw):
    raw.send(p.Detach(1, False))
    raw.expect(p.Detach)


@pytest.mark.parametrize(("policy", "left"), [
    ("link-detach", 0), ("session-end", 1), ("connection-close", 1), ("never", 1), (None, 1)])
def test_after_a_detach(stand, policy, left):
    raw = subscribed(stand, policy)
    detach(raw)
    assert len(subscriptions(stand)) == left
    raw.socket.close()                                  # not before


@pytest.mark.parametrize(("policy", "left"), [
    ("link-detach", 0), ("session-end", 0), ("connection-close", 1), ("never", 1), (None, 1)])
def test_after_the_end_of_the_session(stand, policy, left):
    raw = subscribed(stand, policy)
    raw.send(p.End())
    raw.expect(p.End)
    assert len(subscriptions(stand)) == left
    raw.socket.close()


@pytest.mark.parametrize("after", ["a detach", "the link"])
@pytest.mark.parametrize(("policy", "left"), [
    ("session-end", 0), ("connection-close", 0), ("never", 1), (None, 1)])
def test_after_the_connection(stand, policy, left, after):
    raw = subscribed(stand, policy)
    if after == "a detach":
        detach(raw)
    raw.socket.close()
    wait_until(lambda: not stand.do(lambda: stand.amqp.connections), "the connection is gone")
    assert len(subscriptions(stand)) == left


def test_one_that_is_attached_again_stays(stand):
    raw = subscribed(stand, "connection-close")
    detach(raw)
    other = Raw(stand.port, container="c")
    other.begin()
    other.receiver("topic://a/#", name="sub", durable=2, expiry_policy="never")
    raw.socket.close()
    wait_until(lambda: len(stand.do(lambda: list(stand.amqp.connections))) == 1, "the first connection is gone")
    assert subscriptions(stand) == ["amqp/c/sub"]


def test_a_time_out_begins_when_the_reader_has_gone(stand):
    raw = subscribed(stand, "link-detach", timeout=1)
    time.sleep(1.2)
    assert len(subscriptions(stand)) == 1
    detach(raw)
    wait_until(lambda: not subscriptions(stand), "it expires")
