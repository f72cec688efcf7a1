"""JsonSession without a socket: a stream that writes down what it is told, and a clock that stands still."""
from __future__ import annotations

import json

import pytest

from protocols.websocket.json.counters import JsonCounters
from protocols.websocket.json.opening import Caches
from protocols.websocket.json.session import Credentials, JsonSession
from protocols.websocket.settings import WebSocketSettings
from routing.direct.replies import Replies
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.rights.policy import Identity
from tests.support.routing import Desk

ANA = Identity("ana", protocol="websocket")


class Stream:
    """What a channel does; buffered is what the test says that the socket has not taken."""

    def __init__(self):
        self.told = []
        self.buffered = 0
        self.reading = True
        self.closed = None

    def send(self, message, *, is_binary=False):
        self.told.append(json.loads(message))

    def send_many(self, messages, *, is_binary):
        for message in messages:
            self.send(message)

    def buffered_bytes(self):
        return self.buffered

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def allow(self, message_bytes_max):
        pass

    def close_with(self, code, reason=""):
        self.closed = code

    def abort(self):
        self.closed = "aborted"


class Talk:
    """A session, its stream and the desk."""

    def __init__(self, path, outcome=ANA, **settings):
        self.desk = Desk(path)
        self.stream = Stream()
        self.outcome = outcome
        self.shown = None
        self.session = JsonSession(
            self.stream, self.desk.router, Replies(self.desk.router, "n"), WebSocketSettings(**settings),
            JsonCounters(), "n", self._login, Caches(self.desk.router), self.desk.now_s)

    def _login(self, credentials, done):
        self.shown = credentials
        if self.outcome is not None:
            done(self.outcome)

    def say(self, *messages):
        self.session.receive([json.dumps(message) for message in messages], self.desk.now_s)
        self.desk.run()
        return self.heard()

    def heard(self):
        told, self.stream.told = self.stream.told, []
        return told

    def later(self, seconds, *, ping=False):
        self.desk.tick(seconds)
        return self.session.tick(self.desk.now_s, ping=ping)


@pytest.fixture
def talk(tmp_path):
    talk = Talk(tmp_path)
    talk.session.log_in(Credentials())
    assert talk.heard()[0]["op"] == "welcome"
    yield talk
    talk.session.end()
    talk.desk.close()


def test_the_first_message_must_come_in_time(tmp_path):
    talk = Talk(tmp_path, login_timeout_s=10.0)
    assert talk.later(9.9)
    assert not talk.later(0.2) and talk.stream.closed == 1008
    assert talk.heard()[0]["problem"] == "/problems/request-timeout"


@pytest.mark.parametrize(("auth", "authorization", "api_key"), [
    ({"token": "a.b.c"}, "Bearer a.b.c", None), ({"api_key": "k"}, None, "k"),
    ({"user": "ana", "password": "pw"}, "Basic YW5hOnB3", None), ({}, None, None)])
def test_credentials_of_the_first_message_are_those_of_a_header_field(tmp_path, auth, authorization, api_key):
    talk = Talk(tmp_path)
    assert talk.say({"op": "auth", **auth})[0]["op"] == "welcome"
    assert (talk.shown.authorization, talk.shown.api_key) == (authorization, api_key)


def test_while_a_login_is_under_way_nothing_is_read_and_nothing_is_done(tmp_path):
    talk = Talk(tmp_path, outcome=None)
    talk.say({"op": "auth", "token": "t"}, {"op": "publish", "id": 1, "topic": "a"})
    assert not talk.stream.reading and talk.desk.router.published == 0
    talk.session._logged_in(ANA)
    talk.desk.run()
    assert [message["op"] for message in talk.heard()] == ["welcome", "published"] and talk.stream.reading


def test_a_login_that_was_not_decided_in_time_is_to_be_tried_again_later(tmp_path):
    """Close code 1013, where a wrong one has 1008."""
    talk = Talk(tmp_path, outcome=Refusal(Reason.BUSY, "try again in 3s", 3))
    talk.session.log_in(Credentials())
    assert talk.stream.told[0]["problem"] == "/problems/busy" and talk.stream.closed == 1013


def test_a_refused_login_closes_and_drops_what_came_with_it(tmp_path):
    talk = Talk(tmp_path, outcome=Refusal(Reason.BAD_CREDENTIALS, "no"))
    told = talk.say({"op": "auth", "token": "t"}, {"op": "publish", "topic": "a"})
    assert told == [{"op": "goodbye", "problem": "/problems/bad-credentials", "detail": "no"}]
    assert talk.stream.closed == 1008 and talk.desk.router.published == 0


def test_the_connection_ends_with_its_token(tmp_path):
    talk = Talk(tmp_path)
    talk.outcome = Identity("ana", protocol="websocket", expires_ms=talk.desk.now_ms + 5_000)
    talk.session.log_in(Credentials("Bearer t"))
    assert talk.later(4.0)
    talk.heard()
    assert not talk.later(1.0)
    assert talk.heard()[0]["problem"] == "/problems/bad-credentials"


def test_published_is_said_only_when_the_event_is_durable(talk):
    talk.session.receive([json.dumps({"op": "publish", "id": 1, "topic": "a"})], talk.desk.now_s)
    assert talk.heard() == []
    talk.desk.run()
    assert talk.heard()[0]["op"] == "published"


def test_nothing_is_read_while_too_many_publishes_are_under_way(tmp_path):
    talk = Talk(tmp_path, publishes_max=4)
    talk.session.log_in(Credentials())
    talk.session.receive([json.dumps({"op": "publish", "id": n, "topic": "a"}) for n in range(5)], talk.desk.now_s)
    assert not talk.stream.reading
    talk.desk.run()
    assert talk.stream.reading and len(talk.heard()) == 6


def test_a_full_socket_gets_nothing_more_until_it_has_drained(talk):
    talk.say({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["#"]})
    talk.session.writing(True)
    talk.desk.publish("a", "b")
    assert talk.heard() == [] and not talk.stream.reading
    talk.session.writing(False)
    talk.desk.run()
    assert [message["event"]["topic"] for message in talk.heard()] == ["a", "b"] and talk.stream.reading


def test_who_takes_nothing_or_answers_no_ping_is_gone(tmp_path):
    talk = Talk(tmp_path / "stalled", stall_timeout_s=300.0, silence_max_s=60.0)
    talk.session.log_in(Credentials())
    talk.session.writing(True)
    assert talk.later(299.0)
    assert not talk.later(2.0) and talk.stream.closed == "aborted"
    talk = Talk(tmp_path / "silent", silence_max_s=60.0)
    talk.session.log_in(Credentials())
    assert talk.later(59.0)
    talk.session.receive([], talk.desk.now_s)           # a pong
    assert talk.later(59.0)
    assert not talk.later(2.0) and talk.stream.closed == 1008


def test_an_untaken_window_never_grows_beyond_the_buffer(talk):
    """Large events: what is handed out at a time follows their size."""
    talk.say({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["#"]})
    for _ in range(5):
        talk.desk.publish(*(Event("a", b"x" * 20_000, 1) for _ in range(8)))
    assert talk.session.subscriptions["s"]._window <= 4
