"""Durable consumers over HTTP: made, shown, changed, moved, deleted; who may."""
from __future__ import annotations

import pytest

from protocols.rest.settings import RestSettings
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.rest.consumer_client import ConsumerClient, topics
from tests.protocols.rest.stand import basic, stand


async def test_put_makes_a_consumer_that_get_shows(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        made = await billing.put(filters=["a/#", "b"], mode="key-shared", max_deliveries=5, ack_timeout_s=2.5)
        assert (made["name"], made["filters"], made["mode"]) == ("billing", ["a/#", "b"], "key-shared")
        assert (made["ack_timeout_s"], made["max_deliveries"]) == (2.5, 5)
        assert made["dead_letter_topic"] == "dead-letter/billing"
        await it.publish("a/1", "b", "c")
        shown = await billing.get()
        assert shown["lag"]["events"] == 2 and shown["lag"]["seconds"] >= 0
        assert [place["position"] for place in shown["positions"]] == [2]


async def test_put_again_changes_what_may_change(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(filters=["a"])
        changed = await billing.put(200, filters=["a", "b"], max_in_flight=7)
        assert (changed["filters"], changed["max_in_flight"]) == (["a", "b"], 7)
        problem = await billing.put(409, mode="exclusive")
        assert problem["type"] == "/problems/conflict"


@pytest.mark.parametrize(("body", "kind"), [
    ({"filters": []}, "body-invalid"), ({"filters": ["a/#/b"]}, "filter-invalid"), ({"filters": "a"}, "body-invalid"),
    ({"mode": "sometimes"}, "body-invalid"), ({"start": "yesterday"}, "position-invalid"),
    ({"start": -1}, "position-invalid"), ({"start": 2**63}, "position-invalid"), ({"ack_timeout_s": 0}, "body-invalid"),
    ({"max_in_flight": 0}, "body-invalid"), ({"max_deliveries": 10**6}, "body-invalid"),
    ({"colour": 1}, "body-invalid"), ({"dead_letter_topic": "a/+"}, "body-invalid"),
    ({"dead_letter_topic": "$x"}, "body-invalid"),
    ({"expires_s": 0}, "body-invalid"), ({"filters": ["a"] * 65}, "body-invalid"),
])
async def test_what_makes_no_consumer_is_400_and_makes_none(tmp_path, body, kind):
    async with stand(tmp_path) as it:
        told = await ConsumerClient(it).put(400, **body)
        assert told["type"] == f"/problems/{kind}"
        assert not it.router.consumers


@pytest.mark.parametrize("name", ["a%2Fb", "a b", "%00", "x" * 129, "%2E%2E"])
async def test_a_name_that_is_none(tmp_path, name):
    import yarl
    async with stand(tmp_path) as it, it.http.put(yarl.URL(f"{it.url}/v1/consumers/{name}", encoded=True),
                                                  json={"filters": ["a"]}) as response:
        assert response.status in (400, 404)
        assert not it.router.consumers


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"filters": NaN}', b"{", b"\xff\xfe", b'"x"',
                                  b'{"max_in_flight": ' + b"9" * 10**5 + b"}", b"\xff\xfe", b'"x"'])
async def test_hostile_json_is_400(tmp_path, body):
    """hostile.md row 78"""
    async with stand(tmp_path) as it:
        async with it.http.put("/v1/consumers/x", data=body) as response:
            assert response.status == 400, await response.text()
            assert (await response.json(content_type=None))["type"] == "/problems/body-invalid"
        assert await it.alive()


async def test_unknown_consumers_are_404(tmp_path):
    async with stand(tmp_path) as it:
        nobody = ConsumerClient(it, "nobody")
        for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/pull", {}),
                                   ("POST", "/ack", {"tokens": ["x"]}), ("POST", "/pause", {}),
                                   ("POST", "/seek", {"to": "latest"})):
            assert (await nobody.call(method, path, body, 404))["type"] == "/problems/not-found"


async def test_delete_is_for_good(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await billing.call("DELETE", status=204)
        await billing.call("GET", status=404)
    async with stand(tmp_path) as it:
        await ConsumerClient(it).call("GET", status=404)


async def test_the_list_is_by_name_and_has_pages(tmp_path):
    async with stand(tmp_path) as it:
        for name in ("c", "a", "b"):
            await ConsumerClient(it, name).put()
        async with it.http.get("/v1/consumers?limit=2") as response:
            page = await response.json()
        assert ([row["name"] for row in page["consumers"]], page["next"]) == (["a", "b"], "b")
        async with it.http.get("/v1/consumers?limit=2&after=b") as response:
            page = await response.json()
        assert ([row["name"] for row in page["consumers"]], page["next"]) == (["c"], None)
        async with it.http.get("/v1/consumers?limit=-1") as response:
            assert response.status == 400


async def test_a_paused_consumer_gives_nothing_until_it_is_resumed(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a")
        assert (await billing.call("POST", "/pause"))["paused"] is True
        assert await billing.pull() == []
        await billing.call("POST", "/resume")
        assert topics(await billing.pull()) == ["a"]


async def test_seek_and_what_it_would_bring(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(filters=["a/#"])
        await it.publish("a/1", "b", "a/2", "a/3")
        await billing.ack(await billing.pull())
        would = await billing.call("POST", "/seek", {"to": "earliest", "dry_run": True})
        assert (would["dry_run"], would["events"]) == (True, 3)
        assert await billing.pull() == []
        assert (await billing.call("POST", "/seek", {"to": 2}))["events"] == 2
        assert topics(await billing.pull()) == ["a/2", "a/3"]
        assert (await billing.call("POST", "/seek", {"to": "events:0:2"}))["events"] == 1
        assert (await billing.call("POST", "/seek", {"to": "2001-01-01T00:00:00Z"}))["events"] == 3
        assert (await billing.call("POST", "/seek", {"to": "latest"}))["events"] == 0
        assert await billing.pull() == []
        await billing.call("POST", "/seek", {"to": "soon"}, 400)
        await billing.call("POST", "/seek", {"to": 0, "partition": 9}, 404)


async def test_an_offset_belongs_to_one_partition(tmp_path):
    async with stand(tmp_path, streams=[StreamSettings("events", ("#",), partitions=2)]) as it:
        billing = ConsumerClient(it)
        await billing.put()
        assert (await billing.call("POST", "/seek", {"to": 0}, 400))["type"] == "/problems/body-invalid"
        await billing.call("POST", "/seek", {"to": 0, "stream": "events", "partition": 1})


async def test_start_takes_every_place(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish("a/1", "a/2", "a/3")
        for number, (start, expected) in enumerate([
                ("earliest", 3), ("latest", 0), (1, 2), ("events:0:0", 2), ("2001-01-01T00:00:00Z", 3),
                ("2999-01-01T00:00:00Z", 0)]):
            client = ConsumerClient(it, f"c{number}")
            await client.put(start=start)
            assert len(await client.pull()) == expected, start


async def test_the_number_of_consumers_is_bounded(tmp_path):
    async with stand(tmp_path, settings=RestSettings(consumers_max=1)) as it:
        await ConsumerClient(it, "a").put()
        assert (await ConsumerClient(it, "b").put(429))["type"] == "/problems/quota-exceeded"
        await ConsumerClient(it, "a").put(200)


USERS = [("ana", "p", ()), ("bob", "p", ()), ("eve", "p", ())]
RULES = [
    Rule(allow=(Action.CONNECT,), to=("*",)),
    Rule(allow=(Action.SUBSCRIBE,), to=("user:ana", "user:bob"), topics=("a/#",)),
    Rule(allow=(Action.SUBSCRIBE,), to=("user:eve",), topics=("b/#",)),
]


async def test_who_may_not_read_it_does_not_see_it(tmp_path):
    """The owner and whoever may read all of its filters; nobody else learns that it is there."""
    async with stand(tmp_path, rules=RULES, users=USERS) as it:
        ana, bob, eve = (ConsumerClient(it, headers={"Authorization": basic(user, "p")}) for user, _, _ in USERS)
        assert (await ana.put(403, filters=["b/#"]))["type"] == "/problems/not-authorized"
        await ana.put(filters=["a/#"])
        assert (await bob.get())["user"] == "ana"
        await eve.call("GET", status=404)
        await eve.call("POST", "/pull", {}, 404)
        await eve.call("DELETE", status=404)
        assert (await eve.put(409, filters=["b/#"]))["type"] == "/problems/conflict"
        async with it.http.get("/v1/consumers", headers=eve.headers) as response:
            assert (await response.json())["consumers"] == []
