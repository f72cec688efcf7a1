"""/v1/ws: CloudEvents in and out."""
from __future__ import annotations

import pytest

from .json_client import Client, ws_stand

CLOUD = {"specversion": "1.0", "id": "1", "source": "/plant", "type": "lamp.on", "datacontenttype": "application/json",
         "data": {"on": True}, "colour": "red"}


async def test_a_cloudevent_comes_out_as_it_went_in_and_as_an_event_for_others(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("clouds", "#", format="cloudevents")
        await client.subscribe("plain", "#", id="p")
        client.say("cloudevent", id=1, topic="plant/lamp", event=CLOUD)
        got = {}
        for _ in range(3):
            message = await client.next()
            got[message.get("subscription", "published")] = message
        assert got["published"]["offset"] == 0
        assert got["clouds"]["cloudevent"] == {**CLOUD, "meshgatetopic": "plant/lamp"}
        event = got["plain"]["event"]
        assert event["payload"] == '{"on": true}' and ["ce_type", "lamp.on"] in event["headers"]
        client.close()


async def test_what_was_no_cloudevent_comes_as_one(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("clouds", "#", format="cloudevents")
        await it.publish("plant/lamp")
        cloud = (await client.hear("event"))["cloudevent"]
        assert cloud["specversion"] == "1.0" and cloud["meshgatetopic"] == "plant/lamp"
        client.close()


@pytest.mark.parametrize(("said", "problem"), [
    ({"event": {**CLOUD, "specversion": "2.0"}, "topic": "a"}, "cloudevent-invalid"),
    ({"event": CLOUD}, "topic-invalid"),
    ({"event": [], "topic": "a"}, "cloudevent-invalid"), ({"event": CLOUD, "topic": "a/#"}, "topic-invalid"),
    ({"event": CLOUD, "topic": "$SYS/a"}, "not-authorized"), ({}, "message-invalid"),
])
async def test_what_is_no_cloudevent_is_refused(tmp_path, said, problem):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("cloudevent", id=1, **said)
        assert await client.refused(1) == problem
        client.close()


async def test_cloudevents_do_not_come_in_binary_messages(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", filters=["#"], format="cloudevents", binary=True)
        assert await client.refused(1) == "message-invalid"
        client.close()
