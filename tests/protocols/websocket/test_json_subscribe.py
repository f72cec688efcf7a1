"""/v1/ws: live and durable subscriptions, credit, acks, resume, and what a slow reader is told."""
from __future__ import annotations

import asyncio
import time

import pytest

from protocols.websocket.settings import WebSocketSettings
from routing.event import Event, Properties
from routing.settings import StreamSettings
from tests.protocols.rest.stand import eventually

from .json_client import Client, ws_stand


def payloads(messages):
    return [message["event"]["payload"] for message in messages]


async def test_a_live_subscription_gets_what_is_published_from_then_on(tmp_path):
    async with ws_stand(tmp_path) as it:
        await it.publish("plant/old")
        client = await Client.open(it)
        answer = await client.subscribe("lamps", "plant/#")
        assert answer["subscription"] == "lamps" and answer["filters"] == ["plant/#"] and answer["position"]
        await it.publish("plant/a", "other", "plant/b")
        assert payloads(await client.events(2)) == ["plant/a", "plant/b"]
        client.close()


@pytest.mark.parametrize("start", ["earliest", "2000-01-01T00:00:00Z"])
async def test_from_reaches_back(tmp_path, start):
    async with ws_stand(tmp_path) as it:
        await it.publish("a", "b")
        client = await Client.open(it)
        await client.subscribe("s", "#", from_=start)
        assert payloads(await client.events(2)) == ["a", "b"]
        client.close()


async def test_a_client_that_comes_back_with_its_position_gets_each_event_once(tmp_path):
    """Over several partitions, and with events that came while it was away."""
    async with ws_stand(tmp_path, streams=[StreamSettings("events", ("#",), partitions=4)]) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#")
        await it.publish(*(f"t/{number}" for number in range(40)))
        got = await client.events(25)
        client.close()
        await it.publish(*(f"t/{number}" for number in range(40, 60)))
        again = await Client.open(it)
        await again.subscribe("s", "#", from_=got[-1]["position"])
        got += await again.events(35)
        assert sorted(payloads(got)) == sorted(f"t/{number}" for number in range(60))
        again.close()


async def test_a_position_of_another_log_is_refused(tmp_path):
    async with ws_stand(tmp_path / "one") as it:
        client = await Client.open(it)
        position = (await client.subscribe("s", "#"))["position"]
        client.close()
    async with ws_stand(tmp_path / "two") as it:
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", filters=["#"], from_=position)
        assert await client.refused(1) == "position-lost"
        client.close()


async def test_an_empty_position_is_refused_and_not_taken_for_now(tmp_path):
    """Such as that of a client whose state was cut short by a crash: silence would be a loss."""
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", filters=["#"], from_="")
        assert await client.refused(1) == "position-invalid"
        client.close()


async def test_credit_says_how_many_events_come(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", credit=2, from_="earliest")
        await it.publish(*(str(number) for number in range(10)))
        assert payloads(await client.events(2)) == ["0", "1"]
        client.say("ping", id=1)
        await client.hear("pong", id=1)                 # nothing came in between
        client.say("credit", subscription="s", add=3)
        assert payloads(await client.events(3)) == ["2", "3", "4"]
        client.say("ping", id=2)
        await client.hear("pong", id=2)
        client.close()


async def test_a_durable_consumer_gives_again_what_was_not_acked_and_says_so(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        answer = await client.subscribe("s", "#", consumer="billing", from_="earliest")
        assert answer["consumer"] == "billing" and answer["mode"] == "exclusive"
        await it.publish("a", "b", "c", "d")
        got = await client.events(4)
        assert [message["delivery"] for message in got] == [1, 2, 3, 4]
        assert not any("redelivered" in message for message in got)
        client.say("ack", subscription="s", up_to=2)
        client.say("ack", subscription="s", deliveries=[4])
        client.say("ping", id=1)
        await client.hear("pong")
        client.close()
        await eventually(lambda: not len(it.router.consumers["billing"].members), "the old connection is gone")
        await it.publish("e")
        again = await Client.open(it)
        await again.subscribe("s", consumer="billing")
        got = await again.events(2)
        assert payloads(got) == ["c", "e"]
        assert got[0]["redelivered"] is True and got[0]["attempt"] == 2 and "redelivered" not in got[1]
        again.close()


async def test_nack_brings_an_event_again_after_its_delay(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="c", from_="earliest")
        await it.publish("a")
        assert (await client.hear("event"))["delivery"] == 1
        start = time.monotonic()
        client.say("nack", subscription="s", deliveries=[1], delay_ms=300)
        again = await client.hear("event")
        assert again["delivery"] == 2 and again["redelivered"] is True
        assert time.monotonic() - start >= 0.3
        client.close()


async def test_unacked_deliveries_are_bounded(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(unacked_max=3)) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="c", from_="earliest")
        await it.publish(*(str(number) for number in range(10)))
        await client.events(3)
        client.say("ping", id=1)
        await client.hear("pong")
        client.say("ack", subscription="s", up_to=1)
        assert payloads([await client.hear("event")]) == ["3"]
        client.close()


async def test_a_second_reader_of_an_exclusive_consumer_is_refused_or_takes_over(tmp_path):
    async with ws_stand(tmp_path) as it:
        first, second = await Client.open(it), await Client.open(it)
        await first.subscribe("s", "#", consumer="c")
        second.say("subscribe", id=1, subscription="s", consumer="c")
        assert await second.refused(1) == "conflict"
        await second.subscribe("s", consumer="c", takeover=True)
        closed = await first.hear("closed")
        assert closed["subscription"] == "s" and closed["problem"] == "/problems/taken-over"
        await it.publish("a")
        assert payloads(await second.events(1)) == ["a"]
        first.close()
        second.close()


async def test_shared_members_get_each_event_once_between_them(tmp_path):
    async with ws_stand(tmp_path) as it:
        clients = [await Client.open(it) for _ in range(2)]
        for client in clients:
            await client.subscribe("s", "#", consumer="c", mode="shared")
        await it.publish(*(str(number) for number in range(50)))
        tasks = [asyncio.ensure_future(_drain(client)) for client in clients]
        await eventually(lambda: it.router.consumers["c"].acked == 50, "all are acked")
        got = []
        for task, client in zip(tasks, clients):
            client.close()
            got += await task
        assert sorted(got, key=int) == [str(number) for number in range(50)]


async def _drain(client):
    got = []
    try:
        while True:
            message = await client.next()
            got.append(message["event"]["payload"])
            client.say("ack", subscription="s", deliveries=[message["delivery"]])
    except (asyncio.IncompleteReadError, ConnectionError):
        return got


async def test_new_filters_of_a_consumer_replace_the_old_ones_and_keep_its_options(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("s", "a", consumer="c", max_deliveries=7)
        client.say("unsubscribe", id=2, subscription="s")
        await client.hear("unsubscribed", id=2)
        await client.subscribe("s", "b", consumer="c")
        assert list(it.router.consumers["c"].filters) == ["b"]
        assert it.router.consumers["c"].spec.max_deliveries == 7
        client.close()


async def test_unsubscribe_keeps_a_consumer_unless_asked_to_delete_it(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="c")
        client.say("unsubscribe", id=1, subscription="s")
        await client.hear("unsubscribed")
        assert "c" in it.router.consumers
        await client.subscribe("s", consumer="c")
        client.say("unsubscribe", id=2, subscription="s", delete=True)
        await client.hear("unsubscribed")
        assert "c" not in it.router.consumers
        client.close()


async def test_a_consumer_that_is_deleted_elsewhere_closes_its_subscription(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="c")
        it.router.delete_consumer("c")
        assert (await client.hear("closed"))["problem"] == "/problems/consumer-closed"
        await client.subscribe("s", "#")                # the name is free again
        client.close()


async def test_nothing_is_left_of_a_client_that_goes(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        await client.subscribe("one", "#")
        await client.subscribe("two", "a/#")
        assert len(it.router.consumers) == 2
        client.close()
        await eventually(lambda: not it.router.consumers and not it.ws._channels, "live consumers are gone")


async def test_expired_events_are_left_out(tmp_path):
    async with ws_stand(tmp_path) as it:
        past = it.clock_ms() - 1
        await it.publish(Event("a", b"old", 1, properties=Properties(expires_at_ms=past)), "b")
        client = await Client.open(it)
        await client.subscribe("s", "#", from_="earliest")
        assert payloads(await client.events(1)) == ["b"]
        await client.subscribe("d", "#", from_="earliest", consumer="c")
        assert payloads(await client.events(1)) == ["b"]
        client.close()


async def test_the_number_of_subscriptions_is_bounded(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(subscriptions_max=2)) as it:
        client = await Client.open(it)
        await client.subscribe("a", "#")
        client.say("subscribe", id=1, subscription="a", filters=["#"])
        assert await client.refused(1) == "conflict"
        await client.subscribe("b", "#")
        client.say("subscribe", id=2, subscription="c", filters=["#"])
        assert await client.refused(2) == "quota-exceeded"
        client.close()


async def test_a_reader_that_does_not_read_holds_little_memory_and_misses_nothing(tmp_path):
    """20 MB of events for a client that takes none of them; then it reads and has them all, in order."""
    settings = WebSocketSettings(send_buffer_bytes=32 * 1024)
    async with ws_stand(tmp_path, settings) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#")
        for start in range(0, 200, 20):
            await it.publish(*(Event("a", f"{start + number:05}".encode() * 20_000, 1) for number in range(20)))
        channel = next(iter(it.ws._channels))
        await eventually(lambda: channel.session.full, "the socket is full")
        consumer = next(iter(it.router.consumers.values()))
        held = channel.buffered_bytes() + consumer.in_flight_bytes
        assert held < 3 * 1024 * 1024, held
        for number in range(200):
            event = (await client.hear("event"))["event"]
            assert event["payload"][:5] == f"{number:05}"
        client.close()


async def test_retention_that_is_faster_than_the_reader_is_told_as_a_gap(tmp_path):
    streams = [StreamSettings("events", ("#",), retention_bytes=64 * 1024, segment_bytes=64 * 1024)]
    async with ws_stand(tmp_path, streams=streams) as it:
        client = await Client.open(it)
        await client.subscribe("live", "#", credit=0, from_="earliest")
        await client.subscribe("kept", "#", credit=0, from_="earliest", consumer="c", id="k")
        for _ in range(20):
            await it.publish(*(Event("a", bytes(10_000), 1) for _ in range(5)))
        await eventually(lambda: (it.store.maintain(it.clock_ms()), _first(it) > 0)[1], "retention took something")
        for name in ("live", "kept"):
            client.say("credit", subscription=name, add=1)
            gap = await client.hear("gap")
            assert (gap["subscription"], gap["stream"], gap["partition"], gap["from"]) == (name, "events", 0, 0)
            assert gap["to"] > 0
            assert (await client.hear("event"))["event"]["offset"] == gap["to"]
        client.close()


def _first(it):
    return next(part for part in it.store.partitions if part.stream == "events").start_offset


async def test_what_no_stream_keeps_is_told_as_missed(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(ping_interval_s=0.2),
                        streams=[StreamSettings("other", ("other/#",))]) as it:
        client = await Client.open(it)
        await client.subscribe("s", "live/#", credit=1)
        await it.publish("live/1")
        assert payloads(await client.events(1)) == ["live/1"]
        await it.publish("live/2", "live/3")
        assert (await client.hear("missed"))["events"] == 2
        client.close()


async def test_a_silent_stretch_moves_the_position_too(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(ping_interval_s=0.2)) as it:
        client = await Client.open(it)
        before = (await client.subscribe("s", "wanted"))["position"]
        await it.publish("unwanted")
        position = await client.hear("position")
        assert position["subscription"] == "s" and position["position"] != before
        client.close()


async def test_a_node_that_stops_says_so(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        stopping = asyncio.ensure_future(it.rest.shutdown())
        assert (await client.hear("goodbye"))["problem"] == "/problems/shutting-down"
        with pytest.raises(ConnectionError, match="1001"):
            await client.next()
        client.close()
        await stopping
