"""CloudEvents over HTTP, with the CNCF's SDK as the client."""
from __future__ import annotations

import asyncio
import json

import pytest
from cloudevents.core.bindings import http as sdk
from cloudevents.core.bindings.http import HTTPMessage
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from yarl import URL

from protocols.rest.settings import RestSettings
from routing.event import Event, Properties
from routing.rights.policy import Action, Rule

from .sse_client import Sse
from .stand import stand

LEAST = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "t"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}


def event(data=None, **more):
    return SdkEvent(attributes={"id": "a-1", "source": "/plant", "type": "at.lamp.on", "specversion": "1.0",
                                "datacontenttype": "application/json", **more}, data=data)


def document(**more):
    return json.dumps({**LEAST, **more}).encode()


async def post(it, path, message, status=200, **headers):
    async with it.http.post(path, data=message.body, headers={**message.headers, **headers}) as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None)


def stored(it, offset=0):
    return it.router.streams.by_name["events"].partitions[0].event(offset)


@pytest.mark.parametrize("mode", [sdk.to_binary_event, sdk.to_structured_event])
@pytest.mark.parametrize(("path", "more"), [
    ("/v1/events/a/b", {}), ("/v1/events?topic=a/b", {}), ("/v1/events", {"meshgatetopic": "a/b"}),
    ("/v1/events?topic=a%2Fb", {"meshgatetopic": "else"}), ("/v1/events/a/b", {"meshgatetopic": "else"}),
])
async def test_an_event_of_the_sdk_is_stored_in_the_canonical_form(tmp_path, mode, path, more):
    async with stand(tmp_path) as it:
        place = await post(it, path, mode(event({"on": True}, subject="Lampe ü", **more)))
        assert place == {"stream": "events", "partition": 0, "offset": 0, "id": "events:0:0"}
        found = stored(it)
        assert (found.topic, json.loads(found.payload), found.properties.content_type) == (
            "a/b", {"on": True}, "application/json")
        assert {name: value for name, value in found.headers if name != "ce_time"} == {
            "ce_specversion": "1.0", "ce_id": "a-1", "ce_source": "/plant", "ce_type": "at.lamp.on",
            "ce_subject": "Lampe ü"}


async def test_a_reader_who_accepts_cloudevents_gets_what_the_sdk_sent(tmp_path):
    async with stand(tmp_path) as it:
        await post(it, "/v1/events/a", sdk.to_binary_event(event({"n": 1}, partitionkey="k")))
        await it.publish(Event("b", b"\xff", 1))
        for more, headers in (("", "Accept: text/event-stream, application/cloudevents+json\r\n"),
                              ("&format=cloudevents", "")):
            reader = await Sse.open(it, "#", more=f"&from=earliest{more}", headers=headers)
            first, second = await reader.take(2)
            reader.close()
            back = sdk.from_http_event(HTTPMessage(headers=STRUCTURED, body=json.dumps(first).encode()))
            assert back.get_data() == {"n": 1} and back.get_extension("partitionkey") == "k"
            assert first["meshgatetopic"] == "a" and second["meshgatetopic"] == "b"
            assert (second["id"], second["type"], second["data_base64"]) == ("events:0:1", "meshgate.event", "/w==")
            assert second["source"].startswith("urn:meshgate:log:")


async def test_a_plain_reader_gets_the_data_and_the_headers(tmp_path):
    async with stand(tmp_path) as it:
        await post(it, "/v1/events/a", sdk.to_structured_event(event({"n": 1})))
        reader = await Sse.open(it, "#", start="earliest")
        shown = await reader.next()
        reader.close()
        assert shown["payload"] == '{"n": 1}' and ["ce_id", "a-1"] in shown["headers"]


async def test_a_pull_can_be_a_batch(tmp_path):
    async with stand(tmp_path) as it:
        body = {"filters": ["#"], "start": "earliest"}
        async with it.http.put("/v1/consumers/c", json=body) as response:
            assert response.status == 201
        for number in range(3):
            await post(it, "/v1/events/a", sdk.to_binary_event(event({"n": number}, id=str(number))))
        async with it.http.post("/v1/consumers/c/pull", json={"max": 10, "wait_s": 1},
                                headers={"Accept": BATCH["Content-Type"]}) as response:
            assert response.content_type == BATCH["Content-Type"]
            found = json.loads(await response.read())
        assert [entry["data"]["n"] for entry in found] == [0, 1, 2]
        assert {entry["meshgateattempt"] for entry in found} == {1}
        tokens = [entry["meshgatetoken"] for entry in found]
        async with it.http.post("/v1/consumers/c/ack", json={"tokens": tokens}) as response:
            assert (await response.json())["acked"] == 3
        async with it.http.post("/v1/events?topic=again", data=json.dumps(found), headers=BATCH) as response:
            assert (await response.json())["accepted"] == 3, "what was pulled can be sent on as it is"
        assert not [name for name, _ in stored(it, 3).headers if "meshgate" in name]


async def test_every_item_of_a_batch_has_its_answer(tmp_path):
    async with stand(tmp_path) as it:
        body = b"[" + b",".join((
            document(meshgatetopic="a/1"), document(id=""), document(), b"7", document(meshgatetopic="a/#"),
            document(meshgatetopic="a/2", data="x"))) + b"]"
        async with it.http.post("/v1/events", data=body, headers=BATCH) as response:
            assert response.status == 200
            answer = await response.json()
        assert (answer["accepted"], answer["refused"]) == (2, 4)
        assert [item.get("id") or item["type"] for item in answer["results"]] == [
            "events:0:0", "/problems/cloudevent-invalid", "/problems/topic-invalid", "/problems/cloudevent-invalid",
            "/problems/topic-invalid", "events:0:1"]
        assert all(item["status"] == 400 and item["detail"] for item in answer["results"] if "type" in item)
        assert stored(it, 1).payload == b'"x"' and it.counters.events_in == 2


async def test_what_the_policy_refuses_in_a_batch_is_told_per_item(tmp_path):
    rules = (Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("*",), topics=("open/#",)))
    async with stand(tmp_path, rules=rules) as it:
        body = b"[" + document(meshgatetopic="shut") + b"," + document(meshgatetopic="open/1") + b"]"
        async with it.http.post("/v1/events", data=body, headers=BATCH) as response:
            first, second = (await response.json())["results"]
        assert (first["status"], first["type"], second["offset"]) == (403, "/problems/not-authorized", 0)


async def test_fields_of_the_request_go_before_attributes(tmp_path):
    async with stand(tmp_path) as it:
        message = sdk.to_binary_event(event({"n": 1}, partitionkey="theirs", correlationid="c", meshgatereplyto="r"))
        await post(it, "/v1/events/a", message, **{
            "Meshgate-Key": "ours", "Meshgate-TTL": "60000", "Meshgate-Header-x": "1", "Meshgate-Priority": "3"})
        found = stored(it)
        assert found.key == b"ours" and ("x", "1") in found.headers and ("ce_partitionkey", "theirs") in found.headers
        properties = found.properties
        assert (properties.correlation, properties.reply_to, properties.priority) == ("c", "r", 3)
        assert properties.expires_at_ms > it.clock_ms()


async def test_nothing_is_promised_for_a_batch_that_does_not_wait(tmp_path):
    async with stand(tmp_path) as it:
        for more in ({"Meshgate-Guaranteed": "false"}, {"Prefer": "respond-async"}):
            body, headers = b"[" + document() + b"]", {**BATCH, **more}
            async with it.http.post("/v1/events/a", data=body, headers=headers) as response:
                assert response.status == 202
                assert (await response.json())["results"] == [
                    {"stream": None, "partition": None, "offset": None, "id": None}]


@pytest.mark.parametrize(("path", "body", "headers", "status", "kind"), [
    ("/v1/events/a", document(id=""), STRUCTURED, 400, "cloudevent-invalid"),
    ("/v1/events/a", b"", STRUCTURED, 400, "cloudevent-invalid"),
    ("/v1/events/a", b"[" * 100_000, STRUCTURED, 400, "cloudevent-invalid"),                # hostile.md row 78
    ("/v1/events/a", document()[:-1] + b',"x":' + b"9" * 100_000 + b"}", STRUCTURED, 400, "cloudevent-invalid"),
    ("/v1/events/a", document()[:-1] + b',"x":NaN}', STRUCTURED, 400, "cloudevent-invalid"),
    ("/v1/events", b"[" * 100_000, BATCH, 400, "cloudevent-invalid"),
    ("/v1/events", b"{}", BATCH, 400, "cloudevent-invalid"),
    ("/v1/events", b"[" + b",".join([document()] * 4) + b"]", BATCH, 400, "cloudevent-invalid"),
    ("/v1/events", document(), STRUCTURED, 400, "topic-invalid"),
    ("/v1/events?topic=a/%23", document(), STRUCTURED, 400, "topic-invalid"),
    ("/v1/events?topic=a&topic=b", document(), STRUCTURED, 400, "query-invalid"),
    ("/v1/events?tpoic=a", document(), STRUCTURED, 400, "query-invalid"),
    ("/v1/events?topic=%ff", document(), STRUCTURED, 400, "encoding-invalid"),
    ("/v1/events/a", b"", {"ce-id": "1"}, 400, "cloudevent-invalid"),
    ("/v1/events/a", b"", {"ce-specversion": "1.0"}, 400, "cloudevent-invalid"),
    ("/v1/events/a", document(), {**STRUCTURED, "ce-id": "1"}, 400, "cloudevent-invalid"),
    ("/v1/events/a", b"", {"Content-Type": "application/cloudevents+avro"}, 415, "media-type-unsupported"),
    ("/v1/events/a", document(), {"Content-Type": "application/cloudevents+json; charset=latin-1"}, 415,
     "media-type-unsupported"),
    ("/v1/events", b"x", {"Content-Type": "text/plain"}, 415, "media-type-unsupported"),
    ("/v1/events", b"[]", {**BATCH, "Idempotency-Key": "k"}, 400, "header-invalid"),
])
async def test_bad_requests(tmp_path, path, body, headers, status, kind):
    async with stand(tmp_path, settings=RestSettings(batch_events_max=3)) as it:
        async with it.http.post(path, data=body, headers=headers) as response:
            problem = await response.json()
            assert (response.status, problem["type"]) == (status, f"/problems/{kind}"), problem
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0
        assert await it.alive()


async def test_a_page_of_a_stream_can_be_a_batch_and_names_the_next_one(tmp_path):
    async with stand(tmp_path) as it:
        for number in range(5):
            await post(it, "/v1/events/a b", sdk.to_binary_event(event({"n": number}, id=str(number))))
        url, seen, ends = "/v1/streams/events/events?limit=2&filter=a%20b", [], []
        for _ in range(3):
            async with it.http.get(URL(url, encoded=True), headers={"Accept": BATCH["Content-Type"]}) as response:
                assert response.status == 200 and response.content_type == BATCH["Content-Type"]
                seen += [entry["id"] for entry in json.loads(await response.read())]
                ends.append(response.headers["Meshgate-End"])
                link, _, relation = response.headers["Link"].partition(">; ")
                assert relation == 'rel="next"'
                url = "/v1/streams/events/events" + link[1:]
        assert seen == ["0", "1", "2", "3", "4"] and ends == ["false", "false", "true"]


async def test_requests_and_their_answers_are_cloudevents_too(tmp_path):
    async with stand(tmp_path) as it:
        async with it.http.put("/v1/consumers/worker", json={"filters": ["ask"]}) as response:
            assert response.status == 201
        asking = asyncio.create_task(_ask(it, sdk.to_structured_event(event({"n": 1}))))
        async with it.http.post("/v1/consumers/worker/pull", json={"wait_s": 5},
                                headers={"Accept": BATCH["Content-Type"]}) as response:
            asked, = json.loads(await response.read())
        assert (asked["type"], asked["data"]) == ("at.lamp.on", {"n": 1})
        answer = sdk.to_binary_event(event({"n": 2}, type="answer", subject="ü"))
        await post(it, f"/v1/events/{asked['meshgatereplyto']}", answer, **{
            "Meshgate-Correlation-Id": asked["correlationid"]})
        headers, body = await asking
        back = sdk.from_http_event(HTTPMessage(headers=headers, body=body))
        assert (back.get_type(), back.get_subject(), back.get_data()) == ("answer", "ü", {"n": 2})
        async with it.http.post("/v1/requests/ask", data=b"[]", headers=BATCH) as response:
            assert response.status == 415


async def _ask(it, message):
    async with it.http.post("/v1/requests/ask", data=message.body, headers=message.headers) as response:
        body = await response.read()
        assert response.status == 200, body
        return {name.lower(): value for name, value in response.headers.items()}, body


async def test_nothing_of_an_event_splits_an_answer_or_runs_in_a_browser(tmp_path):
    """hostile.md rows 79 and 84: an answer whose responder meant harm."""
    async with stand(tmp_path) as it:
        async with it.http.put("/v1/consumers/worker", json={"filters": ["ask"]}) as response:
            assert response.status == 201
        asking = asyncio.create_task(_ask(it, sdk.to_structured_event(event({"n": 1}))))
        async with it.http.post("/v1/consumers/worker/pull", json={"wait_s": 5}) as response:
            asked, = (await response.json())["events"]
        evil = tuple((f"ce_{name}", value) for name, value in {**LEAST, "subject": "a\r\nX-Evil: 1"}.items())
        await it.publish(Event(asked["reply_to"], b"<script>alert(1)</script>", 1, headers=evil, properties=Properties(
            content_type="text/html\r\nX-Evil: 1", correlation=asked["correlation_id"])))
        headers, body = await asking
        assert "x-evil" not in headers and body.startswith(b"<script>")
        assert headers["content-type"] == "application/octet-stream"
        assert headers["x-content-type-options"] == "nosniff" and "sandbox" in headers["content-security-policy"]
