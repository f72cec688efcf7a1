"""Requests: answered by whoever wants the topic, and 504 that says why not."""
from __future__ import annotations

import asyncio
import time

import pytest

from protocols.rest.translation.reply import reply_fields
from routing.direct.subscription import Subscription
from routing.event import Event, Properties
from routing.rights.policy import Action, Rule
from tests.protocols.rest.consumer_client import ConsumerClient
from tests.protocols.rest.stand import basic, eventually, stand
from tests.support.routing import Reader


class Responder(Reader):
    """A live subscriber that answers each request with what work() makes of it; None: not at all."""

    def __init__(self, it, pattern, work=lambda event: Event("", b"answer to " + event.payload)):
        super().__init__()
        self.it, self.work, self.seen = it, work, []
        assert it.router.subscribe(Subscription(pattern, self)) is None

    def flush_inbox(self):
        super().flush_inbox()
        events, self.direct = self.direct, []
        for event in events:
            self.seen.append(event)
            answer = self.work(event)
            if answer is not None:
                answer.topic = answer.topic or event.properties.reply_to
                self.it.router.publish([answer], self.it.publisher)


async def ask(it, topic="calc", data=b"1+1", status=200, **headers):
    async with it.http.post(f"/v1/requests/{topic}", data=data, headers=headers) as response:
        body = await response.read()
        assert response.status == status, body
        return (await response.json(content_type=None)) if status != 200 else body, response.headers


async def test_the_answer_is_the_body(tmp_path):
    async with stand(tmp_path) as it:
        responder = Responder(it, "calc")
        assert (await ask(it))[0] == b"answer to 1+1"
        request = responder.seen[0]
        assert request.properties.reply_to.startswith("$reply/local/")
        assert request.properties.correlation
        assert request.properties.expires_at_ms <= it.clock_ms() + 30_000


async def test_many_requests_get_their_own_answers(tmp_path):
    async with stand(tmp_path) as it:
        Responder(it, "calc/+")
        answers = await asyncio.gather(*(ask(it, f"calc/{number}", b"%d" % number) for number in range(50)))
        assert [body for body, _ in answers] == [b"answer to %d" % number for number in range(50)]


async def test_fields_travel_both_ways(tmp_path):
    def work(event):
        assert dict(event.headers) == {"colour": "red"} and event.properties.correlation == "c-7"
        return Event("", b"{}", key=b"k", headers=(("Shade", "dark"), ("n", 3)), properties=Properties(
            content_type="application/json", correlation=event.properties.correlation))

    async with stand(tmp_path) as it:
        Responder(it, "calc", work)
        _, headers = await ask(it, **{"Meshgate-Header-colour": "red", "Meshgate-Correlation-Id": "c-7"})
        assert headers["Content-Type"] == "application/json"
        assert headers["Meshgate-Correlation-Id"] == "c-7" and headers["Meshgate-Key"] == "k"
        assert headers["Meshgate-Header-%53hade"] == "dark" and headers["Meshgate-Header-n"] == "3"


async def test_nobody_there_is_504_at_once_and_nothing_is_stored(tmp_path):
    async with stand(tmp_path) as it:
        began = time.monotonic()
        told, _ = await ask(it, status=504)
        assert told["type"] == "/problems/no-responder"
        assert time.monotonic() - began < 20              # a request waits for 30 s
        assert it.router.streams.partition("events", 0).end_offset == 0


async def test_no_answer_in_time_is_504_with_another_type(tmp_path):
    async with stand(tmp_path) as it:
        responder = Responder(it, "calc", lambda event: None)
        told, _ = await ask(it, status=504, Prefer="wait=1")
        assert told["type"] == "/problems/reply-timeout"
        late = Event(responder.seen[0].properties.reply_to, b"late")
        it.router.publish([late], it.publisher)             # nobody waits: it goes nowhere
        await eventually(lambda: it.rest.replies.late == 1, "the late answer is counted")
        assert len(it.rest.replies) == 0


async def test_a_rest_consumer_answers_by_publishing(tmp_path):
    async with stand(tmp_path) as it:
        worker = ConsumerClient(it, "workers")
        await worker.put(filters=["calc"])
        asking = asyncio.create_task(ask(it))
        event, = await worker.pull(wait_s=10)
        async with it.http.post(f"/v1/events/{event['reply_to']}", data=b"2", headers={
                "Meshgate-Correlation-Id": event["correlation_id"]}) as response:
            assert response.status == 200
        await worker.ack([event])
        assert (await asking)[0] == b"2"


async def test_addressed_by_topic_for_responders_without_properties(tmp_path):
    async with stand(tmp_path) as it:
        def work(event):
            return Event("$reply/" + "/".join(event.topic.split("/")[-2:]), b"found by topic")

        responder = Responder(it, "calc/+/+", work)
        assert (await ask(it, "calc?address=topic"))[0] == b"found by topic"
        assert responder.seen[0].topic.startswith("calc/local/")


@pytest.mark.parametrize("headers", [{"Meshgate-Reply-To": "x"}, {"Meshgate-Retain": "true"}, {"Idempotency-Key": "x"},
                                     {"Meshgate-Message-Id": "x"}, {"Meshgate-What": "x"}])
async def test_fields_that_a_request_has_not(tmp_path, headers):
    async with stand(tmp_path) as it:
        Responder(it, "calc")
        assert (await ask(it, status=400, **headers))[0]["type"] == "/problems/header-invalid"


async def test_bad_topics_and_queries(tmp_path):
    async with stand(tmp_path) as it:
        for path in ("a/%2B", "", "a?x=1", "%ff"):
            async with it.http.post(f"{it.url}/v1/requests/{path}") as response:
                assert response.status in (400, 404), path


async def test_who_may_not_ask_does_not_learn_who_would_answer(tmp_path):
    rules = [Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.SUBSCRIBE,), to=("*",))]
    async with stand(tmp_path, rules=rules, users=[("eve", "p", ())]) as it:
        Responder(it, "calc")
        for topic in ("calc", "other"):
            told, _ = await ask(it, topic, status=403, Authorization=basic("eve", "p"))
            assert told["type"] == "/problems/not-authorized"


async def test_a_client_that_goes_away_is_forgotten(tmp_path):
    async with stand(tmp_path) as it:
        Responder(it, "calc", lambda event: None)
        _, writer = await it.connect()
        writer.write(b"POST /v1/requests/calc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await eventually(lambda: len(it.rest.replies) == 1, "it waits")
        writer.transport.abort()
        await eventually(lambda: len(it.rest.replies) == 0, "it is forgotten")


def test_what_http_cannot_say_is_reported_and_never_splits_a_response():
    """hostile.md row 79"""
    headers = (("a", "x\r\nSet-Cookie: y"), ("b", b"\xff"), ("n\r\nx", "v"), ("c", None), ("d", True))
    event = Event("t", b"", headers=headers,
                  properties=Properties(content_type="a\nb", correlation=b"\xff"))
    fields, lost = reply_fields(event)
    assert fields == [("Meshgate-Header-n%0D%0Ax", "v"), ("Meshgate-Header-d", "true"),
                      ("Content-Type", "application/octet-stream")]
    assert lost == ["content type", "correlation", "header text", "header bytes", "header null"]
