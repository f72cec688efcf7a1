"""Webhooks against a real receiver: delivery, order, retries, breaker, dead letters, handshake, what is refused."""
from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import socket
import ssl
import time

import pytest
from aiohttp import web

from mesh.connectors.webhook_settings import ConsumerTable, WebhookSecret, WebhookSettings
from mesh.connectors.webhooks import Prepared
from mesh.system.names.resolver import NamesResolver
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import Push, StrictPush
from routing.errors import ConfigError, Reason, Refusal
from routing.event import Event, Properties
from routing.rights.policy import Identity
from tests.protocols.rest.stand import eventually
from tests.support.routing import Reader

from .receiver import ANA, Receiver, all_acked, push_consumer, webhook_stand


async def test_every_event_is_posted_and_acked_when_it_was_taken(tmp_path):
    async with webhook_stand(tmp_path) as it:
        consumer = push_consumer(it)
        await it.publish("a", "b", "c")
        await all_acked(it)
        assert sorted(it.receiver.bodies) == [b"a", b"b", b"c"]
        method, headers, _ = it.receiver.requests[0]
        assert method == "POST" and headers["Webhook-Topic"] in "abc" and headers["Webhook-Attempt"] == "1"
        assert headers["User-Agent"].startswith("meshgate-webhook/")
        assert consumer.acked == 3 and it.webhooks.snapshot()[0]["delivered"] == 3


async def test_the_signature_can_be_checked_and_the_key_is_shown_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_KEY", "whsec_" + base64.b64encode(b"k" * 24).decode())
    settings = WebhookSettings(allow=("127.0.0.0/8",), secrets={})
    async with webhook_stand(tmp_path, settings) as it:
        settings.secrets["hook"] = WebhookSecret("env:HOOK_KEY", (f"http://127.0.0.1:{it.receiver.port}/",))
        push_consumer(it, push={"secret": "secret:hook"})
        await it.publish("a")
        await all_acked(it)
        _, headers, body = it.receiver.requests[0]
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(b"k" * 24, content, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert "kkkk" not in str(it.webhooks.snapshot()) and it.webhooks.snapshot()[0]["signed"] is True


async def test_a_failed_event_comes_again_with_the_same_id_and_the_next_of_its_key_waits(tmp_path):
    async with webhook_stand(tmp_path) as it:
        failures = iter([500, 503, None])
        it.receiver.answer = lambda request, body: next(failures) if body == b"1" else None
        push_consumer(it, mode=Mode.KEY_SHARED)
        await it.publish(*(Event("t", text, 1, key=key) for key, text in ((b"k", b"1"), (b"k", b"2"), (b"o", b"x"))))
        await all_acked(it)
        bodies = it.receiver.bodies
        assert [body for body in bodies if body != b"x"] == [b"1", b"1", b"1", b"2"]
        ids = {headers["webhook-id"] for _, headers, body in it.receiver.requests if body == b"1"}
        assert len(ids) == 1
        attempts = [headers["Webhook-Attempt"] for _, headers, body in it.receiver.requests if body == b"1"]
        assert attempts == ["1", "2", "2"], "a 503 is not held against the event"


@pytest.mark.parametrize("mode", list(Mode))
async def test_the_order_of_every_key_holds_against_a_receiver_that_fails_at_random(tmp_path, mode):
    rng = random.Random(7)
    taken = {}

    async def answer(request, body):
        await asyncio.sleep(rng.random() / 100)
        if rng.random() < 0.3:
            return web.Response(status=500)
        key, _, number = body.partition(b"-")
        taken.setdefault(key, []).append(int(number))
        return web.Response(status=204)

    settings = WebhookSettings(allow=("127.0.0.0/8",), breaker_failures=100)
    async with webhook_stand(tmp_path, settings) as it:
        it.receiver.answer = answer
        push_consumer(it, mode=mode, push={"max_in_flight": 8}, backoff_initial_s=0.01, backoff_max_s=0.02)
        await it.publish(*(Event("t", b"%d-%d" % (number % 10, number), 1, key=b"%d" % (number % 10))
                           for number in range(200)))
        await all_acked(it)
        assert {key: sorted(numbers) for key, numbers in taken.items()} == taken
        assert sum(map(len, taken.values())) == 200
        assert it.receiver.most_at_once > 1


async def test_no_more_requests_at_a_time_than_allowed(tmp_path):
    async with webhook_stand(tmp_path) as it:
        it.receiver.hold = asyncio.Event()
        push_consumer(it, push={"max_in_flight": 3})
        await it.publish(*(f"t/{number}" for number in range(20)))
        await eventually(lambda: it.receiver.at_once == 3, "three are under way")
        await asyncio.sleep(0.1)
        assert it.receiver.most_at_once == 3
        it.receiver.hold.set()
        await all_acked(it)


async def test_after_the_last_attempt_an_event_is_a_dead_letter_and_its_key_goes_on(tmp_path):
    async with webhook_stand(tmp_path) as it:
        it.receiver.answer = lambda request, body: 422 if body == b"bad" else None
        push_consumer(it, filters=("t",), max_deliveries=3)
        await it.publish(Event("t", b"bad", 1, key=b"k"), Event("t", b"good", 1, key=b"k"))
        await all_acked(it)
        assert it.receiver.bodies == [b"bad"] * 3 + [b"good"]
        row = it.webhooks.snapshot()[0]
        assert (row["dead_lettered"], row["delivered"], row["failed"], row["state"]) == (1, 1, 3, "closed")
        found = it.router.streams.by_name["events"].partitions[0]
        await eventually(lambda: found.end_offset == 3, "the dead letter is stored")
        letter = found.event(2)
        assert letter.topic == "dead-letter/hook" and letter.payload == b"bad"


async def test_a_key_that_is_never_taken_does_not_stop_the_others(tmp_path):
    async with webhook_stand(tmp_path) as it:
        it.receiver.answer = lambda request, body: 422 if body.startswith(b"bad") else None
        push_consumer(it, filters=("t",), backoff_initial_s=30, backoff_max_s=30)
        await it.publish(*(Event("t", b"bad %d" % number, 1, key=b"bad") for number in range(300)),
                         *(Event("t", b"good %d" % number, 1, key=b"%d" % (number % 7)) for number in range(300)))
        await eventually(lambda: it.webhooks.snapshot()[0]["delivered"] == 300, "the other keys are delivered")
        assert it.receiver.bodies.count(b"bad 0") == 1 and b"bad 1" not in it.receiver.bodies


async def test_a_receiver_that_is_down_is_left_alone_and_nothing_is_given_up(tmp_path):
    async with webhook_stand(tmp_path) as it:
        up = []
        it.receiver.answer = lambda request, body: None if up else 500
        push_consumer(it, max_deliveries=50)
        await it.publish(*(f"t/{number}" for number in range(30)))
        await eventually(lambda: it.webhooks.snapshot()[0]["state"] == "open", "the breaker is open")
        assert it.webhooks.snapshot()[0]["open_for_s"] > 0
        before = len(it.receiver.bodies)
        await asyncio.sleep(0.5)
        assert len(it.receiver.bodies) - before <= 10, "only probes"
        up.append(True)
        await all_acked(it)
        assert it.webhooks.snapshot()[0]["state"] == "closed"
        assert it.router.consumers["hook"].dead_lettered == 0


async def test_retry_after_is_honoured_by_the_whole_webhook(tmp_path):
    async with webhook_stand(tmp_path) as it:
        seen = []

        def answer(request, body):
            seen.append(time.monotonic())
            return web.Response(status=429, headers={"Retry-After": "1"}) if len(seen) == 1 else None

        it.receiver.answer = answer
        push_consumer(it, push={"max_in_flight": 1})
        await it.publish("a", "b")
        await all_acked(it)
        assert seen[1] - seen[0] >= 0.99
        assert it.receiver.requests[1][1]["Webhook-Attempt"] == "1"


async def test_redirects_are_not_followed(tmp_path):
    async with webhook_stand(tmp_path) as it:
        it.receiver.answer = lambda request, body: web.Response(status=307, headers={"Location": "/other"})
        push_consumer(it, max_deliveries=1, filters=("t",))
        await it.publish("t")
        await all_acked(it)
        assert [request[0] for request in it.receiver.requests] == ["POST"]
        assert it.webhooks.snapshot()[0]["last_status"] == 307


@pytest.mark.parametrize("answer", ["endless", "compressed", "slow"])
async def test_an_answer_cannot_hurt(tmp_path, answer):
    async def endless(request, body):
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        try:
            for _ in range(200):
                await response.write(bytes(65_536))
        except ConnectionError:
            pass
        return response

    async def slow(request, body):
        await asyncio.sleep(5)

    compressed = web.Response(status=200, body=b"\x1f\x8b" + bytes(1_000), headers={"Content-Encoding": "gzip"})
    async with webhook_stand(tmp_path) as it:
        it.receiver.answer = {"endless": endless, "slow": slow, "compressed": lambda *_: compressed}[answer]
        push_consumer(it, push={"timeout_s": 0.5 if answer == "slow" else 20.0}, max_deliveries=1, filters=("t",))
        await it.publish("t")
        await all_acked(it)
        row = it.webhooks.snapshot()[0]
        assert (row["delivered"], row["dead_lettered"]) == ((0, 1) if answer == "slow" else (1, 0)), row


async def test_without_the_receivers_consent_nothing_is_sent(tmp_path):
    """CloudEvents webhook §4: WebHook-Request-Origin, WebHook-Allowed-Origin, and the rate."""
    async with webhook_stand(tmp_path) as it:
        consent = {}
        it.receiver.answer = lambda request, body: (
            web.Response(status=200, headers=consent) if request.method == "OPTIONS" else None)
        push_consumer(it, push={"format": "cloudevents", "rate_per_minute": 600})
        await it.publish("a")
        await eventually(lambda: it.receiver.requests, "it is asked")
        method, headers, _ = it.receiver.requests[0]
        assert method == "OPTIONS" and headers["WebHook-Request-Origin"] == "graz-1"
        assert headers["WebHook-Request-Rate"] == "600"
        await eventually(lambda: it.webhooks.snapshot()[0]["state"] == "not permitted", "it says so")
        assert it.receiver.bodies == []
        consent.update({"WebHook-Allowed-Origin": "graz-1", "WebHook-Allowed-Rate": "120"})
        it.webhooks.members["hook"].permission._ask_at_s = 0.0
        it.webhooks.members["hook"]._pump()
        await all_acked(it)
        assert it.receiver.requests[-1][1]["ce-specversion"] == "1.0"


# -- SSRF --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://169.254.169.254/", "http://[::1]/", "http://0x7f.1/",
                                 "file:///etc/passwd", "http://localhost/"])
async def test_a_consumer_that_pushes_to_the_inside_is_refused(tmp_path, url):
    async with webhook_stand(tmp_path, WebhookSettings()) as it:
        refusal = it.router.open_consumer(ConsumerSpec("hook", ("#",), push=Push(url)), ANA)
        assert refusal.reason is Reason.TARGET_REFUSED and "hook" not in it.router.consumers


async def test_a_name_that_resolves_to_the_inside_is_not_connected_to(tmp_path, monkeypatch):
    """DNS rebinding: the name was fine when the consumer was made."""
    async with webhook_stand(tmp_path, WebhookSettings()) as it:
        monkeypatch.setattr(it.webhooks._names, "_look_up", lambda host, family, flags: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("93.184.216.34", "127.0.0.1")])
        push_consumer(it, url=f"http://rebind.example:{it.receiver.port}/")
        await it.publish("a")
        await eventually(lambda: it.webhooks.snapshot()[0]["failed"], "it was tried")
        assert "not a public address" in it.webhooks.snapshot()[0]["last_problem"]
        assert it.receiver.requests == []


async def test_the_socket_is_the_last_gate(tmp_path):
    """Whatever the URL and DNS said: the address that is connected to is looked at."""
    async with webhook_stand(tmp_path) as it:
        push_consumer(it)
        client = it.webhooks.members["hook"]._client
        client._guard._allowed = ()
        await it.publish("a")
        await eventually(lambda: it.webhooks.snapshot()[0]["failed"], "it was tried")
        assert "not a public address" in it.webhooks.snapshot()[0]["last_problem"] and not it.receiver.requests


async def test_dns_is_asked_once_for_each_connection(tmp_path, monkeypatch):
    asked = []
    resolve = NamesResolver.resolve

    async def counted(self, host, port=0, family=0):
        asked.append(host)
        return await resolve(self, host, port, family)

    monkeypatch.setattr(NamesResolver, "resolve", counted)
    async with webhook_stand(tmp_path, WebhookSettings(allow=("127.0.0.0/8", "::1/128"))) as it:
        push_consumer(it, url=f"http://localhost:{it.receiver.port}/", push={"max_in_flight": 1})
        await it.publish("a", "b", "c")
        await all_acked(it)
        assert asked == ["localhost"], "one connection, used for all"


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    async with webhook_stand(tmp_path) as it:
        secure = await Receiver().open(context)
        push_consumer(it, url=secure.url)
        await it.publish("a")
        await eventually(lambda: it.webhooks.snapshot()[0]["failed"], "it was tried")
        assert secure.requests == []
        await secure.close()


# -- configuration -----------------------------------------------------------------------------------------------------

def table(url, name="declared", **fields):
    return ConsumerTable(name, ("t/#",), start="earliest", push=StrictPush(url, **fields))


async def test_a_declared_consumer_is_served_and_only_the_file_changes_it(tmp_path):
    async with webhook_stand(tmp_path, consumers=lambda url: [table(url)]) as it:
        await it.publish("t/1", "other")
        await all_acked(it, "declared")
        assert it.receiver.bodies == [b"t/1"]
        refusal = it.router.open_consumer(ConsumerSpec("declared", ("#",)), ANA)
        assert refusal.reason is Reason.CONFLICT


async def test_a_reload_takes_what_is_new_and_stops_what_is_gone(tmp_path):
    async with webhook_stand(tmp_path, consumers=lambda url: [table(url, "one")]) as it:
        settings = it.webhooks._prepared.settings
        it.webhooks.apply(Prepared(settings, (table(it.receiver.url, "two"),)))
        await it.publish("t/1")
        await all_acked(it, "two")
        assert it.receiver.bodies == [b"t/1"]
        rows = {row["consumer"]: row for row in it.webhooks.snapshot()}
        assert rows["one"]["state"] == "not served" and rows["one"]["lag_events"] == 1
        it.webhooks.apply(Prepared(settings, (table(it.receiver.url, "one"), table(it.receiver.url, "two"))))
        await all_acked(it, "one")


async def test_a_reload_that_changes_nothing_does_not_disturb_a_webhook(tmp_path):
    async with webhook_stand(tmp_path, consumers=lambda url: [table(url)]) as it:
        it.receiver.hold = asyncio.Event()
        await it.publish("t/1")
        await eventually(lambda: it.receiver.at_once == 1, "a request is under way")
        member = it.webhooks.members["declared"]
        it.webhooks.apply(Prepared(it.webhooks._prepared.settings, (table(it.receiver.url),)))
        assert it.webhooks.members["declared"] is member
        it.receiver.hold.set()
        await all_acked(it, "declared")
        assert it.receiver.bodies == [b"t/1"]


async def test_a_secret_that_has_changed_counts_after_a_reload(tmp_path):
    key = tmp_path / "key"
    key.write_text("a" * 32)
    async with webhook_stand(tmp_path / "n", consumers=lambda url: [table(url, secret=f"file:{key}")]) as it:
        await it.publish("t/1")
        await all_acked(it, "declared")
        key.write_text("b" * 32)
        it.webhooks.apply(Prepared(it.webhooks._prepared.settings, it.webhooks._prepared.consumers))
        await it.publish("t/2")
        await all_acked(it, "declared")
        for (_, headers, body), secret in zip(it.receiver.requests, (b"a" * 32, b"b" * 32)):
            content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            wanted = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{wanted}"


@pytest.mark.parametrize("push", [
    StrictPush("http://10.0.0.1/"), StrictPush("https://example.com/", secret="env:NOT_THERE"),
    StrictPush("https://example.com/", secret="file:/not/there"), StrictPush("https://example.com/", secret="clear")])
def test_a_configuration_that_cannot_work_is_refused_whole(push):
    with pytest.raises(ConfigError, match=r"consumers\[0\]"):
        Prepared(WebhookSettings(), (ConsumerTable("c", ("#",), push=push),))


async def test_a_change_of_the_push_counts_at_once_and_a_deleted_consumer_is_left_alone(tmp_path):
    async with webhook_stand(tmp_path) as it:
        push_consumer(it, url=it.receiver.url + "/old", backoff_initial_s=30, backoff_max_s=30)
        it.receiver.answer = lambda request, body: 500 if request.path.endswith("old") else None
        await it.publish("a")
        await eventually(lambda: it.receiver.requests, "the old one was called")
        push_consumer(it, url=it.receiver.url + "/new")
        await all_acked(it)
        assert it.receiver.requests[-1][1]["Webhook-Attempt"] == "2"
        it.router.delete_consumer("hook")
        assert it.webhooks.snapshot() == [] and not it.webhooks.members


async def test_a_consumer_that_somebody_else_reads_is_served_when_he_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("mesh.connectors.webhooks.ATTACH_AGAIN_S", 0.1)
    async with webhook_stand(tmp_path) as it:
        consumer = it.router.open_consumer(ConsumerSpec("hook", ("#",)), ANA)
        consumer.attach(reader := Reader(identity=ANA, credit=0))
        push_consumer(it, mode=Mode.EXCLUSIVE)
        assert it.webhooks.snapshot()[0]["state"] == "not served"
        assert "has a reader" in it.webhooks.snapshot()[0]["last_problem"]
        await it.publish("a")
        consumer.detach(reader)
        await all_acked(it)
        assert it.receiver.bodies == [b"a"]


async def test_expired_events_are_not_sent(tmp_path):
    async with webhook_stand(tmp_path) as it:
        await it.publish(Event("t", b"old", 1, properties=Properties(expires_at_ms=it.clock_ms() - 1)), "new")
        push_consumer(it)
        await all_acked(it)
        assert it.receiver.bodies == [b"new"] and it.webhooks.snapshot()[0]["expired"] == 1


async def test_an_ack_timeout_does_not_double_what_waits_for_its_retry(tmp_path):
    async with webhook_stand(tmp_path) as it:
        it.receiver.answer = lambda request, body: 500 if len(it.receiver.requests) == 1 else None
        push_consumer(it, ack_timeout_s=1.0, backoff_initial_s=2.5, backoff_max_s=2.5)
        await it.publish("a")
        await all_acked(it)
        await asyncio.sleep(0.2)
        assert it.receiver.bodies == [b"a", b"a"]


async def test_what_was_under_way_when_the_node_stopped_goes_again(tmp_path):
    async with webhook_stand(tmp_path / "n") as it:
        it.receiver.answer = lambda request, body: 500
        push_consumer(it, backoff_initial_s=10, backoff_max_s=10)
        await it.publish("a")
        await eventually(lambda: it.webhooks.snapshot()[0]["failed"], "it failed once")
    async with webhook_stand(tmp_path / "n") as it:
        consumer = it.router.consumers["hook"]
        assert consumer.lag().events == 1
        push_consumer(it)
        await all_acked(it)
        assert int(it.receiver.requests[0][1]["Webhook-Attempt"]) >= 2


async def test_webhooks_share_the_sockets_that_the_node_has_for_them(tmp_path):
    """Three of them with max_in_flight 1,000 to a silent receiver took every file that the node could open."""
    async with webhook_stand(tmp_path) as it:
        it.webhooks._sockets_max = 12
        it.receiver.hold = asyncio.Event()
        for name in ("one", "two", "three"):
            push_consumer(it, name, push={"max_in_flight": 1_000})
        await it.publish(*(f"t/{number}" for number in range(100)))
        rows = it.webhooks.snapshot
        await eventually(lambda: [row["in_flight"] for row in rows()] == [2, 2, 2], "a user has half, in equal parts")
        bob = Identity(user="bob", protocol="test", client_id="bob")
        made = it.router.open_consumer(ConsumerSpec(
            "four", ("#",), start="earliest", push=Push(it.receiver.url, max_in_flight=1_000)), bob)
        assert not isinstance(made, Refusal), made
        await eventually(lambda: next(row["in_flight"] for row in rows() if row["consumer"] == "four") == 6, "his half")
        assert sum(row["in_flight"] for row in rows()) == 12
