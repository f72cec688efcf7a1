"""/v1/ws and durable consumers that are somebody else's, or too many."""
from __future__ import annotations

import asyncio

from protocols.websocket.settings import WebSocketSettings
from routing.consumer import ConsumerSpec
from routing.members import Mode
from routing.policy import INTERNAL, Action, Rule
from routing.push import Push
from tests.protocols.rest.stand import basic

from .json_client import Client, ws_stand

USERS = (("ana", "p", ()), ("bob", "p", ()))
RULES = (Rule(allow=(Action.CONNECT, Action.SUBSCRIBE), to=("*",)),)


async def test_what_is_pushed_to_a_url_has_no_other_readers(tmp_path):
    """As with POST …/pull: they would take, and ack, what the webhook is to get."""
    async with ws_stand(tmp_path) as it:
        it.router.registry.check_push = lambda spec: None
        it.router.open_consumer(
            ConsumerSpec("billing", ("#",), Mode.SHARED, push=Push(url="https://203.0.113.7/")), INTERNAL)
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", consumer="billing")
        assert (await client.hear("refused", id=1))["problem"] == "/problems/conflict"
        assert not it.router.consumers["billing"].members.all
        client.close()


async def test_the_number_of_durable_consumers_is_bounded(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(consumers_max=1)) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="a")
        client.say("unsubscribe", id=1, subscription="s")
        await client.hear("unsubscribed", id=1)
        client.say("subscribe", id=2, subscription="s", filters=["#"], consumer="b")
        assert (await client.hear("refused", id=2))["problem"] == "/problems/quota-exceeded"
        await client.subscribe("s", "#", consumer="a")
        client.close()


async def test_who_may_not_ask_does_not_learn_whether_somebody_would_answer(tmp_path):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, Authorization=basic("bob", "p"))
        client.say("request", id=1, topic="do/it", payload="x")
        assert (await client.hear("refused", id=1))["problem"] == "/problems/not-authorized"
        await asyncio.sleep(0)
        client.close()
