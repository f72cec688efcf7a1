"""Answers to requests: anybody who got the request may send one, nobody else hears it, nothing of it is kept."""
from __future__ import annotations

import pytest

from routing.direct.replies import WAITING_MAX, Replies, has_receiver
from routing.direct.subscription import Subscription
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.rights.policy import ANONYMOUS, Identity
from tests.support.routing import Desk, Reader

BEN = Identity(user="ben", protocol="test", client_id="ben-1")


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, rules=())         # nobody may do anything
    yield desk
    desk.close()


def test_an_answer_reaches_the_one_who_waits_and_nobody_else(desk):
    replies = Replies(desk.router, "graz-1", iter(["a", "b"]).__next__)
    got = {"a": [], "b": []}
    assert replies.expect("ben", got["a"].append) == "$reply/graz-1/a"
    assert replies.expect("ben", got["b"].append) == "$reply/graz-1/b"
    ticket = desk.publish(Event("$reply/graz-1/b", b"42", 1), publisher=desk.router.publisher(BEN))
    assert not ticket.refusals
    assert [event.payload for event in got["b"]] == [b"42"] and got["a"] == []
    assert ticket.events[0].partition is None, "answers are not stored"


def test_the_first_answer_counts_and_later_ones_are_counted(desk):
    replies = Replies(desk.router, "graz-1")
    got = []
    topic = replies.expect("ben", got.append)
    desk.publish(Event(topic, b"1"), Event(topic, b"2"))
    assert [event.payload for event in got] == [b"1"]
    assert (replies.answered, replies.late, len(replies)) == (1, 1, 0)


def test_nobody_may_listen_to_answers(desk):
    sink = Reader()
    refusal = desk.router.subscribe(Subscription("$reply/graz-1/+", sink))
    assert refusal.reason is Reason.NOT_AUTHORIZED


def test_an_answer_cannot_be_retained(desk):
    ticket = desk.publish(Event("$reply/graz-1/x", b"1", 1, retain=True))
    assert ticket.refusals[0].reason is Reason.QUOTA_EXCEEDED


def test_a_request_that_was_given_up_gets_nothing(desk):
    replies = Replies(desk.router, "graz-1")
    got = []
    topic = replies.expect("ben", got.append)
    replies.forget(topic)
    replies.forget(topic)
    desk.publish(Event(topic, b"late"))
    assert got == [] and replies.late == 1


def test_the_number_of_requests_is_bounded(desk):
    replies = Replies(desk.router, "graz-1", iter(map(str, range(WAITING_MAX + 1))).__next__)
    for _ in range(WAITING_MAX):
        assert isinstance(replies.expect(ANONYMOUS, lambda event: None), str)
    assert isinstance(replies.expect(ANONYMOUS, lambda event: None), Refusal)


def test_a_topic_without_readers_has_no_receiver(tmp_path):
    desk = Desk(tmp_path)
    assert not has_receiver(desk.router, "service/time")
    assert desk.router.subscribe(Subscription("service/+", Reader())) is None
    assert has_receiver(desk.router, "service/time")
    desk.close()
