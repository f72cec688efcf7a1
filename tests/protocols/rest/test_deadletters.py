"""Dead letters: listed, and handed to their consumer once more."""
from __future__ import annotations

import asyncio

from routing.consumers.consumer import ConsumerSpec
from routing.rights.policy import Identity
from routing.settings import StreamSettings
from tests.protocols.rest.consumer_client import ConsumerClient, topics
from tests.protocols.rest.stand import stand

OPTIONS = {"filters": ["a/#"], "max_deliveries": 1, "backoff_initial_s": 0}


async def buried(client, it, *names):
    """Publish these topics and let each delivery fail for good."""
    before = (await client.get())["dead_lettered"]
    await it.publish(*names)
    left = len(names)
    while left:
        events = await client.pull(wait_s=5)
        await client.answer("nack", events)
        left -= len(events)
    while (await client.get())["lag"]["events"] or (await client.get())["dead_lettered"] < before + len(names):
        await client.pull(wait_s=0.1)


async def listed(client, query=""):
    return await client.call("GET", f"/dead-letters{query}")


async def redriven(client, **body):
    told = await client.call("POST", "/redrive", body, 202)
    while told["state"] == "running":
        await asyncio.sleep(0.02)
        told = await client.call("GET", "/redrive")
    return told


async def test_dead_letters_are_listed_with_why_and_where_from(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await buried(billing, it, "a/1", "a/2", "a/3")
        told = await listed(billing)
        assert [letter["topic"] for letter in told["dead_letters"]] == ["dead-letter/billing"] * 3
        headers = dict(told["dead_letters"][0]["headers"])
        assert (headers["dead-letter-topic"], headers["dead-letter-count"]) == ("a/1", "1")
        assert headers["dead-letter-id"] == "events:0:0"
        page = await listed(billing, "?limit=2")
        assert (len(page["dead_letters"]), page["next"]) == (2, page["dead_letters"][1]["id"])
        rest = await listed(billing, f"?limit=2&after={page['next']}")
        assert (len(rest["dead_letters"]), rest["next"]) == (1, None)
        for query in ("?limit=0", "?after=x", "?what=1"):
            await billing.call("GET", f"/dead-letters{query}", status=400)


async def test_a_look_alike_on_the_dead_letter_topic_is_not_one(tmp_path):
    """hostile.md row 96: whoever may publish there could have had any event handed out again, and shown any topic."""
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await it.publish("a/1")
        await billing.ack(await billing.pull(wait_s=5))
        forged = {"Meshgate-Header-Dead-Letter-Consumer": "billing", "Meshgate-Header-Dead-Letter-Topic": "a/1",
                  "Meshgate-Header-Dead-Letter-Id": "events:0:0"}
        async with it.http.post("/v1/events/dead-letter/billing", data=b"x", headers=forged) as response:
            assert response.status == 200
        assert (await listed(billing))["dead_letters"] == []
        assert (await redriven(billing))["redriven"] == 0


async def test_a_redrive_goes_to_this_consumer_only_and_only_once(tmp_path):
    async with stand(tmp_path) as it:
        billing, other = ConsumerClient(it), ConsumerClient(it, "other")
        await billing.put(**OPTIONS)
        await other.put(filters=["a/#"])
        await buried(billing, it, "a/1", "a/2")
        await other.ack(await other.pull())
        assert await billing.call("POST", "/redrive", {"dry_run": True}) == {"dry_run": True, "events": 2, "gone": 0}
        told = await redriven(billing)
        assert (told["state"], told["redriven"], told["gone"]) == ("done", 2, 0)
        assert (await billing.get())["lag"]["events"] == 2
        events = await billing.pull()
        assert (topics(events), events[0]["attempt"]) == (["a/1", "a/2"], 1)
        await billing.ack(events)
        assert await other.pull() == []
        assert (await redriven(billing))["redriven"] == 0
        assert (await listed(billing))["dead_letters"] == []


async def test_nothing_of_a_redrive_is_left_of_a_consumer_that_is_gone(tmp_path):
    """Whoever deletes it: a WebSocket client, an operator, its expiry."""
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await buried(billing, it, "a/1", "a/2")
        assert (await redriven(billing))["redriven"] == 2
        assert it.router.state.get("redriven/billing") is not None
        assert it.router.delete_consumer("billing")
        assert it.router.state.get("redriven/billing") is None


async def test_max_and_rate_are_kept(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await buried(billing, it, *(f"a/{number}" for number in range(6)))
        assert (await redriven(billing, max=2))["redriven"] == 2
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await redriven(billing, rate=10, max=3))["redriven"] == 3
        assert loop.time() - began > 0.15
        assert len((await listed(billing))["dead_letters"]) == 1


async def test_one_redrive_at_a_time_and_it_can_be_stopped(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await billing.call("GET", "/redrive", status=404)
        await buried(billing, it, "a/1", "a/2")
        await billing.call("POST", "/redrive", {"rate": 0.01}, 202)
        assert (await billing.call("POST", "/redrive", {}, 409))["type"] == "/problems/conflict"
        assert (await billing.call("DELETE", "/redrive"))["state"] == "cancelled"
        assert (await redriven(billing))["state"] == "done"
        await billing.call("POST", "/redrive", {"rate": 0}, 400)


async def test_a_redrive_is_stored(tmp_path):
    streams = [StreamSettings("events", ("#",), partitions=3)]
    async with stand(tmp_path, streams=streams) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await buried(billing, it, *(f"a/{number}" for number in range(5)))
        await redriven(billing, max=3)
    async with stand(tmp_path, streams=streams) as it:
        billing = ConsumerClient(it)
        assert len((await listed(billing))["dead_letters"]) == 2
        assert len(await billing.pull()) == 3


async def test_dead_letters_of_a_former_consumer_of_that_name_are_not_mine(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(**OPTIONS)
        await buried(billing, it, "a/1")
        await billing.call("DELETE", status=204)
        await billing.put(**OPTIONS)
        assert (await listed(billing))["dead_letters"] == []


async def test_a_consumer_of_another_protocol_is_the_same_consumer(tmp_path):
    async with stand(tmp_path) as it:
        it.router.open_consumer(ConsumerSpec("shared", ("a/#",)), Identity(user="anonymous", protocol="amqp"))
        await it.publish("a/1")
        shared = ConsumerClient(it, "shared")
        assert topics(await shared.pull()) == ["a/1"]
        assert (await listed(shared))["dead_letters"] == []
