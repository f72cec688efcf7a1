"""/v1/ws: publishing, and how each refusal is told."""
from __future__ import annotations

import base64
import json

import pytest

from protocols.rest.problems import REFUSALS
from protocols.websocket.problems import PROBLEMS
from protocols.websocket.settings import WebSocketSettings
from routing.errors import Reason
from routing.rights.policy import Action, Rule
from routing.settings import Limits, StreamSettings

from .json_client import Client, ws_stand


async def test_the_node_says_who_it_is_and_what_it_takes(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        assert client.welcome["node"] == "graz-1" and client.welcome["user"] == "anonymous"
        assert client.welcome["version"] == 1 and client.welcome["limits"]["subscriptions"] == 64
        client.close()


async def test_a_publish_is_answered_with_its_place_in_the_log(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        assert await client.publish("plant/lamp", "on") == {
            "op": "published", "id": 1, "stream": "events", "partition": 0, "offset": 0, "event_id": "events:0:0"}
        client.close()


async def test_every_field_of_an_event_gets_through(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("all", "#")
        await client.publish(
            "plant/lamp", "on", key="k", headers=[["a", "b"], ["a", 1], ["n", None], ["f", 1.5], ["t", True],
                                                  ["b", {"base64": "/w=="}]],
            content_type="text/plain", ttl_ms=60_000, reply_to="answers", correlation_id="c-1", message_id="m-1",
            priority=5)
        event = (await client.hear("event"))["event"]
        expires = event.pop("expires")
        assert expires.endswith("Z")
        event.pop("time")
        assert event == {
            "topic": "plant/lamp", "id": "events:0:0", "stream": "events", "partition": 0, "offset": 0, "payload": "on",
            "key": "k",
            "headers": [["a", "b"], ["a", 1], ["n", None], ["f", 1.5], ["t", True], ["b", {"base64": "/w=="}]],
            "content_type": "text/plain", "reply_to": "answers", "correlation_id": "c-1", "message_id": "m-1",
            "priority": 5}
        client.close()


async def test_bytes_go_as_base64_or_behind_the_json_of_a_binary_message(tmp_path):
    data = bytes(range(256))
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("text", "#")
        await client.subscribe("bytes", "#", binary=True)
        client.say("publish", topic="a", payload_base64=base64.b64encode(data).decode())
        client.say_binary(data, op="publish", topic="b")
        got = [await client.next() for _ in range(4)]
        texts = [message for message in got if isinstance(message, dict)]
        binaries = [message for message in got if not isinstance(message, dict)]
        assert [base64.b64decode(message["event"]["payload_base64"]) for message in texts] == [data, data]
        assert [(head["event"]["topic"], payload) for head, payload in binaries] == [("a", data), ("b", data)]
        assert "payload" not in binaries[0][0]["event"] and "payload_base64" not in binaries[0][0]["event"]
        client.close()


async def test_an_idempotency_key_that_comes_again_is_stored_once(tmp_path):
    async with ws_stand(tmp_path) as it:
        first = await Client.open(it)
        stored = await first.publish("a", "1", idempotency_key="m")
        first.close()
        again = await Client.open(it)
        assert await again.publish("a", "1", idempotency_key="m") == stored
        again.close()


async def test_what_no_stream_keeps_is_published_without_a_place(tmp_path):
    async with ws_stand(tmp_path, streams=[StreamSettings("plants", ("plant/#",))]) as it:
        client = await Client.open(it)
        assert await client.publish("other") == {"op": "published", "id": 1}
        client.close()


@pytest.mark.parametrize(("message", "problem"), [
    ({"op": "publish", "id": 1, "topic": ""}, "topic-invalid"),
    ({"op": "publish", "id": 1, "topic": "a/+"}, "topic-invalid"),
    ({"op": "publish", "id": 1, "topic": "$SYS/x"}, "not-authorized"),
    ({"op": "publish", "id": 1}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "tpyo": 1}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "payload": "x", "payload_base64": "eA=="}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "payload_base64": "no"}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "ttl_ms": -1}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "priority": 10}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "message_id": ""}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "idempotency_key": ""}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "message_id": "x" * 1025}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "reply_to": "#"}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "headers": [["x", 2**64]]}, "message-invalid"),
    ({"op": "publish", "id": 1, "topic": "a", "payload": "x" * 2000}, "payload-too-large"),
    ({"op": "frobnicate", "id": 1}, "message-invalid"),
    ({"op": "credit", "id": 1, "subscription": "none", "add": 1}, "not-found"),
    ({"op": "ack", "id": 1, "subscription": "none", "up_to": 1}, "not-found"),
    ({"op": "unsubscribe", "id": 1, "subscription": "none"}, "not-found"),
    ({"op": "auth", "id": 1, "token": "late"}, "message-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["a/#/b"]}, "filter-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "filters": []}, "message-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["a"], "from": "yesterday"}, "position-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["a"], "credit": -1}, "message-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "", "filters": ["a"]}, "message-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["a"] * 65}, "quota-exceeded"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "consumer": "none"}, "not-found"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "consumer": "../etc", "filters": ["a"]}, "message-invalid"),
    ({"op": "subscribe", "id": 1, "subscription": "s", "consumer": "c", "filters": ["a"], "mode": "x"},
     "message-invalid"),
    ({"op": "request", "id": 1, "topic": "nobody/home"}, "no-responder"),
    ({"op": "request", "id": 1, "topic": "a", "timeout_ms": 0}, "message-invalid"),
])
async def test_a_refusal_names_the_problem_and_the_connection_goes_on(tmp_path, message, problem):
    async with ws_stand(tmp_path, limits=Limits(payload_bytes_max=1000)) as it:
        client = await Client.open(it)
        client.raw(json.dumps(message))
        assert await client.refused(1) == problem
        assert (await client.publish("fine", id=2))["offset"] == 0
        client.close()


async def test_one_bad_event_of_a_read_does_not_cost_the_others(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        for number, topic in enumerate(("a", "#", "b")):
            client.say("publish", id=number, topic=topic)
        answers = [await client.next() for _ in range(3)]
        assert {answer["id"]: answer["op"] for answer in answers} == {0: "published", 1: "refused", 2: "published"}
        client.close()


async def test_a_denied_topic_is_refused_with_the_rule(tmp_path):
    rules = (Rule(allow=tuple(Action), to=("*",), topics=("open/#",), name="the open ones"),)
    async with ws_stand(tmp_path, rules=rules) as it:
        client = await Client.open(it)
        client.say("publish", id=1, topic="secret")
        assert await client.refused(1) == "not-authorized"
        client.say("subscribe", id=2, subscription="s", filters=["secret"])
        assert await client.refused(2) == "not-authorized"
        client.close()


async def test_ping_is_answered(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("ping", id="p")
        await client.hear("pong", id="p")
        client.close()


async def test_ten_thousand_publishes_are_all_answered_with_few_under_way(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(publishes_max=50)) as it:
        client = await Client.open(it)
        for number in range(10_000):
            client.say("publish", id=number, topic="a", payload=str(number))
        offsets = [(await client.hear("published"))["offset"] for _ in range(10_000)]
        assert offsets == list(range(10_000))
        client.close()


def test_every_reason_has_its_problem():
    """The same words as over HTTP, so that a client needs one table."""
    assert set(PROBLEMS) == set(Reason)
    assert {reason: kind for reason, (_, kind) in REFUSALS.items()} == PROBLEMS
