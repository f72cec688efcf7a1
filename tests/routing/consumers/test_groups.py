"""Groups whose members commit offsets: consumers that are moved without reading."""
from __future__ import annotations

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.errors import Reason
from routing.log.producing import raw
from routing.rights.policy import Action, Identity, Rule
from routing.settings import StreamSettings
from tests.routing.log.test_raw import kafka_batch
from tests.support.routing import ANA, Desk, Reader

SETTINGS = [StreamSettings("events", ("#",)), StreamSettings("orders", ("orders/#",), partitions=2),
            StreamSettings("clicks", ("clicks/#",))]
BOB = Identity(user="bob", protocol="kafka", client_id="b")


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, SETTINGS)
    yield desk
    desk.close()


def produce(desk, count, stream="orders", index=0):
    batch = kafka_batch([(None, b"%d" % number, []) for number in range(count)])
    ticket = desk.router.publish_raw(stream, index, batch, desk.publisher)
    desk.run()
    assert ticket.parts[0].refusal is None


def commit(desk, offsets, name="billing", identity=ANA):
    answer = desk.router.groups.commit(name, offsets, identity)
    desk.run()
    return answer


def lag(desk, name="billing"):
    consumer = desk.router.consumers[name]
    consumer.lag()
    desk.run()
    return consumer.lag()


def test_a_group_is_a_consumer_with_the_lag_that_its_commits_leave(desk, tmp_path):
    produce(desk, 10)
    produce(desk, 5, index=1)
    assert commit(desk, {("orders", 0): 4, ("orders", 1): 5}).done
    assert (lag(desk).events, lag(desk).exact) == (6, True)
    produce(desk, 3, index=1)
    assert lag(desk).events == 9
    commit(desk, {("orders", 0): 10})
    assert lag(desk).events == 3
    commit(desk, {("orders", 0): 1})                        # back, as a reset of offsets
    assert lag(desk).events == 12
    desk.close()
    again = Desk(tmp_path, SETTINGS)
    assert again.router.groups.positions("billing") == {("orders", 0): 1, ("orders", 1): 5}
    assert lag(again).events == 12
    again.close()


def test_no_batch_is_opened_for_a_group_that_nobody_of_another_protocol_reads(desk, monkeypatch):
    produce(desk, 1)
    commit(desk, {("orders", 0): 1})
    monkeypatch.setattr(raw.RawBatch, "parts", lambda *_: pytest.fail("nobody wanted events"))
    produce(desk, 5)
    assert lag(desk).events == 5


def test_another_protocol_reads_on_where_the_group_has_committed(desk):
    produce(desk, 6)
    commit(desk, {("orders", 0): 4})
    reader = Reader()
    desk.router.consumers["billing"].attach(reader)
    desk.run()
    assert reader.payloads == [b"4", b"5"]
    reader.ack_all(desk.router.consumers["billing"])
    desk.run()
    assert desk.router.groups.positions("billing")["orders", 0] == 6


def test_a_group_gets_more_streams_as_it_commits_them(desk):
    produce(desk, 2)
    produce(desk, 7, "clicks")
    commit(desk, {("orders", 0): 2})
    commit(desk, {("clicks", 0): 3})
    assert lag(desk).events == 4
    assert {stream for stream, _ in desk.router.groups.positions("billing")} == {"orders", "clicks"}


def test_refusals_say_why(tmp_path):
    desk = Desk(tmp_path, SETTINGS, rules=(
        Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:ana",), topics=("#",)),))
    desk.router.open_consumer(ConsumerSpec("mine", ("orders/#",)), ANA)
    assert commit(desk, {("nothing", 0): 1}).reason is Reason.NOT_FOUND
    assert commit(desk, {("orders", 0): 0}, "mine").reason is Reason.CONFLICT
    assert commit(desk, {("orders", 0): 0}, identity=BOB).reason is Reason.NOT_AUTHORIZED
    assert commit(desk, {("orders", 0): 0}).done
    assert commit(desk, {("orders", 0): 0}, identity=BOB).reason is Reason.NOT_AUTHORIZED
    desk.close()
