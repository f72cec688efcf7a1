"""Links of AMQP 1.0 that are resumed after the node was killed: what was stored is not stored again, what was done is
not delivered again, and nothing is lost.
"""
from __future__ import annotations

import os
import random

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.message import inner, split
from protocols.amqp.codec.types import Described, ULong
from tests.protocols.amqp.raw import Raw, composed, data
from tests.support.node import Node

ROUNDS = 30 if os.environ.get("MESHGATE_SOAK") == "1" else 2
BURST = 40
KEPT = {"durable": 2, "expiry_policy": "never"}


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path, listeners=("amqp", "console")).start()
    yield made
    made.kill9()


def client(node):
    raw = Raw(node.ports["amqp"], container="resumer")
    raw.begin()
    return raw


def attach(raw, role, unsettled):
    """In the second receiver settle mode. Returns what the node says is unsettled."""
    raw.send(p.Attach(f"link-{role}", 0, role, p.UNSETTLED, p.SECOND, source=p.Source("queue://q", **KEPT),
                      target=p.Target("queue://q", **KEPT), unsettled=unsettled,
                      initial_delivery_count=None if role is p.RECEIVER else 0))
    found = raw.expect(p.Attach).unsettled or {}
    return {tag: composed(state) for tag, state in found.items()}


def payload(message):
    start, stop = inner(message, split(message).value)
    return int(message[start:stop])


def drained(node):
    raw = Raw(node.ports["amqp"], container="other")
    raw.begin()
    raw.receiver("queue://q", credit=10_000, settled=p.SETTLED)
    raw.send(p.Flow(0, 10_000, 0, 10_000, 1, 0, 10_000, drain=True))
    found = []
    while True:
        made, message, _ = raw.frame()
        if isinstance(made, p.Flow) and made.drain:
            return found
        if isinstance(made, p.Transfer):
            found.append(payload(message))


def test_what_a_sender_sends_again_after_a_kill_is_stored_once(node):
    """It does not know what of its last burst was stored: all of it is resumed."""
    chance = random.Random(3)
    unsettled: dict[bytes, int] = {}
    first = 0
    for _ in range(ROUNDS):
        raw = client(node)
        told = attach(raw, p.SENDER, dict.fromkeys(unsettled))
        assert told.keys() == unsettled.keys(), "each is to come again with its tag"
        raw.expect(p.Flow)
        numbers = {}
        for delivery_id, (tag, number) in enumerate(list(unsettled.items())):
            raw.send(p.Transfer(0, delivery_id, tag, 0, False, resume=True), data(b"%d" % number))
            numbers[delivery_id] = tag
        for step in range(BURST):
            tag, delivery_id = b"%d" % (first + step), len(numbers)
            numbers[delivery_id] = tag
            unsettled[tag] = first + step
            raw.send(p.Transfer(0, delivery_id, tag, 0, False), data(tag))
        first += BURST
        heard, enough = 0, len(numbers) - chance.randrange(BURST)
        while heard < enough:
            found = raw.expect(p.Disposition)
            assert isinstance(found.state, p.Accepted) and not found.settled
            for delivery_id in range(found.first, (found.last if found.last is not None else found.first) + 1):
                heard += 1
                if chance.random() < 0.5:               # the others stay unsettled, although they are stored
                    raw.send(p.Disposition(p.SENDER, delivery_id, None, True))
                    del unsettled[numbers[delivery_id]]
        node.kill9()
        node.start()
    raw = client(node)
    attach(raw, p.SENDER, dict.fromkeys(unsettled))
    raw.expect(p.Flow)
    for delivery_id, (tag, number) in enumerate(unsettled.items()):
        raw.send(p.Transfer(0, delivery_id, tag, 0, False, resume=True), data(b"%d" % number))
    heard = 0
    while heard < len(unsettled):
        found = raw.expect(p.Disposition)
        heard += (found.last if found.last is not None else found.first) - found.first + 1
    assert sorted(drained(node)) == list(range(first))


def test_what_a_receiver_has_accepted_does_not_come_again_after_a_kill(node):
    """It had not heard that the node has settled, and says so when it is back."""
    raw = client(node)
    raw.sender("queue://q", 5)
    count = BURST * ROUNDS
    for number in range(count):
        raw.transfer(number, data(b"%d" % number), 5)
    heard = 0
    while heard < count:
        found = raw.expect(p.Disposition)
        heard += (found.last if found.last is not None else found.first) - found.first + 1
    raw.socket.close()
    done: set[int] = set()
    unsettled = {}
    for _ in range(ROUNDS):
        raw = client(node)
        assert attach(raw, p.RECEIVER, unsettled) == {}
        raw.credit(BURST, 0)
        unsettled = {}
        for place in range(BURST // 2):
            transfer, message = raw.delivery()
            number = payload(message)
            assert number not in done, "it was done, and came again"
            if place % 2:
                done.add(number)
                unsettled[transfer.delivery_tag] = Described(ULong(0x24), [])
            else:
                unsettled[transfer.delivery_tag] = None
        node.kill9()
        node.start()
    raw = client(node)
    attach(raw, p.RECEIVER, unsettled)
    raw.send(p.Detach(0, True))
    raw.expect(p.Detach)
    assert sorted(drained(node)) == sorted(set(range(count)) - done)
