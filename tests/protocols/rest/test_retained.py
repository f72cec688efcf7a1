"""GET /v1/retained: what is retained now, and whether it is still what the client has."""
from __future__ import annotations

import pytest
import yarl

from routing.event import Event, Properties
from routing.rights.policy import Action, Rule
from tests.protocols.rest.stand import basic, stand


async def get(it, path, status=200, **headers):
    async with it.http.get(yarl.URL(it.url + path, encoded=True), headers=headers) as response:
        assert response.status == status, await response.text()
        return (await response.json(content_type=None) if status != 304 else None), response.headers.get("ETag")


def retained(*topics):
    return [Event(topic, topic.encode(), 1, retain=True) for topic in topics]


async def test_it_is_the_last_retained_event_of_each_topic(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish(*retained("a/1", "a/2", "b"), Event("a/1", b"newer", 1, retain=True), Event("a/3", b"not", 1))
        told, _ = await get(it, "/v1/retained/a/+")
        assert [(event["topic"], event["payload"]) for event in told["events"]] == [("a/1", "newer"), ("a/2", "a/2")]
        assert len((await get(it, "/v1/retained/%23"))[0]["events"]) == 3
        assert [event["topic"] for event in (await get(it, "/v1/retained/b"))[0]["events"]] == ["b"]
        assert (await get(it, "/v1/retained/nothing"))[0] == {"events": [], "next": None}


async def test_an_etag_saves_the_body_until_something_changes(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish(*retained("a/1"))
        _, tag = await get(it, "/v1/retained/a/%23")
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            assert await get(it, "/v1/retained/a/%23", 304, **{"If-None-Match": known}) == (None, tag)
        await it.publish(Event("a/1", b"newer", 1, retain=True))
        told, newer = await get(it, "/v1/retained/a/%23", 200, **{"If-None-Match": tag})
        assert newer != tag and told["events"][0]["payload"] == "newer"
        await it.publish(Event("a/1", b"", 1, retain=True))
        assert (await get(it, "/v1/retained/a/%23", 200, **{"If-None-Match": newer}))[0]["events"] == []


async def test_pages_in_the_order_of_topics(tmp_path, monkeypatch):
    monkeypatch.setattr("protocols.rest.reading.retained.STEP_EVENTS", 3)
    async with stand(tmp_path) as it:
        names = [f"t/{number:02}" for number in range(25)]
        await it.publish(*retained(*reversed(names)))
        found, after = [], ""
        while after is not None:
            told, _ = await get(it, f"/v1/retained/t/%23?limit=4&after={after}")
            found += [event["topic"] for event in told["events"]]
            after = told["next"]
        assert found == names


@pytest.mark.parametrize("path", ["/v1/retained/", "/v1/retained/a/%23/b", "/v1/retained/a?limit=0",
                                  "/v1/retained/a?what=1", "/v1/retained/%ff", "/v1/retained/a?limit=99999999"])
async def test_what_cannot_be_asked_is_400(tmp_path, path):
    async with stand(tmp_path) as it:
        await get(it, path, 400)


async def test_expired_and_denied_ones_are_not_shown(tmp_path):
    rules = [Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("user:tester",)),
             Rule(allow=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/#",)),
             Rule(deny=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/secret",))]
    async with stand(tmp_path, rules=rules, users=[("ana", "p", ())]) as it:
        gone = Event("a/gone", b"x", 1, retain=True, properties=Properties(expires_at_ms=it.clock_ms() - 1))
        await it.publish(*retained("a/1", "a/secret", "b"), gone)
        ana = {"Authorization": basic("ana", "p")}
        assert [event["topic"] for event in (await get(it, "/v1/retained/a/%23", **ana))[0]["events"]] == ["a/1"]
        await get(it, "/v1/retained/b", 403, **ana)
        await get(it, "/v1/retained/%23", 403, **ana)
