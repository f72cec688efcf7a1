"""Queues over HTTP: declared, bound, pulled from, rejected, purged, browsed."""
from __future__ import annotations

import pytest

from routing.event import Event
from routing.rights.policy import Action, Rule
from tests.protocols.rest.consumer_client import ConsumerClient, topics
from tests.protocols.rest.stand import basic, stand


class QueueClient(ConsumerClient):
    async def declare(self, status=201, filters=(), queue=None, **body):
        return await self.call("PUT", "", {"filters": list(filters), "queue": queue or {}, **body}, status)

    async def browse(self, query="", status=200):
        return await self.call("GET", f"/events{query}", status=status)


async def test_a_queue_gets_what_its_bindings_match_and_what_goes_straight_to_it(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        made = await work.declare(filters=["orders/+"], queue={"max_length": 10})
        assert (made["kind"], made["filters"], made["queue"]["max_length"]) == ("queue", ["orders/+"], 10)
        assert made["queue"]["topic"] == "$queue/work" and made["dead_letter_topic"] is None
        async with it.http.post(f"{it.url}/v1/events/$queue/work", data=b"straight") as response:
            assert response.status == 200
        await it.publish("orders/1", "other/1")
        assert (await work.get())["ready"] == 2
        events = await work.pull()
        assert sorted(topics(events)) == ["$queue/work", "orders/1"]
        assert (await work.get())["unacked"] == 2
        await work.ack(events)
        assert (await work.get())["ready"] == (await work.get())["unacked"] == 0


async def test_rejected_events_go_to_the_dead_letters_by_template_with_their_history(tmp_path):
    async with stand(tmp_path) as it:
        work, parked = QueueClient(it, "work"), QueueClient(it, "parked")
        await work.declare(filters=["orders/#"], dead_letter_topic="parked/{queue}/{rest}")
        await parked.declare(filters=["parked/#"])
        await it.publish("orders/eu/1", "orders/us/2")
        events = await work.pull()
        assert await work.answer("reject", events[:1]) == {"rejected": 1, "stale": []}
        assert await work.answer("reject", events[:1]) == {"rejected": 0, "stale": [events[0]["token"]]}
        (dead,) = await parked.pull(wait_s=5)
        assert dead["topic"] == "parked/work/eu/1"
        headers = dict(map(tuple, dead["headers"]))
        assert headers["dead-letter-reason"] == "rejected" and headers["dead-letter-topic"] == "orders/eu/1"
        assert (await work.get())["unacked"] == 1


async def test_without_dead_letters_rejecting_is_the_end(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a"])
        await it.publish("a")
        await work.answer("reject", await work.pull())
        shown = await work.get()
        assert (shown["ready"], shown["unacked"], shown["dead_lettered"]) == (0, 0, 0)


async def test_a_plain_consumer_rejects_too(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(filters=["a"])
        await it.publish("a")
        dead = ConsumerClient(it, "dead")
        await dead.put(filters=["dead-letter/billing"])
        await billing.answer("reject", await billing.pull())
        assert topics(await dead.pull(wait_s=5)) == ["dead-letter/billing"]
        (letter,) = (await billing.call("GET", "/dead-letters"))["dead_letters"]
        assert dict(map(tuple, letter["headers"]))["dead-letter-reason"] == "rejected"


async def test_the_limit_of_deliveries_and_the_time_to_live(tmp_path):
    async with stand(tmp_path) as it:
        work, parked = QueueClient(it, "work"), QueueClient(it, "parked")
        await work.declare(filters=["a"], max_deliveries=2, dead_letter_topic="parked")
        await parked.declare(filters=["parked"], queue={"message_ttl_ms": 60_000})
        await it.publish("a")
        await work.answer("nack", await work.pull())
        (again,) = await work.pull(wait_s=5)
        assert again["attempt"] == 2 and again["redelivered"]
        await work.answer("nack", [again])
        (dead,) = await parked.pull(wait_s=5)
        assert dict(map(tuple, dead["headers"]))["dead-letter-reason"] == "delivery_limit"


async def test_a_full_queue_refuses_its_publisher_or_drops_its_head(tmp_path):
    async with stand(tmp_path) as it:
        strict, lax = QueueClient(it, "strict"), QueueClient(it, "lax")
        await strict.declare(filters=["a"], queue={"max_length": 2, "overflow": "reject-publish"})
        await lax.declare(filters=["b"], queue={"max_length": 2})
        await it.publish("a", "a", "b", "b", "b")
        async with it.http.post(f"{it.url}/v1/events/a", data=b"3") as response:
            assert response.status in (429, 503, 507), await response.text()
        assert (await strict.get())["ready"] == (await lax.get())["ready"] == 2


async def test_purge_takes_what_is_ready_and_leaves_what_is_out(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a"])
        await it.publish(*["a"] * 10)
        out = await work.pull(3)
        assert await work.call("POST", "/purge") == {"purged": 7}
        assert (await work.get())["unacked"] == 3 and await work.pull() == []
        await work.answer("nack", out, delay_s=0)
        assert len(await work.pull()) == 3


async def test_browsing_takes_nothing_and_goes_on_page_by_page(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a/#"])
        await it.publish(*[f"a/{number}" for number in range(250)])
        found, after = [], ""
        while after is not None:
            page = await work.browse(f"?limit=60&after={after}")
            assert len(page["events"]) <= 60
            found, after = found + topics(page["events"]), page["next"]
        assert found == [f"a/{number}" for number in range(250)]
        assert (await work.get())["ready"] == 250
        for bad in ("?limit=0", "?after=x", "?limit=5000", "?colour=1"):
            assert (await work.browse(bad, 400))["type"] == "/problems/query-invalid"


async def test_browsing_large_events_is_bounded_in_bytes(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a"])
        await it.publish(*[Event("a", bytes(200_000), 1) for _ in range(64)])
        page = await work.browse("?limit=1000")
        assert 5 < len(page["events"]) < 40 and page["next"]


async def test_declaring_again_changes_bindings_and_says_what_cannot_change(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a", "b"])
        changed = await work.declare(200, filters=["b", "c"], max_deliveries=3)
        assert changed["filters"] == ["b", "c"] and changed["max_deliveries"] == 3
        await it.publish("a", "b", "c")
        assert topics(await work.pull()) == ["b", "c"]
        told = await work.declare(409, filters=["b"], queue={"max_length": 5})
        assert "max_length null" in told["detail"]
        assert (await ConsumerClient(it, "work").put(409))["type"] == "/problems/conflict"
        await ConsumerClient(it, "plain").put(filters=["a"])
        assert (await QueueClient(it, "plain").declare(409, filters=["a"]))["type"] == "/problems/conflict"


@pytest.mark.parametrize("body", [
    {"queue": {"max_length": -1}}, {"queue": {"max_priority": 0}}, {"queue": {"colour": 1}}, {"queue": 5},
    {"queue": {"overflow": "explode"}}, {"queue": {}, "mode": "exclusive"}, {"queue": {}, "start": "earliest"},
    {"queue": {}, "dead_letter_topic": "a/+"}, {"queue": {"message_ttl_ms": 2**60}},
])
async def test_what_makes_no_queue_is_400_and_makes_none(tmp_path, body):
    async with stand(tmp_path) as it:
        told = await QueueClient(it).call("PUT", "", {"filters": [], **body}, 400)
        assert told["type"] == "/problems/body-invalid"
        assert not it.router.consumers


async def test_a_filter_that_may_not_be_read_makes_no_queue(tmp_path):
    allowed = (Action.CONNECT, Action.SUBSCRIBE, Action.PUBLISH)
    rules = (Rule(allow=allowed, to=("user:ana",), topics=("a/#", "$queue/#")),)
    async with stand(tmp_path, rules=rules, users=[("ana", "pw", ())]) as it:
        work = QueueClient(it, "work", headers={"Authorization": basic("ana", "pw")})
        assert (await work.declare(403, filters=["a/1", "b"]))["type"] == "/problems/not-authorized"
        assert not it.router.consumers and not it.router.queues.by_name
        await work.declare(filters=["a/1"])
        assert (await work.declare(403, filters=["a/1", "b"]))["type"] == "/problems/not-authorized"
        assert (await work.get())["filters"] == ["a/1"]


async def test_higher_priorities_come_first(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a/#"], queue={"max_priority": 9})
        for number, priority in enumerate((0, 5, 9)):
            async with it.http.post(f"{it.url}/v1/events/a/{number}", data=b"",
                                    headers={"Meshgate-Priority": str(priority)}) as response:
                assert response.status == 200
        assert topics(await work.pull()) == ["a/2", "a/1", "a/0"]


async def test_a_deleted_queue_is_gone_with_its_bindings(tmp_path):
    async with stand(tmp_path) as it:
        work = QueueClient(it, "work")
        await work.declare(filters=["a"])
        await work.call("DELETE", status=204)
        await work.declare(filters=["b"])
        await it.publish("a", "b")
        assert topics(await work.pull()) == ["b"]
