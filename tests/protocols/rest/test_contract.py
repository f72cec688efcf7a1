"""The OpenAPI and AsyncAPI documents say all that the listener does, and nothing else."""
from __future__ import annotations

import json
import time

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from protocols.rest.app import AMQP_WEBSOCKET_PATHS
from protocols.rest.contract.asyncapi import TOPICS_MAX, document
from protocols.rest.contract.openapi import described, routes_of
from protocols.rest.problem_types import TYPES
from protocols.websocket.json.channel import JsonOverWebSocket
from protocols.websocket.mqtt import MqttOverWebSocket
from protocols.websocket.settings import WebSocketSettings
from routing.direct.replies import Replies
from routing.rights.policy import Action, Identity, Rule
from routing.settings import StreamSettings

from .stand import basic, stand

LOWER = {"get", "put", "post", "delete"}
USERS = [("ana", "correct horse", ("reader",))]
RULES = (Rule(allow=(Action.CONNECT,), to=("*",)),
         Rule(allow=(Action.SUBSCRIBE,), to=("role:reader",), topics=("plant/#", "open/#")),
         Rule(deny=(Action.SUBSCRIBE,), to=("role:reader",), topics=("plant/secret/#",)),
         Rule(allow=(Action.PUBLISH,), to=("role:reader",), topics=("open/#",)))


def whole(it):
    """With the WebSocket endpoints of a node."""
    return MqttOverWebSocket(None, WebSocketSettings(), time.monotonic, None)


async def get(it, path, **headers):
    async with it.http.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def test_every_route_is_described_and_nothing_else(tmp_path):
    async with stand(tmp_path, websocket=whole) as it:
        it.rest._json_websocket = JsonOverWebSocket(
            it.router, Replies(it.router, "n"), WebSocketSettings(), time.monotonic, "n")
        it.rest._streams_over.append((AMQP_WEBSOCKET_PATHS, whole(it)))
        served = {(method.lower(), path) for method, path in routes_of(it.rest.make_app())}
        known = {(method, path) for path, methods in described().items() for method in methods}
        assert served - known == set(), "describe it in openapi_events.py or openapi_consumers.py"
        assert known - served == set(), "there is no such route"


async def test_the_document_is_valid_openapi(tmp_path):
    async with stand(tmp_path) as it:
        found = await get(it, "/v1/openapi.json")
        OpenAPIV31SpecValidator(found).validate()
        names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
        assert len(names) == len(set(names)) and set(found["paths"]) <= set(described())
        assert json.dumps(found) == json.dumps(await get(it, "/v1/openapi.json"))


async def test_every_type_of_problem_is_in_the_document(tmp_path):
    async with stand(tmp_path, websocket=whole) as it:
        text = json.dumps({"paths": described(), **(await get(it, "/v1/openapi.json"))["components"]["responses"]})
        missing = [found.kind for found in TYPES if f'"/problems/{found.kind}"' not in text]
        assert missing == []


async def test_the_document_needs_no_login(tmp_path):
    async with stand(tmp_path, users=USERS, rules=RULES) as it:
        await get(it, "/v1/openapi.json")
        async with it.http.get("/v1/asyncapi.json") as response:
            assert response.status == 401 or not (await response.json())["channels"]


# -- AsyncAPI ---------------------------------------------------------------------------------------------------------

async def test_streams_and_topics_as_far_as_one_may_use_them(tmp_path):
    streams = [StreamSettings("plant.eu", ("plant/+/data/#",)), StreamSettings("hidden", ("hidden/#",)),
               StreamSettings("events", ("#",))]
    async with stand(tmp_path, users=USERS, rules=RULES, streams=streams) as it:
        await it.publish_as_node("plant/1/data/x", "plant/secret/1", "hidden/1", "open/{a}%", "$SYS/x")
        found = await get(it, "/v1/asyncapi.json", Authorization=basic("ana", "correct horse"))
        channels = found["channels"]
        assert {name: channel["address"] for name, channel in channels.items() if name.startswith("stream-")} == {
            "stream-plant_eu-0": "plant/{level2}/data/{rest}", "stream-events-0": "{rest}"}
        topics = {channel["x-meshgate-topic"]: name for name, channel in channels.items() if name.startswith("topic-")}
        assert set(topics) == {"plant/1/data/x", "open/{a}%"}
        assert channels[topics["open/{a}%"]]["address"] == "open/%7Ba%7D%25"
        actions = {name: operation["action"] for name, operation in found["operations"].items()}
        assert actions[f"receive-{topics['plant/1/data/x']}"] == "receive"
        assert f"send-{topics['plant/1/data/x']}" not in actions and f"send-{topics['open/{a}%']}" in actions
        for operation in found["operations"].values():
            assert operation["channel"]["$ref"].removeprefix("#/channels/") in channels
        assert "hidden" not in json.dumps(found) and "secret" not in json.dumps(found)


async def test_the_number_of_topics_is_bounded(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish_as_node(*(f"t/{number}" for number in range(TOPICS_MAX + 50)))
        found = document(it.router, Identity("anonymous"), "1", "localhost", False)
        assert len(found["channels"]) == TOPICS_MAX + 1


@pytest.mark.parametrize("host", ["localhost", "[::1]:8080"])
async def test_the_server_is_the_one_that_was_asked(tmp_path, host):
    async with stand(tmp_path) as it:
        found = await get(it, "/v1/asyncapi.json", Host=host)
        assert found["asyncapi"] == "3.0.0" and found["servers"]["http"]["host"] == host
