"""Streams and pages of what they hold."""
from __future__ import annotations

import pytest

from protocols.rest.reading import streams as module
from protocols.rest.settings import RestSettings
from routing.event import Event, Properties
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.rest.stand import basic, stand

THREE = [StreamSettings("events", ("#",), partitions=3)]


async def get(it, path, status=200, **headers):
    async with it.http.get(path, headers=headers) as response:
        told = await response.json(content_type=None)
        assert response.status == status, told
        return told


async def pages(it, query="", name="events"):
    """Every event, following next from page to page."""
    events, start = [], "earliest"
    while True:
        page = await get(it, f"/v1/streams/{name}/events?from={start}{query}")
        events += page["events"]
        start = page["next"]
        if page["end"]:
            return events


async def test_the_list_says_what_a_stream_captures_and_holds(tmp_path):
    streams = [StreamSettings("events", ("#",)), StreamSettings("orders", ("orders/#",), partitions=2)]
    async with stand(tmp_path, streams=streams) as it:
        await it.publish("a", "b")
        told = await get(it, "/v1/streams")
        assert [(row["name"], row["capture"], len(row["partitions"])) for row in told["streams"]] == [
            ("events", ["#"], 1), ("orders", ["orders/#"], 2)]
        assert told["streams"][0]["partitions"][0]["end"] == 2
        assert (await get(it, "/v1/streams/orders"))["name"] == "orders"
        assert (await get(it, "/v1/streams/nothing", 404))["type"] == "/problems/not-found"


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_give_every_event_once_in_the_order_of_each_partition(tmp_path, limit):
    async with stand(tmp_path, streams=THREE) as it:
        for number in range(60):
            await it.publish(f"t/{number % 10}")
        found = await pages(it, f"&limit={limit}")
        assert len({event["id"] for event in found}) == len(found) == 60
        for index in range(3):
            offsets = [event["offset"] for event in found if event["partition"] == index]
            assert offsets == sorted(offsets)
        times = [event["time"] for event in found]
        assert times == sorted(times)


async def test_the_cursor_goes_on_with_what_came_later(tmp_path):
    async with stand(tmp_path, streams=THREE) as it:
        await it.publish("a")
        page = await get(it, "/v1/streams/events/events")
        assert page["end"] and len(page["events"]) == 1
        await it.publish("b", "c")
        page = await get(it, f"/v1/streams/events/events?from={page['next']}")
        assert sorted(event["topic"] for event in page["events"]) == ["b", "c"]
        again = await get(it, f"/v1/streams/events/events?from={page['next']}")
        assert (again["events"], again["end"]) == ([], True)


async def test_from_takes_every_place(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish("a", "b", "c")
        for start, count in (("earliest", 3), ("latest", 0), ("1", 2), ("9" * 18, 0), ("events:0:0", 2),
                             ("2001-01-01T00:00:00Z", 3), ("2999-01-01T00:00:00Z", 0)):
            assert len((await get(it, f"/v1/streams/events/events?from={start}"))["events"]) == count, start
        for query in ("from=soon", "limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "page=-1", "filter=%23/a",
                      "limit=9999999999999999999", "from=%ff"):
            assert (await get(it, f"/v1/streams/events/events?{query}", 400))["status"] == 400


async def test_a_page_may_be_filtered(tmp_path):
    async with stand(tmp_path, streams=THREE) as it:
        await it.publish("a/1", "b/1", "a/2", "c")
        found = await pages(it, "&filter=a/%2B&filter=c")
        assert sorted(event["topic"] for event in found) == ["a/1", "a/2", "c"]


async def test_a_page_that_has_looked_at_enough_is_short_and_goes_on(tmp_path, monkeypatch):
    """A rare filter costs a bounded amount of work per request."""
    monkeypatch.setattr(module, "PAGE_SCANNED", 50)
    monkeypatch.setattr(module, "STEP_SCANNED", 20)
    async with stand(tmp_path, streams=THREE) as it:
        await it.publish(*(Event(f"t/{number % 7}", b"x", 1) for number in range(400)), "rare")
        count, start = 0, "earliest"
        found = []
        while True:
            page = await get(it, f"/v1/streams/events/events?from={start}&filter=rare")
            count, start = count + 1, page["next"]
            found += page["events"]
            if page["end"]:
                break
        assert [event["topic"] for event in found] == ["rare"]
        assert count > 2


async def test_a_page_is_bounded_in_bytes(tmp_path):
    async with stand(tmp_path, settings=RestSettings(page_bytes_max=10_000)) as it:
        await it.publish(*(Event("t", b"x" * 4_000, 1) for _ in range(7)))
        page = await get(it, "/v1/streams/events/events")
        assert len(page["events"]) == 3 and not page["end"]
        assert len(await pages(it)) == 7


async def test_expired_events_are_left_out(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish(Event("gone", b"", 1, properties=Properties(expires_at_ms=it.clock_ms() - 1)), "here")
        assert [event["topic"] for event in await pages(it)] == ["here"]


async def test_nobody_reads_what_no_rule_allows(tmp_path):
    rules = [Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("user:tester",)),
             Rule(allow=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/#",)),
             Rule(deny=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/secret",))]
    async with stand(tmp_path, rules=rules, users=[("ana", "p", ()), ("eve", "p", ())]) as it:
        await it.publish("a/1", "a/secret", "b/1")
        ana, eve = ({"Authorization": basic(user, "p")} for user in ("ana", "eve"))
        page = await get(it, "/v1/streams/events/events", **ana)
        assert [event["topic"] for event in page["events"]] == ["a/1"]
        assert (await get(it, "/v1/streams/events/events?filter=b/1", 403, **ana))["type"] == "/problems/not-authorized"
        assert (await get(it, "/v1/streams", **eve))["streams"] == []
        await get(it, "/v1/streams/events/events", 404, **eve)
