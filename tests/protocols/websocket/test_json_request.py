"""/v1/ws: requests and replies."""
from __future__ import annotations

from tests.protocols.rest.stand import eventually

from .json_client import Client, ws_stand


async def test_a_request_gets_the_answer_of_the_one_who_subscribed(tmp_path):
    async with ws_stand(tmp_path) as it:
        asking, answering = await Client.open(it), await Client.open(it)
        await answering.subscribe("s", "service/+")
        asking.say("request", id="r", topic="service/time", payload="now?")
        asked = (await answering.hear("event"))["event"]
        assert asked["payload"] == "now?" and asked["reply_to"].startswith("$reply/graz-1/")
        answering.say("reply", id=9, to=asked["reply_to"], correlation_id=asked["correlation_id"], payload="12:00")
        await answering.hear("published", id=9)
        answer = await asking.hear("response", id="r")
        assert answer["event"]["payload"] == "12:00"
        assert answer["event"]["correlation_id"] == asked["correlation_id"]
        assert len(it.replies) == 0
        asking.close()
        answering.close()


async def test_no_answer_in_time_and_nobody_there_are_different_problems(tmp_path):
    async with ws_stand(tmp_path) as it:
        asking, silent = await Client.open(it), await Client.open(it)
        asking.say("request", id=1, topic="service/time")
        assert await asking.refused(1) == "no-responder"
        await silent.subscribe("s", "service/+")
        asking.say("request", id=2, topic="service/time", timeout_ms=100)
        assert await asking.refused(2) == "reply-timeout"
        assert len(it.replies) == 0
        asking.close()
        silent.close()


async def test_the_requests_of_a_client_that_goes_are_forgotten(tmp_path):
    async with ws_stand(tmp_path) as it:
        asking, silent = await Client.open(it), await Client.open(it)
        await silent.subscribe("s", "service/+")
        asking.say("request", id=1, topic="service/time")
        await silent.hear("event")
        assert len(it.replies) == 1
        asking.close()
        await eventually(lambda: len(it.replies) == 0, "the request is forgotten")
        silent.close()


async def test_nobody_hears_the_answers_of_others(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", filters=["$reply/#"])
        assert await client.refused(1) == "not-authorized"
        client.close()
