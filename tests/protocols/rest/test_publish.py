"""POST /v1/events/{topic}."""
from __future__ import annotations

import asyncio
import json

import pytest
from multidict import CIMultiDict

from protocols.rest.problems import REFUSALS
from protocols.rest.settings import RestSettings
from routing.errors import Reason
from routing.event import Event
from routing.rights.policy import Action, Rule
from routing.settings import Limits, StreamSettings
from tests.support.routing import retained_of

from .stand import DEADLINE_S, basic, eventually, stand

NO_BODY = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def post(it, path, data=b"", headers=None, status=200):
    async with it.http.post(path, data=data, headers=headers or {}) as response:
        text = await response.text()
        assert response.status == status, text
        if status >= 400:
            assert response.headers["Content-Type"] == "application/problem+json"
        return json.loads(text)


def stored(it, answer):
    partition = it.router.streams.by_name[answer["stream"]].partitions[answer["partition"]]
    return partition.event(answer["offset"])


async def test_the_answer_names_the_place_and_comes_after_the_commit(tmp_path):
    async with stand(tmp_path) as it:
        answer = await post(it, "/v1/events/plant/graz/1", b"hello")
        assert answer == {"stream": "events", "partition": 0, "offset": 0, "id": "events:0:0"}
        partition = it.router.streams.by_name["events"].partitions[0]
        assert partition.end_offset == 1
        event = partition.event(0)
        assert (event.topic, event.payload, event.publisher) == ("plant/graz/1", b"hello", "anonymous")
        assert it.counters.snapshot()["events_in"] == 1


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("body, kept", [
    (b"a=1&b=x+y%20z", True), (b"a=1", True), (b"on", False), (b"", False), (b'{"on": true}', False),
    (b"aGVsbG8=", False), (b"a=1 b=2", False), ("ü=1".encode(), False), (b"a=" + b"x" * 500_000, True)])
async def test_a_body_is_called_a_form_when_it_is_one(tmp_path, body, kept):
    """curl -d says it of every body, and nobody means it. Twice on one connection: the second goes the express way."""
    async with stand(tmp_path) as it:
        for name in (FORM, FORM, f"{FORM.title()}; charset=utf-8"):
            event = stored(it, await post(it, "/v1/events/a", body, {"Content-Type": name}))
            found = event.properties.content_type if event.properties is not None else None
            assert found == (name if kept else None)
        answer = await post(it, "/v1/events/a", body, {
            "Content-Type": FORM, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t"})
        found = stored(it, answer).properties
        assert (found.content_type if found is not None else None) == (FORM if kept else None)


async def test_every_field_reaches_the_event(tmp_path):
    async with stand(tmp_path) as it:
        before = it.clock_ms()
        answer = await post(it, "/v1/events/orders/1", b"\x00\xff", {
            "Content-Type": "application/json; charset=utf-8", "Meshgate-Key": "k-1", "Meshgate-TTL": "60000",
            "Meshgate-Header-Region": "Graz ü", "Meshgate-Header-%52egion": "b", "Meshgate-Correlation-Id": "c-1",
            "Meshgate-Reply-To": "answers/1", "Meshgate-Message-Id": "m-1", "Meshgate-Priority": "9",
            "Meshgate-Retain": "true", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "a=1",
        })
        event = stored(it, answer)
        assert event.payload == b"\x00\xff"
        assert event.key == b"k-1"
        assert event.retain
        assert sorted(event.headers) == [
            ("Region", "b"), ("region", "Graz ü"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=1"),
        ]
        properties = event.properties
        assert properties.content_type == "application/json; charset=utf-8"
        assert (properties.correlation, properties.reply_to) == ("c-1", "answers/1")
        assert (properties.message_id, properties.priority) == ("m-1", 9)
        assert before + 60_000 <= properties.expires_at_ms <= it.clock_ms() + 60_000
        assert [kept.payload for kept in retained_of(it.router, "orders/1")] == [b"\x00\xff"]


@pytest.mark.parametrize("path, topic", [
    ("/v1/events/a%2Fb", "a/b"), ("/v1/events/%C3%BC/%E2%82%AC", "ü/€"), ("/v1/events/a%20b", "a b"),
    ("/v1/events//a", "/a"), ("/v1/events/a//", "a//"), ("/v1/events/a%0D%0Ab", "a\r\nb"), ("/v1/events/a%25b", "a%b"),
    ("/v1/events/a.b/...", "a.b/..."), ("/v1/events/a&b=c;d", "a&b=c;d"),
])
async def test_the_path_is_the_topic(tmp_path, path, topic):
    async with stand(tmp_path) as it:
        answer = await it.raw(f"POST {path} HTTP/1.1\r\n{NO_BODY}".encode())
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert it.router.streams.by_name["events"].partitions[0].event(0).topic == topic


@pytest.mark.parametrize("path", [
    "/v1/events/", "/v1/events/a/+/b", "/v1/events/a/%23", "/v1/events/a#b", "/v1/events/%00", "/v1/events/%ff",
    "/v1/events/%zz", "/v1/events/a%2", "/v1/events/%+1", "/v1/events/../a", "/v1/events/a/..%2f..%2fetc%2fpasswd",
    "/v1/events/%2e%2e/a", "/v1/events/.", "/v1/events/%ed%a0%80", "/v1/events/" + "a/" * 128, "/v1/events/a?key=b",
])
async def test_a_bad_topic_is_400(tmp_path, path):
    """hostile.md row 81."""
    async with stand(tmp_path) as it:
        answer = await it.raw(f"POST {path} HTTP/1.1\r\n{NO_BODY}".encode())
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert b"application/problem+json" in answer
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0


@pytest.mark.parametrize("headers", [
    {"Meshgate-TTL": "-1"}, {"Meshgate-TTL": "1.5"}, {"Meshgate-TTL": "9" * 30}, {"Meshgate-TTL": ""},
    {"Meshgate-TTL": "٣"}, {"Meshgate-Priority": "10"}, {"Meshgate-Retain": "yes"}, {"Meshgate-Guaranteed": "maybe"},
    {"Meshgate-Tll": "1"}, {"Meshgate-Header-": "x"}, {"Meshgate-Header-%ff": "x"}, {"Meshgate-Reply-To": "a/#"},
    {"Meshgate-Message-Id": ""}, {"Meshgate-Message-Id": "x" * 1025}, {"Meshgate-Correlation-Id": "x" * 1025},
    {"Idempotency-Key": '""'}, {"Idempotency-Key": "x" * 1025},
])
async def test_a_bad_field_is_400(tmp_path, headers):
    async with stand(tmp_path) as it:
        problem = await post(it, "/v1/events/a", b"", headers, 400)
        assert problem["type"] in ("/problems/header-invalid", "/problems/encoding-invalid")


async def test_a_field_that_stands_twice_is_400(tmp_path):
    async with stand(tmp_path) as it:
        problem = await post(it, "/v1/events/a", b"", CIMultiDict([("Meshgate-Key", "a"), ("Meshgate-Key", "b")]), 400)
        assert "more than once" in problem["detail"]


async def test_text_that_is_not_utf8_is_400_but_a_key_is_bytes(tmp_path):
    async with stand(tmp_path) as it:
        head = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n"
        assert (await it.raw(head + b"Meshgate-Header-A: \xff\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await it.raw(head + b"Meshgate-Key: \xff\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert it.router.streams.by_name["events"].partitions[0].event(0).key == b"\xff"


async def test_the_same_idempotency_key_gets_the_same_answer(tmp_path):
    async with stand(tmp_path) as it:
        first = await post(it, "/v1/events/a", b"1", {"Idempotency-Key": '"abc"'})
        await post(it, "/v1/events/a", b"2", {"Idempotency-Key": "other"})
        assert await post(it, "/v1/events/a", b"1", {"Idempotency-Key": "abc"}) == first
        assert it.router.streams.by_name["events"].partitions[0].end_offset == 2


async def test_the_same_idempotency_key_at_the_same_time_is_stored_once(tmp_path):
    async with stand(tmp_path) as it:
        posts = [post(it, "/v1/events/a", b"1", {"Idempotency-Key": "abc"}) for _ in range(10)]
        answers = await asyncio.gather(*posts)
        assert all(answer == answers[0] for answer in answers)
        assert it.router.streams.by_name["events"].partitions[0].end_offset == 1


async def test_an_idempotency_key_holds_over_a_restart(tmp_path):
    async with stand(tmp_path) as it:
        first = await post(it, "/v1/events/a", b"1", {"Idempotency-Key": "abc"})
    async with stand(tmp_path) as it:
        assert await post(it, "/v1/events/a", b"1", {"Idempotency-Key": "abc"}) == first


async def test_not_guaranteed_is_202_without_a_place(tmp_path):
    async with stand(tmp_path) as it:
        nothing = {"stream": None, "partition": None, "offset": None, "id": None}
        assert await post(it, "/v1/events/a", b"x", {"Meshgate-Guaranteed": "false"}, 202) == nothing
        partition = it.router.streams.by_name["events"].partitions[0]
        await eventually(lambda: partition.end_offset == 1, "the event is kept all the same")
        assert partition.event(0).qos == 0


async def test_an_event_that_no_stream_captures_answers_null(tmp_path):
    async with stand(tmp_path, streams=[StreamSettings("orders", ("orders/#",))]) as it:
        nothing = {"stream": None, "partition": None, "offset": None, "id": None}
        assert await post(it, "/v1/events/other", b"x") == nothing


async def test_the_key_decides_the_partition(tmp_path):
    async with stand(tmp_path, streams=[StreamSettings("events", ("#",), partitions=4)]) as it:
        answers = [await post(it, f"/v1/events/{n}", b"x", {"Meshgate-Key": "one"}) for n in range(8)]
        assert len({answer["partition"] for answer in answers}) == 1
        assert len({(await post(it, f"/v1/events/{n}", b"x"))["partition"] for n in range(8)}) > 1


async def test_refusals_have_their_status(tmp_path):
    rules = (Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("*",), topics=("open/#",)))
    async with stand(tmp_path, rules=rules, limits=Limits(payload_bytes_max=100)) as it:
        problem = await post(it, "/v1/events/closed", b"x", status=403)
        assert problem["type"] == "/problems/not-authorized" and problem["status"] == 403
        problem = await post(it, "/v1/events/open/1", b"x" * 101, status=413)
        assert problem["type"] == "/problems/payload-too-large"
        assert it.counters.snapshot()["problems.not-authorized"] == 1
        assert it.counters.snapshot()["answers.4xx"] == 2


def test_every_reason_has_a_status():
    assert set(REFUSALS) == set(Reason)
    assert all(400 <= status < 600 for status, _ in REFUSALS.values())
    assert len({kind for _, kind in REFUSALS.values()}) == len(REFUSALS)


async def test_a_full_disk_is_507_and_a_failed_one_500(tmp_path):
    async with stand(tmp_path) as it:
        partition = it.router.streams.by_name["events"].partitions[0]
        from routing.errors import Refusal
        real = it.router.publish
        for reason, status in ((Reason.STORAGE_FULL, 507), (Reason.STORAGE_FAILED, 500), (Reason.SHUTTING_DOWN, 503)):
            def refuse(events, publisher, reason=reason):
                ticket = real([Event("$none", b"")], publisher)
                ticket.refusals[0] = Refusal(reason, "as the log says it")
                ticket.events = events
                return ticket
            it.router.publish = refuse
            problem = await post(it, "/v1/events/a", b"x", status=status)
            assert problem["detail"] == "as the log says it"
        it.router.publish = real
        assert partition.end_offset <= 3


async def test_basic_authentication(tmp_path):
    rules = (Rule(allow=tuple(Action), to=("role:writer",)),)
    async with stand(tmp_path, rules=rules, users=[("ana", "geheim:1", ("writer",)), ("ben", "x", ())]) as it:
        assert (await post(it, "/v1/events/a", b"", status=401))["type"] == "/problems/bad-credentials"
        good = {"Authorization": basic("ana", "geheim:1")}
        assert (await post(it, "/v1/events/a", b"", good))["offset"] == 0
        assert it.router.streams.by_name["events"].partitions[0].event(0).publisher == "ana"
        await post(it, "/v1/events/a", b"", {"Authorization": basic("ana", "wrong")}, 401)
        await post(it, "/v1/events/a", b"", {"Authorization": basic("nobody", "wrong")}, 401)
        await post(it, "/v1/events/a", b"", {"Authorization": basic("ben", "x")}, 403)
        for broken in ("Basic", "Basic !!!", "Basic YQ==", "Bearer abc", "Basic Og==", "Basic /w=="):
            await post(it, "/v1/events/a", b"", {"Authorization": broken}, 401)


async def test_a_401_carries_a_challenge(tmp_path):
    async with stand(tmp_path, rules=(), users=[("ana", "x", ())]) as it, it.http.post("/v1/events/a") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == (
            'Basic realm="meshgate", charset="UTF-8", Bearer realm="meshgate"')


async def test_one_login_serves_a_kept_connection_but_not_another_user(tmp_path):
    users = [("ana", "a", ("r",)), ("ben", "b", ("r",))]
    async with stand(tmp_path, rules=(Rule(allow=tuple(Action), to=("role:r",)),), users=users) as it:
        for user, password in (("ana", "a"), ("ana", "a"), ("ben", "b"), ("ana", "a")):
            await post(it, "/v1/events/a", b"", {"Authorization": basic(user, password)})
        publishers = [it.router.streams.by_name["events"].partitions[0].event(n).publisher for n in range(4)]
        assert publishers == ["ana", "ana", "ben", "ana"]
        assert it.authenticator.outcomes["http", "ok"] == 3


async def test_posts_of_many_connections_share_commits(tmp_path):
    async with stand(tmp_path) as it:
        answers = await asyncio.gather(*(post(it, f"/v1/events/t/{n % 5}", b"x") for n in range(200)))
        assert sorted(answer["offset"] for answer in answers) == list(range(200))


async def test_unknown_paths_and_methods_are_problems(tmp_path):
    async with stand(tmp_path) as it:
        for method, path, status in (
            ("GET", "/nothing", 404), ("GET", "/v1/events/a", 405), ("DELETE", "/v1/events", 405),
            ("POST", "/v1%2fevents/a", 404), ("OPTIONS", "/v1/events/a", 405), ("HEAD", "/v1/events", 405),
        ):
            async with it.http.request(method, path) as response:
                assert response.status == status, (method, path)
                if status == 405:
                    assert response.headers["Allow"]
                if method != "HEAD":
                    assert response.headers["Content-Type"] == "application/problem+json"
                    assert (await response.json(content_type=None))["status"] == status


async def test_a_declared_body_over_the_limit_is_refused_before_100_continue(tmp_path):
    async with stand(tmp_path, settings=RestSettings(body_bytes_max=1000)) as it:
        head = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
        answer = await it.raw(head + b"1001\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413")
        reader, writer = await it.connect()
        writer.write(head + b"2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        answer = await it.raw(head.replace(b"100-continue", b"201-created") + b"2\r\n\r\nhi")
        assert answer.startswith(b"HTTP/1.1 417")


@pytest.mark.parametrize("line, login, status", [
    ("POST /v1/events/a", "ana", 100), ("POST /v1/events/secret", "ana", 403), ("POST /v1/events/a", "", 401),
    ("POST /v1/events/a?x=1", "ana", 400), ("POST /v1/requests/secret", "ana", 403), ("POST /v1/requests/a", "", 401),
    ("POST /v1/events", "", 401), ("PUT /v1/consumers/c", "", 401), ("POST /v1/consumers/c/pull", "ana", 404),
])
async def test_100_continue_comes_after_all_that_the_head_is_refused_for(tmp_path, line, login, status):
    """RFC 9110 §10.1.1: a body that will be refused is better not sent."""
    users, rules = [("ana", "pw", ())], [Rule(allow=tuple(Action), to=("user:ana",), topics=("a",))]
    async with stand(tmp_path, users=users, rules=rules) as it:
        authorization = f"Authorization: {basic('ana', 'pw')}\r\n" if login else ""
        reader, writer = await it.connect()
        writer.write(f"{line} HTTP/1.1\r\nHost: localhost\r\n{authorization}Expect: 100-continue\r\n"
                     "Content-Type: application/x-ndjson\r\nContent-Length: 2\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        assert head.startswith(b"HTTP/1.1 %d " % status), head
        assert status == 100 or b"Connection: close\r\n" in head
        writer.close()


async def test_respond_async_does_not_wait_for_the_disk(tmp_path):
    """RFC 7240 §4.1"""
    async with stand(tmp_path) as it:
        nothing = {"stream": None, "partition": None, "offset": None, "id": None}
        assert await post(it, "/v1/events/a", b"x", {"Prefer": "wait=3, respond-async"}, 202) == nothing
        assert (await post(it, "/v1/events/a", b"y", {"Prefer": "return=minimal"}))["offset"] == 1


async def test_heads_that_are_alike_and_heads_that_are_not_on_one_connection(tmp_path):
    """The meaning of the last head is kept: a change in any field counts."""
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        heads = [b"Meshgate-Key: k\r\n", b"Meshgate-Key: k\r\n", b"Meshgate-Key: j\r\n", b"",
                 b"Meshgate-Priority: 3\r\n", b"Meshgate-Header-x: " + b"y" * 2_000 + b"\r\n", b"Meshgate-Key: k\r\n"]
        for head in heads:
            writer.write(b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\n" + head + b"Content-Length: 1\r\n\r\nx")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nMeshgate-What: 1\r\nContent-Length: 1\r\n\r\nx")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400")
        writer.close()
        events = [it.router.streams.partition("events", 0).event(offset) for offset in range(len(heads))]
        assert [event.key for event in events] == [b"k", b"k", b"j", None, None, None, b"k"]
        assert events[4].properties.priority == 3 and len(events[5].headers) == 1 and events[6].headers == ()
