"""Pull, ack, nack, extend: any client may go on where another one stopped."""
from __future__ import annotations

import asyncio
import base64
import time

import pytest

from protocols.rest.settings import RestSettings
from routing.errors import Reason, Refusal
from routing.event import Event, Properties
from routing.ticket import Ticket
from tests.protocols.rest.consumer_client import ConsumerClient, topics
from tests.protocols.rest.stand import eventually, stand
from tests.support.wait import DEADLINE_S


async def test_two_clients_in_turn_lose_and_repeat_nothing(tmp_path):
    async with stand(tmp_path) as it:
        one, two = ConsumerClient(it, client="one"), ConsumerClient(it, client="two")
        await one.put(mode="exclusive")
        await it.publish(*(f"t/{number}" for number in range(50)))
        seen = []
        for turn in range(100):
            client = (one, two)[turn % 2]
            events = await client.pull(3)
            if not events:
                break
            seen += events
            assert (await client.ack(events)) == {"acked": len(events), "stale": []}
        assert topics(seen) == [f"t/{number}" for number in range(50)]
        assert {event["attempt"] for event in seen} == {1}
        assert not any(event["redelivered"] for event in seen)
        assert (await one.get())["lag"] == {"events": 0, "seconds": 0.0, "state": "exact"}


async def test_another_client_may_ack_what_this_one_pulled(tmp_path):
    async with stand(tmp_path) as it:
        one, two = ConsumerClient(it), ConsumerClient(it)
        await one.put()
        await it.publish("a", "b")
        events = await one.pull()
        assert (await two.ack(events[:1]))["acked"] == 1
        assert (await two.ack(events))["acked"] == 2            # saying it again is no error
        assert (await one.get())["lag"]["events"] == 0


async def test_a_pull_waits_for_events_and_costs_nothing_meanwhile(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        pulls = [asyncio.create_task(billing.pull(1, wait_s=20)) for _ in range(3)]
        await eventually(lambda: it.rest.pullers.waiting == 3, "three pulls wait")
        await it.publish("a", "b", "c")
        events = [event for pull in pulls for event in await asyncio.wait_for(pull, DEADLINE_S)]
        assert sorted(topics(events)) == ["a", "b", "c"]
        started = time.monotonic()
        assert await billing.pull(wait_s=0.2) == []
        assert 0.15 < time.monotonic() - started < 20


async def test_a_client_that_vanishes_while_it_waits_loses_nothing(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        body = b'{"wait_s":30}'
        _, writer = await it.connect()
        writer.write(b"POST /v1/consumers/billing/pull HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                     % (len(body), body))
        await eventually(lambda: it.rest.pullers.waiting == 1, "the pull waits")
        writer.transport.abort()
        await eventually(lambda: it.rest.pullers.waiting == 0, "the node has noticed")
        await it.publish("a")
        events = await billing.pull()
        assert (topics(events), events[0]["attempt"]) == (["a"], 1)


async def test_what_nobody_answers_comes_back_marked(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(ack_timeout_s=0.2)
        await it.publish("a")
        first = await billing.pull()
        again = await billing.pull(wait_s=10)
        assert (again[0]["attempt"], again[0]["redelivered"], again[0]["id"]) == (2, True, first[0]["id"])
        assert (await billing.ack(first))["acked"] == 1         # the late ack of the first attempt counts
        assert (await billing.get())["lag"]["events"] == 0


async def test_extend_gives_more_time_and_only_to_the_latest_attempt(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(ack_timeout_s=1.5)
        await it.publish("a")
        first = await billing.pull()
        assert (await billing.answer("extend", first, seconds=30))["extended"] == 1
        assert await billing.pull(wait_s=2.0) == []
        assert (await billing.answer("nack", first))["nacked"] == 1
        second = await billing.pull(wait_s=20)
        assert second[0]["attempt"] == 2
        assert await billing.answer("extend", first, seconds=1) == {"extended": 0, "stale": [first[0]["token"]]}


async def test_nack_with_a_delay(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a")
        assert (await billing.answer("nack", await billing.pull(), delay_s=1.5))["nacked"] == 1
        assert await billing.pull() == []
        assert (await billing.pull(wait_s=20))[0]["attempt"] == 2


async def test_tokens_survive_a_restart(tmp_path):
    """What was pulled before may be acked after; the rest comes again, marked."""
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a", "b", "c")
        events = await billing.pull()
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        assert (await billing.ack(events[:2])) == {"acked": 2, "stale": []}
        rest = await billing.pull()
        assert (topics(rest), rest[0]["redelivered"]) == (["c"], True)


async def test_a_seek_makes_older_tokens_stale(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a", "b")
        events = await billing.pull()
        await billing.call("POST", "/seek", {"to": "earliest"})
        assert len((await billing.ack(events))["stale"]) == 2
        assert topics(await billing.pull()) == ["a", "b"]


async def test_a_token_of_another_consumer_is_no_token(tmp_path):
    async with stand(tmp_path) as it:
        billing, other = ConsumerClient(it), ConsumerClient(it, "other")
        await billing.put()
        await other.put()
        await it.publish("a")
        events = await other.pull()
        for tokens in (events, ["", "x", "é", "A" * 500]):
            assert (await billing.ack(tokens, 400))["type"] == "/problems/token-invalid"
        raw = bytearray(base64.urlsafe_b64decode(events[0]["token"] + "=="))
        raw[8] ^= 1
        assert (await other.ack([base64.urlsafe_b64encode(raw).decode().rstrip("=")], 400))["status"] == 400
        assert (await other.ack([], 400))["type"] == "/problems/body-invalid"
        assert (await billing.get())["lag"]["events"] == 1


async def test_a_second_client_of_an_exclusive_consumer_is_refused_while_the_first_holds_events(tmp_path):
    async with stand(tmp_path) as it:
        one, two = ConsumerClient(it, client="one"), ConsumerClient(it, client="two")
        await one.put(mode="exclusive")
        await it.publish("a")
        events = await one.pull()
        assert (await two.pull(status=409))["type"] == "/problems/conflict"
        await one.ack(events)
        assert await two.pull() == []


async def test_failover_the_second_client_waits_for_the_first_to_leave(tmp_path):
    async with stand(tmp_path, settings=RestSettings(consumer_client_lease_s=0.5)) as it:
        one, two = ConsumerClient(it, client="one"), ConsumerClient(it, client="two")
        await one.put(mode="failover")
        await it.publish("a", "b")
        events = await one.pull(1)
        assert await two.pull() == []
        await one.ack(events)
        assert topics(await two.pull(wait_s=10)) == ["b"]       # once the first has been silent for its lease


async def test_key_shared_keeps_each_key_at_one_client(tmp_path):
    async with stand(tmp_path) as it:
        clients = [ConsumerClient(it, client=name) for name in ("one", "two")]
        await clients[0].put(mode="key-shared")
        for client in clients:
            await client.pull()
        await it.publish(*(Event("t", b"%d" % number, 1, key=b"k%d" % (number % 8)) for number in range(64)))
        owners = {}
        count = 0
        for _ in range(20):
            for client in clients:
                events = await client.pull(5)
                count += len(events)
                for event in events:
                    assert owners.setdefault(event["key"], client.client) == client.client
                if events:
                    await client.ack(events)
        assert count == 64
        assert set(owners.values()) == {"one", "two"}


async def test_a_pull_is_bounded_in_bytes_and_one_large_event_goes_alone(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish(*(Event("t", b"%d" % number * 60_000, 1) for number in range(5)))
        sizes = []
        while events := await billing.pull(max_bytes=130_000):
            sizes.append(len(events))
            assert all(event["attempt"] == 1 for event in events)
            await billing.ack(events)
        assert sizes == [2, 2, 1]
        await it.publish(Event("t", b"x" * 200_000, 1))
        assert len(await billing.pull(max_bytes=1)) == 1


async def test_expired_events_are_not_shown(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        gone = Event("gone", b"", 1, properties=Properties(expires_at_ms=it.clock_ms() - 1))
        await it.publish(gone, "here")
        assert topics(await billing.pull()) == ["here"]


async def test_the_in_flight_limit_holds(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put(max_in_flight=2)
        await it.publish("a", "b", "c")
        events = await billing.pull()
        assert topics(events) == ["a", "b"]
        assert await billing.pull() == []
        await billing.ack(events)
        assert topics(await billing.pull()) == ["c"]


async def test_pulls_that_wait_are_bounded(tmp_path):
    async with stand(tmp_path, settings=RestSettings(pulls_waiting_max=1)) as it:
        billing = ConsumerClient(it)
        await billing.put()
        waiting = asyncio.create_task(billing.pull(wait_s=30))
        await eventually(lambda: it.rest.pullers.waiting == 1, "a pull waits")
        assert (await billing.pull(status=503))["type"] == "/problems/overloaded"
        await it.publish("a")
        assert topics(await waiting) == ["a"]


async def test_deleting_a_consumer_ends_the_pulls_that_wait(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        waiting = asyncio.create_task(billing.pull(wait_s=30, status=404))
        await eventually(lambda: it.rest.pullers.waiting == 1, "a pull waits")
        await billing.call("DELETE", status=204)
        assert (await waiting)["type"] == "/problems/not-found"


async def test_a_stop_answers_the_pulls_that_wait(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        waiting = asyncio.create_task(billing.pull(wait_s=30))
        await eventually(lambda: it.rest.pullers.waiting == 1, "a pull waits")
        await it.rest.shutdown()
        assert await waiting == []


@pytest.mark.parametrize("body", [{"max": 0}, {"wait_s": -1}, {"client": "x" * 129}, {"what": 1}])
async def test_a_pull_body_that_is_none(tmp_path, body):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        assert (await billing.call("POST", "/pull", body, 400))["type"] == "/problems/body-invalid"


async def test_respond_async_does_not_wait_for_the_disk(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a")
        tokens = [event["token"] for event in await billing.pull()]
        told = await billing.call("POST", "/ack", {"tokens": tokens}, 202, {"Prefer": "respond-async"})
        assert told == {"acked": 1, "stale": []}


async def test_a_large_answer_is_sent_in_pieces(tmp_path):
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish(*(Event("t", b"x" * 1_000, 1) for _ in range(400)))
        events = await billing.pull(400)
        assert len(events) == 400
        assert len((await billing.ack(events))["stale"]) == 0


async def test_an_ack_that_is_not_on_disk_is_not_answered_as_one(tmp_path, monkeypatch):
    """507, and the client says it again."""
    async with stand(tmp_path) as it:
        billing = ConsumerClient(it)
        await billing.put()
        await it.publish("a")
        events = await billing.pull()
        put = it.router.state.put

        def full(key, value):
            ticket = Ticket([Event(key, value)])
            ticket.refusals[0] = Refusal(Reason.STORAGE_FULL, "the disk is full")
            ticket.part_done()
            return ticket

        monkeypatch.setattr(it.router.state, "put", full)
        assert (await billing.ack(events, 507))["type"] == "/problems/storage-full"
        monkeypatch.setattr(it.router.state, "put", put)
        assert (await billing.ack(events))["acked"] == 1
