"""Receivers that read the log from a place of their own: drain, rights, what is left of them, bounds."""
from __future__ import annotations

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.types import Described, Symbol
from protocols.amqp.settings import Amqp10Settings
from routing.rights.policy import ALLOW_ALL, Action, Rule
from tests.protocols.amqp.raw import Raw
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until

SPEC = Symbol("rabbitmq:stream-offset-spec")
SELECTOR = Symbol("apache.org:selector-filter:string")
SECRET = Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("secret/#",))


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    started = Stand(tmp_path_factory.mktemp("amqp10-streams"), rules=(ALLOW_ALL, SECRET),
                    settings=Amqp10Settings(unsettled_max=50)).start()
    yield started
    started.stop()


@pytest.fixture
def raw(stand):
    client = Raw(stand.port)
    client.begin()
    yield client
    client.socket.close()


def from_(place, **others):
    filters = {SPEC: Described(SPEC, place)}
    filters.update({Symbol(name): Described(SELECTOR, text) for name, text in others.items()})
    return filters


def numbered(stand, topic, count):
    for number in range(count):
        stand.publish(topic, b"%d" % number, headers=(("even", number % 2 == 0),))


def readers(stand):
    return stand.do(lambda: [name for name in stand.router.consumers if name.startswith("amqp/stream/")])


def test_drain_is_answered_when_all_that_was_published_is_delivered(stand, raw):
    numbered(stand, "drained", 7)
    raw.receiver("topic://drained", filter=from_("first"))
    raw.credit(1_000, drain=True)
    assert [raw.delivery()[1][-1:] for _ in range(7)] == [b"%d" % number for number in range(7)]
    flow = raw.frame()[0]
    assert isinstance(flow, p.Flow) and (flow.link_credit, flow.drain) == (0, True)


def test_drain_ends_although_the_selector_wants_nothing_of_a_long_log(stand, raw):
    numbered(stand, "unwanted", 300)
    raw.receiver("topic://unwanted", filter=from_("first", which="even AND JMSPriority = 9"))
    raw.credit(10, drain=True)
    flow = raw.frame()[0]
    assert isinstance(flow, p.Flow) and flow.link_credit == 0


def test_no_more_go_out_than_may_wait_for_an_answer_and_answers_let_the_next_go(stand, raw):
    numbered(stand, "many", 120)
    raw.receiver("topic://many", filter=from_("first"))
    raw.credit(1_000)
    for _ in range(2):
        numbers = [raw.delivery()[0].delivery_id for _ in range(50)]
        raw.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            raw.frame()
        raw.socket.settimeout(20)
        raw.send(p.Disposition(p.RECEIVER, numbers[0], numbers[-1], True, p.ACCEPTED))
    assert len([raw.delivery() for _ in range(20)]) == 20


def test_nothing_is_left_of_a_reader_that_has_gone(stand, raw):
    before = set(readers(stand))
    raw.receiver("topic://gone", filter=from_("first"))
    assert len(set(readers(stand)) - before) == 1
    raw.send(p.Detach(1, True))
    raw.expect(p.Detach)
    assert set(readers(stand)) <= before
    raw.receiver("topic://gone", 2, filter=from_("first"))
    raw.socket.close()
    wait_until(lambda: set(readers(stand)) <= before, "the reader of a lost connection has gone")


def test_who_may_not_read_a_topic_may_not_read_its_past(stand, raw):
    attached = raw.receiver("topic://secret/#", filter=from_("first"))
    assert attached.source is None
    assert raw.expect(p.Detach).error.condition == "amqp:unauthorized-access"


def test_a_durable_subscription_goes_by_its_own_place(stand, raw):
    """What it has read is stored, so a filter that says where to begin does not apply."""
    numbered(stand, "kept", 3)
    attached = raw.receiver("topic://kept", durable=2, expiry_policy="never", filter=from_("first"))
    assert not attached.source.filter
