"""AMQP 1.0: performatives as fast as they go, answers to thousands of deliveries in a frame, logins."""
from __future__ import annotations

import pytest

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import encode_composite
from tests.fairness.chunks import SEVERAL, many
from tests.fairness.floods import Flood
from tests.fairness.harness import SOAK, grows, hold
from tests.protocols.amqp.raw import data
from tests.support.node import Node

pytestmark = pytest.mark.measured

WIDE = 2**31 - 1


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("fairness-amqp10"), listeners=("mqtt", "http", "console", "amqp"))
    made.start()
    yield made
    made.kill9()


def frame(performative, payload=b"", channel=0, kind=frames.AMQP):
    return frames.frame(channel, encode_composite(performative) + payload, kind)


def login(*more):
    """All at a time: nothing in it depends on an answer."""
    return b"".join((
        frames.SASL_HEADER, frame(p.SaslInit("ANONYMOUS", b""), kind=frames.SASL), frames.AMQP_HEADER,
        frame(p.Open("evil")), frame(p.Begin(None, 0, WIDE, WIDE)), *more))


def flood(node, chunk, *more, **options):
    return Flood(("127.0.0.1", node.ports["amqp"]), chunk, opening=login(*more), opening_reply_bytes=100, **options)


def sender(address, handle=0, settled=p.SETTLED):
    return frame(p.Attach(f"s{handle}", handle, p.SENDER, settled, source=p.Source(), target=p.Target(address),
                          initial_delivery_count=0))


def receiver(address, handle=1, name="r", **source):
    return frame(p.Attach(name, handle, p.RECEIVER, source=p.Source(address, **source), target=p.Target()))


def credit(count, handle=1, credit=WIDE, **options):
    return frame(p.Flow(0, WIDE, 0, WIDE, handle, count, credit, **options))


def transfers(count, body=b"x"):
    """Settled. The first thousand have credit; more comes with what is taken."""
    start = hot.transfer_head(0)
    return b"".join(frames.frame(0, hot.transfer(start, number, b"t", True, False) + data(body))
                    for number in range(count))


CHUNKS = {          # what is sent again and again, and what goes before it
    "empty frames": lambda: (frames.EMPTY_FRAME * (SEVERAL // 8), ()),
    "flows with echo": lambda: (credit(0, 1, 0, echo=True) * (SEVERAL // 40), (receiver("queue://evil"),)),
    "dispositions of everything": lambda: (
        frame(p.Disposition(p.RECEIVER, 0, WIDE, settled=True, state=p.RELEASED)) * (SEVERAL // 30),
        (sender("queue://evil"), transfers(900), receiver("queue://evil"), credit(0, 1, 10_000))),
    "attaching and detaching": lambda: (
        many(lambda n: receiver(f"queue://evil-{n % 50}", 1, f"r{n}") + frame(p.Detach(1, closed=True)), SEVERAL // 2),
        ()),
    "sessions begin and end": lambda: (
        many(lambda n: frame(p.Begin(None, 0, 1, 1), channel=n % 900 + 1) + frame(p.End(), channel=n % 900 + 1)), ()),
}
QUICK = ("flows with echo", "dispositions of everything", "attaching and detaching")


@pytest.mark.parametrize("name", CHUNKS if SOAK else QUICK)
def test_one_client_that_is_logged_in(node, name):
    chunk, more = CHUNKS[name]()
    hold(node, flood(node, chunk, *more))


def test_transfers_on_new_connections(node):
    """As many as one credit takes, then a new connection."""
    chunk = sender("topic://evil") + transfers(990) + frame(p.Close())
    hold(node, flood(node, chunk, connections=5))


def test_logins_again_and_again(node):
    hold(node, Flood(("127.0.0.1", node.ports["amqp"]), login() + frame(p.Close()), connections=30))


def test_answers_that_are_not_read_and_messages_that_do_not_end(node):
    part = frames.frame(0, encode_composite(p.Transfer(0, 0, b"t", 0, more=True)) + b"x" * 100_000)
    grows(node, flood(node, part * 9, sender("queue://evil-parts", settled=None), once=True, connections=20,
                      reads=False))
