"""/v1/ws and durable consumers that are somebody else's, or too many."""
from __future__ import annotations

import asyncio

from protocols.websocket.settings import WebSocketSettings
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import Push
from routing.rights.policy import INTERNAL, Action, Rule
from tests.protocols.rest.stand import basic

from .json_client import Client, ws_stand

USERS = (("ana", "p", ()), ("bob", "p", ()), ("root", "p", ()))
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


async def test_a_consumer_is_changed_by_its_owner_and_who_may_manage(tmp_path):
    """As over REST: who may read what it reads shares its work, and no more."""
    rules = (Rule(allow=(Action.CONNECT, Action.SUBSCRIBE, Action.PUBLISH), to=("*",)),
             Rule(allow=(Action.MANAGE,), to=("user:root",)))
    async with ws_stand(tmp_path, users=USERS, rules=rules) as it:
        ana, bob, root = [await Client.open(it, Authorization=basic(user, "p")) for user in ("ana", "bob", "root")]
        await ana.subscribe("s", "a/#", consumer="c", mode="shared")
        ana.say("unsubscribe", id=1, subscription="s")
        await ana.hear("unsubscribed", id=1)
        bob.say("subscribe", id=2, subscription="s", filters=["a/#", "b/#"], consumer="c")
        assert (await bob.hear("refused", id=2))["problem"] == "/problems/not-authorized"
        await bob.subscribe("s", "a/#", consumer="c")
        await it.publish("a/1")
        event = await bob.hear("event")
        bob.say("ack", subscription="s", deliveries=[event["delivery"]])
        bob.say("unsubscribe", id=3, subscription="s", delete=True)
        assert (await bob.hear("refused", id=3))["problem"] == "/problems/not-authorized"
        consumer = it.router.consumers["c"]
        assert (consumer.acked, list(consumer.filters), len(consumer.members)) == (1, ["a/#"], 1)
        await root.subscribe("s", "a/#", "b/#", consumer="c")
        assert list(consumer.filters) == ["a/#", "b/#"] and consumer.identity.user == "ana"
        root.say("unsubscribe", id=4, subscription="s", delete=True)
        await root.hear("unsubscribed", id=4)
        assert "c" not in it.router.consumers
        for client in (ana, bob, root):
            client.close()
