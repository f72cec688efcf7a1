"""GET /v1/events: server-sent events."""
from __future__ import annotations

import asyncio
import base64
import random
import socket
import time

import pytest

from protocols.formats.event_json import rfc3339
from protocols.rest.settings import RestSettings
from routing.event import Event, Properties
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.support.wait import DEADLINE_S

from .sse_client import Sse
from .stand import basic, eventually, stand

FOUR = [StreamSettings("events", ("#",), partitions=4), StreamSettings("orders", ("orders/#",), partitions=2)]


def topics(events):
    return [event["topic"] for event in events]


async def test_an_event_is_shown_whole(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "a/#")
        assert sse.status == 200
        assert b"Content-Type: text/event-stream; charset=utf-8\r\n" in sse.headers
        properties = Properties(expires_at_ms=4_000_000_000_000, content_type="text/plain", reply_to="r/1",
                                correlation=b"\xff", message_id=7, priority=4)
        await it.publish(Event("a/b", "grüß".encode(), 1, key=b"k", properties=properties, headers=(
            ("s", "x"), ("s", "y"), ("b", b"\x00\xff"), ("i", 5), ("f", 1.5), ("t", True), ("n", None),
            ("nan", float("nan")))))
        event = await sse.next()
        assert event.pop("time").endswith("Z")
        assert event == {
            "topic": "a/b", "id": "events:0:0", "stream": "events", "partition": 0, "offset": 0, "payload": "grüß",
            "key": "k", "headers": [["s", "x"], ["s", "y"], ["b", {"base64": "AP8="}], ["i", 5], ["f", 1.5],
                                    ["t", True], ["n", None], ["nan", "nan"]],
            "content_type": "text/plain", "reply_to": "r/1", "correlation_id_base64": "/w==", "message_id": 7,
            "priority": 4, "expires": "2096-10-02T07:06:40.000Z",
        }
        await it.publish(Event("a/b", b"\xff\n\n", 1, key=b"\xfe"))
        event = await sse.next()
        assert base64.b64decode(event["payload_base64"]) == b"\xff\n\n" and "payload" not in event
        assert base64.b64decode(event["key_base64"]) == b"\xfe"
        await it.publish(Event("a/c", b"", 1))
        assert (await sse.next())["payload"] == ""
        sse.close()


async def test_a_newline_in_data_or_topic_does_not_break_the_stream(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "#")
        await it.publish(Event("a\r\ndata: x", b"line 1\r\nid: 5\n\ndata: y\r", 1))
        event = await sse.next()
        assert event["topic"] == "a\r\ndata: x" and event["payload"] == "line 1\r\nid: 5\n\ndata: y\r"
        sse.close()


async def test_several_filters_and_each_event_once(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "a/+", "a/#", "b", "a/+")
        await it.publish("a/1", "c", "b", "a/1/2", "a")
        assert topics(await sse.take(4)) == ["a/1", "b", "a/1/2", "a"]
        assert await sse.nothing()
        sse.close()


async def test_a_post_arrives_at_a_reader(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "#")
        async with it.http.post("/v1/events/a/b", data=b"hello") as response:
            answer = await response.json()
        event = await sse.next()
        assert (event["id"], event["payload"]) == (answer["id"], "hello")
        sse.close()


async def test_latest_is_the_default_and_earliest_gives_everything(tmp_path):
    async with stand(tmp_path, streams=FOUR) as it:
        await it.publish(*(f"orders/{n}" for n in range(10)), *(f"x/{n}" for n in range(10)))
        live = await Sse.open(it, "#")
        past = await Sse.open(it, "#", start="earliest")
        assert await live.nothing()
        every = [f"orders/{n}" for n in range(10)] + [f"x/{n}" for n in range(10)]
        assert sorted(topics(await past.take(20))) == sorted(every)
        await it.publish("new")
        assert topics([await live.next(), await past.next()]) == ["new", "new"]
        live.close()
        past.close()


async def test_retained_events_are_not_mixed_in(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish(Event("a", b"kept", 1, retain=True))
        sse = await Sse.open(it, "#")
        assert await sse.nothing()
        sse.close()


async def test_from_a_time(tmp_path):
    async with stand(tmp_path, streams=FOUR) as it:
        await it.publish(*(f"old/{n}" for n in range(20)))
        await asyncio.sleep(0.05)
        moment = it.clock_ms()
        await asyncio.sleep(0.05)
        await it.publish(*(f"new/{n}" for n in range(20)))
        for text in (rfc3339(moment), rfc3339(moment).replace("Z", "+00:00")):
            sse = await Sse.open(it, "#", start=text)
            assert sorted(topics(await sse.take(20))) == sorted(f"new/{n}" for n in range(20))
            sse.close()


async def test_from_the_id_of_a_published_event_gives_what_came_after_it(tmp_path):
    async with stand(tmp_path, streams=FOUR) as it:
        await it.publish(*(f"old/{n}" for n in range(20)))
        await asyncio.sleep(0.02)
        async with it.http.post("/v1/events/mark", data=b"") as response:
            mark = (await response.json())["id"]
        await asyncio.sleep(0.02)
        await it.publish(*(f"new/{n}" for n in range(20)))
        sse = await Sse.open(it, "#", start=mark)
        assert sorted(topics(await sse.take(20))) == sorted(f"new/{n}" for n in range(20))
        assert await sse.nothing()
        sse.close()


async def test_resume_is_exact_across_partitions_streams_and_restarts(tmp_path):
    """A reader that is cut off at any event and comes back with its last id gets every event exactly once."""
    seen, sent, last_id = [], 0, None
    dice = random.Random(7)
    for _ in range(4):
        async with stand(tmp_path, streams=FOUR) as it:
            sse = await Sse.open(it, "orders/#", "x/+", last_id=last_id, start="earliest")
            last_id = sse.last_id
            for _ in range(3):
                count = dice.randrange(10, 40)
                await it.publish(*(f"{dice.choice(['orders', 'x', 'ignored'])}/{sent + n}" for n in range(count)))
                sent += count
                for _ in range(dice.randrange(0, 12)):
                    try:
                        seen.append((await sse.next(1))["id"])
                    except TimeoutError:
                        break
                    last_id = sse.last_id
                sse.abort()
                sse = await Sse.open(it, "orders/#", "x/+", last_id=last_id)
            sse.abort()
    async with stand(tmp_path, streams=FOUR) as it:
        sse = await Sse.open(it, "orders/#", "x/+", last_id=last_id)
        try:
            while True:
                seen.append((await sse.next(0.5))["id"])
        except TimeoutError:
            sse.close()
        every = await Sse.open(it, "orders/#", "x/+", start="earliest")
        expected = []
        try:
            while True:
                expected.append((await every.next(0.5))["id"])
        except TimeoutError:
            every.close()
    assert len(seen) == len(set(seen)), "an event came twice"
    assert sorted(seen) == sorted(expected)
    for stream in ("events", "orders"):
        for partition in range(4):
            mine = [name for name in seen if name.startswith(f"{stream}:{partition}:")]
            assert mine == sorted(mine, key=lambda name: int(name.split(":")[2])), "out of order"


async def test_the_first_id_resumes_even_before_any_event(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "#")
        last_id = sse.last_id
        assert last_id and sse.retry == 2000
        sse.abort()
        await it.publish("missed")
        sse = await Sse.open(it, "#", last_id=last_id)
        assert (await sse.next())["topic"] == "missed"
        sse.close()


async def test_last_event_id_wins_over_from(tmp_path):
    async with stand(tmp_path) as it:
        await it.publish("a", "b")
        first = await Sse.open(it, "#", start="earliest")
        assert (await first.next())["topic"] == "a"
        again = await Sse.open(it, "#", start="earliest", last_id=first.last_id)
        assert (await again.next())["topic"] == "b"
        first.close()
        again.close()


async def test_a_stream_that_is_new_since_the_id_is_read_from_its_start(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "#")
        last_id = sse.last_id
        sse.close()
    streams = [StreamSettings("events", ("#",)), StreamSettings("orders", ("orders/#",))]
    async with stand(tmp_path, streams=streams) as it:
        await it.publish("orders/1", "x")
        sse = await Sse.open(it, "#", last_id=last_id)
        assert sorted(topics(await sse.take(2))) == ["orders/1", "x"]
        sse.close()


@pytest.mark.parametrize("bad", [
    "x", "events:0", "events:0:99", "events:9:0", "nothing:0:0", "events:-1:0", "events:0:99999999999999999999",
    "AAAA", "====", "2020-01-01", "2020-01-01T00:00:00", "2020-13-01T00:00:00Z", "%00", "-1", "9223372036854775808",
    "A" * 7000,
])
async def test_a_bad_position_is_400(tmp_path, bad):
    async with stand(tmp_path) as it:
        await it.publish("a")
        for path, headers in ((f"/v1/events?filter=%23&from={bad}", {}),
                              ("/v1/events?filter=%23", {"Last-Event-ID": bad})):
            async with it.http.get(path, headers=headers) as response:
                assert response.status == 400
                assert (await response.json(content_type=None))["type"] == "/problems/position-invalid"


async def test_a_changed_id_is_400_and_one_of_another_log_410(tmp_path):
    async with stand(tmp_path / "one") as it:
        sse = await Sse.open(it, "#")
        good = sse.last_id
        sse.close()
        for index in range(len(good)):
            for char in "Ab":
                bad = good[:index] + char + good[index + 1:]
                if bad != good:
                    async with it.http.get("/v1/events?filter=%23", headers={"Last-Event-ID": bad}) as response:
                        assert response.status == 400
    headers = {"Last-Event-ID": good}
    async with stand(tmp_path / "two") as it, it.http.get("/v1/events?filter=a", headers=headers) as response:
        assert response.status == 410
        assert (await response.json(content_type=None))["type"] == "/problems/position-lost"


@pytest.mark.parametrize("query, status", [
    ("", 400), ("?filter=", 400), ("?filter=a/%23/b", 400), ("?filter=a%2Bb", 400), ("?filter=%23a", 400),
    ("?filter=a&from=latest&from=earliest", 400), ("?filter=a&since=1", 400), ("?filter=%ff", 400),
    ("?filter=%00", 400), ("?filter=%zz", 400), ("?" + "&".join(f"filter=a{n}" for n in range(65)), 400),
    ("?filter=(a%2B)%2B$", 400), ("?filter=a&filter=", 400),
])
async def test_bad_queries_are_400(tmp_path, query, status):
    async with stand(tmp_path) as it:
        head = "Host: localhost\r\nConnection: close\r\n\r\n"
        answer = await it.raw(f"GET /v1/events{query} HTTP/1.1\r\n{head}".encode())
        assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer


@pytest.mark.parametrize("written, meant", [
    ("a/+/b", "a/1/b"), ("a/%2B/b", "a/1/b"), ("a%2F%2B%2Fb", "a/1/b"), ("a%2F+%2Fb", "a/1/b"), ("x+y", "x y"),
    ("x%20y", "x y"), ("%C3%BC/%23", "ü/1"), ("+", "a"),
])
async def test_a_plus_is_a_wildcard_or_a_space(tmp_path, written, meant):
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(f"GET /v1/events?filter={written} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await it.publish(meant)
        assert b'"topic":' in await asyncio.wait_for(reader.readuntil(b"data: {\"topic\":"), DEADLINE_S)
        writer.close()


async def test_heartbeats_are_comments_and_carry_the_position(tmp_path):
    """Events that no filter wants move the position, so a resume does not look at them again."""
    async with stand(tmp_path, settings=RestSettings(sse_heartbeat_s=0.3)) as it:
        sse = await Sse.open(it, "wanted")
        first = sse.last_id
        await it.publish(*(f"other/{n}" for n in range(50)))
        assert await sse.block(5) is None
        assert sse.comments[-1] == "heartbeat"
        assert sse.last_id != first
        assert await sse.block(5) is None
        assert sse.comments[-1] == "heartbeat"
        sse.abort()
        sse = await Sse.open(it, "wanted", last_id=sse.last_id)
        reader = next(iter(it.rest._sse._readers))
        assert reader.vector == {"events": [50]}
        sse.close()


async def test_a_client_that_goes_is_cleaned_up_at_once(tmp_path):
    async with stand(tmp_path) as it:
        for leave in (Sse.close, Sse.abort):
            sse = await Sse.open(it, "#")
            await eventually(lambda: it.counters.sse_readers == 1 and it.router.consumers, "the reader is there")
            leave(sse)
            await eventually(lambda: it.counters.sse_readers == 0 and not it.router.consumers, "nothing is left", 2)


async def test_a_slow_reader_costs_bounded_memory_and_misses_nothing(tmp_path):
    """40 MiB for a reader that does not read, beside one that does."""
    async with stand(tmp_path) as it:
        slow_socket = socket.socket()
        slow_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow_socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(slow_socket, ("127.0.0.1", it.port))
        reader, writer = await asyncio.open_connection(sock=slow_socket, limit=65_536)
        writer.write(b"GET /v1/events?filter=%23 HTTP/1.0\r\n\r\n")
        await eventually(lambda: it.counters.sse_readers == 1, "the slow reader is there")
        fast = await Sse.open(it, "#")
        slow = next(reader for reader in it.rest._sse._readers if not reader._chunked)
        for _ in range(40):
            await it.publish(*(Event("t", b"x" * 1000, 1) for _ in range(1000)))
            await fast.take(1000)
        assert slow.blocked_since_s is not None
        assert slow._transport.get_write_buffer_size() < 256 * 1024
        assert len(slow._unacked) <= 512
        held = sum(cursor.held() for cursor in slow._consumer.cursors.values())
        assert held <= 600
        got, tail = 0, b""
        while got < 40_000:
            part = await asyncio.wait_for(reader.read(1 << 20), DEADLINE_S)
            assert part
            got += (tail + part).count(b"data: ")
            tail = part[-5:]
        assert got == 40_000
        assert slow.vector == {"events": [40_000]}
        writer.close()
        fast.close()


async def test_big_events_do_not_pile_up_in_front_of_a_slow_reader(tmp_path):
    async with stand(tmp_path) as it:
        for _ in range(20):
            await it.publish(Event("t", b"x" * (1 << 20), 1))
        _, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=1 << 16)
        writer.write(b"GET /v1/events?filter=%23&from=earliest HTTP/1.0\r\n\r\n")
        await eventually(lambda: it.counters.sse_readers == 1, "the slow reader is there")
        slow = next(iter(it.rest._sse._readers))
        await eventually(lambda: slow.blocked_since_s is not None, "it is full")
        assert slow._transport.get_write_buffer_size() <= 9 << 20
        writer.close()


async def test_a_reader_that_takes_nothing_for_too_long_is_disconnected(tmp_path):
    async with stand(tmp_path, settings=RestSettings(sse_stall_timeout_s=0.5)) as it:
        _, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=1 << 10)
        writer.transport.pause_reading()
        writer.write(b"GET /v1/events?filter=%23 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: it.counters.sse_readers == 1, "the reader is there")
        for _ in range(20):
            await it.publish(*(Event("t", b"x" * 100_000, 1) for _ in range(10)))
        await eventually(lambda: it.counters.sse_readers == 0, "it is gone")
        assert it.counters.sse_stalled == 1
        writer.transport.abort()


async def test_shutdown_says_goodbye(tmp_path):
    async with stand(tmp_path) as it:
        sse = await Sse.open(it, "#")
        old = await Sse.open(it, "#", version="1.0")
        stopping = asyncio.create_task(it.rest.shutdown())
        for client in (sse, old):
            await client.rest()
            assert client.comments[-1] == "the server is shutting down"
            client.close()
        await asyncio.wait_for(stopping, DEADLINE_S)
        assert not it.router.consumers


async def test_policy_holds_at_subscribe_and_at_delivery(tmp_path):
    rules = (Rule(allow=tuple(Action), to=("*",)),
             Rule(deny=(Action.SUBSCRIBE,), to=("user:ana",), topics=("a/secret/#",)))
    async with stand(tmp_path, rules=rules, users=[("ana", "x", ())]) as it:
        headers = f"Authorization: {basic('ana', 'x')}\r\n"
        refused = await Sse.open(it, "a/secret/+", headers=headers)
        assert refused.status == 403
        refused.close()
        sse = await Sse.open(it, "a/#", headers=headers)
        await it.publish("a/secret/1", "a/open")
        assert (await sse.next())["topic"] == "a/open"
        it.router.apply_rules([*rules, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("a/open",))])
        await it.publish("a/open", "a/other")
        assert (await sse.next())["topic"] == "a/other"
        sse.close()


async def test_expired_events_are_left_out(tmp_path):
    async with stand(tmp_path) as it:
        expired = Properties(expires_at_ms=it.clock_ms() - 1)
        await it.publish(Event("a", b"old", 1, properties=expired), Event("a", b"new", 1))
        sse = await Sse.open(it, "a", start="earliest")
        assert (await sse.next())["payload"] == "new"
        sse.close()


async def test_events_that_no_stream_captures_come_live_without_a_place(tmp_path):
    async with stand(tmp_path, streams=[StreamSettings("orders", ("orders/#",))]) as it:
        sse = await Sse.open(it, "#")
        await it.publish("elsewhere")
        event = await sse.next()
        assert event["topic"] == "elsewhere" and "id" not in event and "offset" not in event
        sse.close()


async def test_a_reader_is_told_what_retention_took(tmp_path):
    streams = [StreamSettings("events", ("#",), segment_bytes=65_536, retention_bytes=200_000)]
    async with stand(tmp_path, streams=streams) as it:
        sse = await Sse.open(it, "#")
        last_id = sse.last_id
        sse.close()
        for _ in range(40):
            await it.publish(*(Event("t", b"x" * 1000, 1) for _ in range(20)))
        partition = it.router.streams.by_name["events"].partitions[0]
        it.store.maintain(it.clock_ms())
        await eventually(lambda: partition.start_offset > 0, "retention worked")
        sse = await Sse.open(it, "#", last_id=last_id)
        kind, data = await sse.block()
        assert kind == "gap"
        assert data == {"stream": "events", "partition": 0, "from": 0, "to": partition.start_offset}
        assert (await sse.next())["offset"] == partition.start_offset
        sse.close()


async def test_readers_above_the_bound_are_answered_503(tmp_path):
    async with stand(tmp_path, settings=RestSettings(sse_readers_max=1)) as it:
        first = await Sse.open(it, "#")
        second = await Sse.open(it, "#")
        assert second.status == 503 and b"Retry-After" in second.headers
        first.close()
        second.close()


@pytest.mark.measured
async def test_a_hundred_readers_share_the_json(tmp_path):
    async with stand(tmp_path) as it:
        readers = [await Sse.open(it, "#") for _ in range(100)]
        started = time.process_time()
        for _ in range(10):
            await it.publish(*(Event("t", b"x" * 100, 1) for _ in range(10)))
        for reader in readers:
            assert [event["offset"] for event in await reader.take(100)] == list(range(100))
        assert time.process_time() - started < 20
        assert it.counters.events_out == 10_000
        for reader in readers:
            reader.close()
