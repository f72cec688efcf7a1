"""The parts of a webhook that have no I/O: signature, breaker, queues, rate, handshake, request, secrets."""
from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from yarl import URL

from mesh.connectors.webhook_breaker import Breaker, State
from mesh.connectors.webhook_client import Outcome
from mesh.connectors.webhook_permission import Permission
from mesh.connectors.webhook_queue import KeyQueues
from mesh.connectors.webhook_rate import Rate
from mesh.connectors.webhook_request import make_request
from mesh.connectors.webhook_secrets import check_push, resolve
from mesh.connectors.webhook_settings import WebhookSecret, WebhookSettings
from mesh.connectors.webhook_sign import keys_of, signed
from routing.consumers.definition.push import Push
from routing.cursors.cursor import Delivery
from routing.errors import ConfigError
from routing.event import Event, Properties

# -- signature ---------------------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's reference libraries."""
    keys = keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    fields = signed(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert fields["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_key_of_a_secret_signs_so_that_it_can_be_changed():
    one, two = b"a" * 24, b"b" * 24
    fields = signed(keys_of(f"{one.decode()}\n{two.decode()}\n"), "m", 1, b"x")
    wanted = [base64.b64encode(hmac.new(key, b"m.1.x", hashlib.sha256).digest()).decode() for key in (one, two)]
    assert fields["webhook-signature"].split(" ") == [f"v1,{text}" for text in wanted]


@pytest.mark.parametrize("secret", ["", "short", "whsec_no base64!", "whsec_" + base64.b64encode(b"x").decode()])
def test_a_secret_that_is_none_is_refused_without_showing_it(secret):
    with pytest.raises(ConfigError) as caught:
        keys_of(secret)
    assert not secret or secret not in str(caught.value)


# -- breaker -----------------------------------------------------------------------------------------------------------

def test_the_breaker_opens_after_failures_in_a_row_and_tries_again_at_growing_intervals():
    breaker = Breaker(3, 5.0, 12.0)
    for now_s in (1.0, 2.0):
        breaker.failed(now_s)
    breaker.succeeded()
    for now_s in (3.0, 4.0, 5.0):
        assert breaker.may_send(now_s)
        breaker.failed(now_s)
    assert breaker.state is State.OPEN and not breaker.may_send(9.9)
    assert breaker.may_send(10.0) and breaker.sent(), "one probe"
    assert not breaker.may_send(10.0)
    breaker.failed(11.0)
    assert breaker.until_s == 21.0
    assert breaker.may_send(21.0) and breaker.sent()
    breaker.failed(21.0)
    assert breaker.until_s == 33.0, "no longer than the longest"
    assert breaker.may_send(33.0) and breaker.sent()
    breaker.succeeded()
    assert breaker.state is State.CLOSED and breaker.may_send(33.0)


def test_a_receiver_that_asks_for_a_pause_gets_it():
    breaker = Breaker(3, 5.0, 60.0)
    breaker.hold(10.0, 30.0)
    assert not breaker.may_send(39.0) and breaker.may_send(40.0)


def test_a_probe_without_an_answer_is_given_back():
    breaker = Breaker(1, 5.0, 60.0)
    breaker.failed(0.0)
    assert breaker.may_send(5.0) and breaker.sent() and not breaker.may_send(5.0)
    breaker.give_back()
    assert breaker.may_send(5.0)


# -- queues ------------------------------------------------------------------------------------------------------------

def deliveries(*keys):
    return [Delivery(Event("t", str(number).encode(), 1, key=key.encode(), offset=number))
            for number, key in enumerate(keys)]


def test_the_next_of_a_key_waits_for_the_former_and_other_keys_do_not():
    queues = KeyQueues()
    a1, a2, b1 = deliveries("a", "a", "b")
    for delivery in (a1, a2, b1):
        queues.add(delivery)
    assert [queues.take(0.0), queues.take(0.0), queues.take(0.0)] == [a1, b1, None]
    queues.later(a1, 5.0)
    queues.done(b1)
    assert queues.take(4.9) is None and queues.next_due_s() == 5.0
    assert queues.take(5.0) is a1
    queues.done(a1)
    assert queues.take(5.0) is a2
    queues.done(a2)
    assert len(queues) == 0


# -- rate and handshake ------------------------------------------------------------------------------------------------

def test_a_rate_holds_over_a_minute():
    rate = Rate(60)
    sent = 0
    for tenth in range(600):
        while rate.may_send(tenth / 10):
            rate.sent(tenth / 10)
            sent += 1
    assert 60 <= sent <= 61
    assert rate.next_s(59.9) > 59.9


def outcome(status, origin=None, rate=None):
    made = Outcome(status, "")
    made.allowed_origin, made.allowed_rate = origin, rate
    return made


@pytest.mark.parametrize(("answer", "granted"), [
    (outcome(200, "graz-1"), True), (outcome(200, "*"), True), (outcome(204, "graz-1", "120"), True),
    (outcome(200), False), (outcome(200, "linz-1"), False), (outcome(405), False), (outcome(403, "*"), False),
    (outcome(0), False),
])
def test_nothing_is_sent_before_the_receiver_agreed(answer, granted):
    permission = Permission(Push("https://x.example", handshake=True), "graz-1", 100.0)
    assert not permission.granted(0.0) and permission.may_ask(0.0)
    assert bool(permission.answered(answer, 0.0)) is not granted
    assert permission.granted(99.0) is granted and not permission.granted(100.0)
    assert permission.may_ask(4.9) is granted and permission.may_ask(5.0)


def test_the_smaller_rate_counts():
    permission = Permission(Push("https://x.example", handshake=True, rate_per_minute=100), "n", 100.0)
    assert permission.wanted_rate == "100"
    permission.answered(outcome(200, "*", "50"), 0.0)
    assert permission.rate_per_minute == 50
    permission.answered(outcome(200, "*", "*"), 0.0)
    assert permission.rate_per_minute == 100


def test_the_handshake_goes_with_cloudevents_unless_said_otherwise():
    assert Permission(Push("u"), "n", 1.0).granted(0.0)
    assert not Permission(Push("u", format="cloudevents"), "n", 1.0).granted(0.0)
    assert Permission(Push("u", format="cloudevents", handshake=False), "n", 1.0).granted(0.0)


# -- request -----------------------------------------------------------------------------------------------------------

class Part:
    stream, index = "events", 3


EVENT = Event(
    "plant/lamp", b'{"on":true}', 1, key=b"k", headers=(("Region", "eu"), ("n", 1), ("odd name", "x\r\nEvil: y")),
    properties=Properties(content_type="application/json", correlation=b"c", reply_to="r", message_id="m", priority=4,
                          expires_at_ms=5_000), timestamp_ms=1_000, offset=7, partition=Part())


def lost(*what):
    pass


def test_raw_is_the_payload_with_the_fields_of_a_publish():
    request = make_request(EVENT, "raw", "epoch", 2_000, lost)
    assert request.body == b'{"on":true}'
    assert request.message_id.endswith("-events-3-7") and request.message_id.startswith("msg_")
    assert request.fields == {
        "Content-Type": "application/json", "Webhook-Topic": "plant/lamp", "Webhook-Time": "1970-01-01T00:00:01.000Z",
        "Meshgate-Key": "k", "Meshgate-TTL": "3000", "Meshgate-Priority": "4", "Meshgate-Correlation-Id": "c",
        "Meshgate-Reply-To": "r", "Meshgate-Message-Id": "m", "Meshgate-Header-%52egion": "eu",
        "Meshgate-Header-n": "1", "Meshgate-Header-odd%20name": "x%0D%0AEvil: y"}


def test_no_format_lets_an_event_end_a_header_line():
    """hostile.md row 79."""
    evil = Event("t\r\nX: 1", b"", 1, key=b"\r\nX: 2", headers=(("a\r\nX", "\r\nX: 3"), ("ce_specversion", "1.0")),
                 properties=Properties(content_type="text/plain\r\nX: 4", correlation=b"\r\n", message_id="\x00\x7f"),
                 offset=1, partition=Part())
    for form in ("raw", "json", "cloudevents", "cloudevents-structured"):
        for name, value in make_request(evil, form, "epoch", 0, lost).fields.items():
            assert name.isprintable() and value.isprintable(), (form, name, value)


def test_json_and_cloudevents():
    assert json.loads(make_request(EVENT, "json", "epoch", 0, lost).body)["topic"] == "plant/lamp"
    binary = make_request(EVENT, "cloudevents", "epoch", 0, lost)
    assert binary.fields["ce-specversion"] == "1.0" and binary.fields["Content-Type"] == "application/json"
    assert binary.body == b'{"on":true}'
    structured = make_request(EVENT, "cloudevents-structured", "epoch", 0, lost)
    assert structured.fields["Content-Type"].startswith("application/cloudevents+json")
    assert json.loads(structured.body)["data"] == {"on": True}


def test_what_is_too_long_for_a_header_is_counted_as_lost():
    told = []
    big = Event("t", b"x", 1, headers=(("a", "y" * 10_000),), offset=1, partition=Part())
    assert "Meshgate-Header-a" not in make_request(big, "raw", "e", 0, lambda *what: told.append(what)).fields
    assert told == [("event", "webhook", "long headers")]


# -- secrets -----------------------------------------------------------------------------------------------------------

SETTINGS = WebhookSettings(secrets={"billing": WebhookSecret("env:BILLING", ("https://billing.example/in",))})
URL_OF = URL("https://billing.example/in/hook")


@pytest.mark.parametrize(("push", "word"), [
    (Push("u", secret="in clear text"), "by reference"),
    (Push("u", secret="secret:unknown"), "has no unknown"),
    (Push("u", secret="file:/etc/shadow"), "only the configuration"),
    (Push("u", headers={"X-Any": "env:HOME"}), "only the configuration"),
    (Push("u", headers={"Authorization": "Bearer abc"}), "by reference"),
    (Push("u", headers={"Host": "x"}), "no name of a field"),
    (Push("u", headers={"Webhook-Id": "x"}), "no name of a field"),
    (Push("u", headers={"a b": "x"}), "no name of a field"),
    (Push("u", headers={"A": "x\r\ny"}), "printable"),
    (Push("u", headers={f"A{n}": "x" for n in range(33)}), "at most 32"),
    (Push("u", timeout_s=0), "timeout_s"), (Push("u", max_in_flight=0), "max_in_flight"),
    (Push("u", rate_per_minute=0), "rate_per_minute"),
])
def test_a_client_cannot_have_secrets_of_the_node_sent_somewhere(push, word):
    assert word in check_push(push, URL_OF, SETTINGS, declared=False)


@pytest.mark.parametrize("url", ["https://evil.example/in", "http://billing.example/in/x", "https://billing.example/inside",
                                 "https://billing.example:444/in/x", "https://billing.example/"])
def test_a_named_secret_goes_only_where_it_is_meant_to(url):
    assert "not meant for" in check_push(Push("u", secret="secret:billing"), URL(url), SETTINGS, declared=False)
    assert check_push(Push("u", secret="secret:billing"), URL_OF, SETTINGS, declared=False) is None


def test_references_become_values_and_are_not_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("BILLING", "k" * 24)
    (tmp_path / "token").write_text("Bearer abc\n")
    push = Push("u", secret="secret:billing", headers={"Authorization": f"file:{tmp_path}/token", "X-Plain": "1"})
    assert check_push(push, URL_OF, SETTINGS, declared=True) is None
    resolved = resolve(push, SETTINGS)
    assert resolved.keys == [b"k" * 24] and resolved.headers == {"Authorization": "Bearer abc", "X-Plain": "1"}
    assert "k" * 24 not in repr(resolved) and "abc" not in repr(resolved)
