"""Posts that are answered without aiohttp's cycle: the same answers, in the same order, and only where it is sure.

These tests also hold together what guard.py does with aiohttp's private state.
"""
from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest

from protocols.rest.cors_settings import CorsSettings
from protocols.rest.http.answer import Places
from protocols.rest.ratelimit import RateLimit
from protocols.rest.settings import RestSettings
from routing.errors import Reason, Refusal
from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.settings import StreamSettings

from .express_stand import Client, HeldWriter, counted, place, post
from .stand import basic, eventually, read_to_end, stand

HELD = {"spawn_writer": HeldWriter}


async def test_from_the_second_post_on_and_the_bytes_are_the_same(tmp_path):
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        answers = [await client.ask(post(body)) for body in (b"a", b"b", b"cc", b"", b"ddd", b"e" * 3_000)]
        assert taken == [False, True, True, True, True, True]
        plain = {re.sub(rb"Date: [^\r]+", b"", answer[:answer.index(b"\r\n\r\n")]) for answer in answers}
        assert len(plain) == 1
        partition = it.router.streams.by_name["events"].partitions[0]
        for offset, answer in enumerate(answers):
            body = json.loads(answer[answer.index(b"\r\n\r\n") + 4:])
            assert body == {"stream": "events", "partition": 0, "offset": offset, "id": f"events:0:{offset}"}
        assert [partition.event(offset).payload for offset in range(5)] == [b"a", b"b", b"cc", b"", b"ddd"]
        assert it.counters.events_in == 6 and it.counters.answers[2] == 6
        assert it.counters.payload_bytes_in == 7 + 3_000
        client.close()


@pytest.mark.parametrize("request_", [
    post(b"x", "Connection: close"), post(b"x", version="1.0"), post(b"x", "Expect: 100-continue"),
    post(b"x", "Content-Encoding: identity"), post(b"x", "Meshgate-Guaranteed: false"),
    post(b"x", "Prefer: respond-async"), post(b"x", "Upgrade: websocket\r\nConnection: Upgrade"),
    post(b"{}", "ce-id: 1\r\nce-source: /a\r\nce-type: t\r\nce-specversion: 1.0"),
    post(None, "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
    post(b"x", "X-Long: " + "y" * 2_000), b"GET /v1/streams HTTP/1.1\r\nHost: localhost\r\n\r\n",
], ids=["close", "1.0", "expect", "coding", "not guaranteed", "async", "upgrade", "cloud", "chunked", "long", "get"])
async def test_unusual_requests_are_never_taken(tmp_path, request_):
    """Not even when the same one has been there before, nor does a usual one of before stand for them."""
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        for _ in range(2):
            try:
                await client.ask(request_)
            except EOFError:                    # the answer ended the connection, as it should
                break
        assert not any(taken)
        client.close()


@pytest.mark.parametrize("settings", [
    RestSettings(cors=CorsSettings(origins=("https://a.example",))), RestSettings(rate_limits=(RateLimit("all", 2),)),
])
async def test_with_fields_on_every_answer_nothing_is_taken(tmp_path, settings):
    async with stand(tmp_path, settings=settings) as it:
        taken = counted(it)
        client = await Client.connect(it)
        answers = [await client.ask(post(b"x")) for _ in range(3)]
        assert not taken
        assert all(b"\r\nVary: " in answer or b"\r\nRateLimit: " in answer for answer in answers)
        client.close()


async def test_another_field_is_another_head(tmp_path):
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        for key in ("a", "a", "b", "b", "a"):
            await client.ask(post(b"x", f"Meshgate-Key: {key}"))
        assert taken == [False, True, False, True, False]
        partition = it.router.streams.by_name["events"].partitions[0]
        assert [partition.event(offset).key for offset in range(5)] == [b"a", b"a", b"b", b"b", b"a"]
        client.close()


async def test_every_field_reaches_an_event_that_was_taken(tmp_path):
    fields = ("Content-Type: text/x\r\nMeshgate-Key: k\r\nMeshgate-TTL: 60000\r\nMeshgate-Priority: 7\r\n"
              "Meshgate-Correlation-Id: c\r\nMeshgate-Reply-To: r/t\r\nMeshgate-Header-Region: eu\r\ntraceparent: 00-a")
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        before_ms = it.clock_ms()
        await client.ask(post(b"x", fields))
        await client.ask(post(b"x", fields))
        assert taken == [False, True]
        first, second = (it.router.streams.by_name["events"].partitions[0].event(offset) for offset in range(2))
        assert second.properties.expires_at_ms >= before_ms + 60_000
        for event in (first, second):
            assert (event.key, event.headers) == (b"k", (("region", "eu"), ("traceparent", "00-a")))
            found = event.properties
            assert (found.content_type, found.priority, found.correlation, found.reply_to) == ("text/x", 7, "c", "r/t")
        client.close()


async def test_a_post_is_whose_credentials_it_has(tmp_path):
    """A request that fails behind its login leaves the head of another user on the connection."""
    users = [("ana", "a", ()), ("ben", "b", ())]
    async with stand(tmp_path, users=users, rules=(ALLOW_ALL,)) as it:
        taken = counted(it)
        client = await Client.connect(it)
        ana, ben = (f"Authorization: {basic(user, user[0])}" for user in ("ana", "ben"))
        await client.ask(post(b"1", ana))
        await client.ask(post(b"2", ana))
        assert (await client.ask(post(b"", ben, topic="bad/%2b")))[9:12] == b"400"
        await client.ask(post(b"3", ana))
        assert (await client.ask(post(b"", "Authorization: Basic eA==")))[9:12] == b"401"
        await client.ask(post(b"4"))
        await client.ask(post(b"5", ben))
        await client.ask(post(b"6", ben))
        partition = it.router.streams.by_name["events"].partitions[0]
        publishers = [partition.event(offset).publisher for offset in range(6)]
        assert publishers == ["ana", "ana", "ana", "anonymous", "ben", "ben"]
        assert taken == [False, True, False, False, False, False, False, True]
        client.close()


async def test_a_login_that_has_expired_is_asked_for_again(tmp_path):
    async with stand(tmp_path, users=[("ana", "a", ())], rules=(ALLOW_ALL,)) as it:
        taken = counted(it)
        client = await Client.connect(it)
        request = post(b"x", f"Authorization: {basic('ana', 'a')}")
        await client.ask(request)
        await client.ask(request)
        client.handler(it).session.expires_s = 0.0
        await client.ask(request)
        await client.ask(request)
        assert taken == [False, True, False, True]
        assert it.authenticator.outcomes["http", "ok"] == 2
        client.close()


async def test_a_rule_that_changes_counts_at_once(tmp_path):
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        assert [(await client.ask(post(b"x")))[9:12] for _ in range(2)] == [b"200"] * 2
        it.router.apply_rules([Rule(allow=(Action.CONNECT,), to=("*",))])
        answer = await client.ask(post(b"x"))
        assert answer[9:12] == b"403" and b"/problems/not-authorized" in answer
        assert taken == [False, True, False], "who it is, is asked again, too"
        assert it.counters.problems["not-authorized"] == 1 and it.counters.answers[4] == 1
        it.router.apply_rules([ALLOW_ALL])
        assert (await client.ask(post(b"x")))[9:12] == b"200"
        client.close()


async def test_a_node_that_gets_users_or_loses_them_looks_again(tmp_path):
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        for _ in range(2):
            await client.ask(post(b"x"))
        it.authenticator.tokens.replace({b"hash": object()}, ())
        await client.ask(post(b"x"))
        assert taken == [False, True, False]
        client.close()


async def test_a_pipeline_of_all_kinds_is_answered_in_order(tmp_path):
    async with stand(tmp_path) as it:
        get = b"GET /v1/streams/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
        parts = [post(b"x"), post(b"yy"), get, post(b"x", topic="a/%2b"), post(b"zz"), post(b"x", "Meshgate-Key: k"),
                 post(b"", "Expect: 100-continue"), post(b"x")]
        answer = await it.raw(b"".join(parts * 20) + post(b"x", "Connection: close"))
        statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
        assert statuses == [b"200", b"200", b"404", b"400", b"200", b"200", b"200", b"200"] * 20 + [b"200"]
        offsets = [int(found) for found in re.findall(rb'"offset":(\d+)', answer)]
        assert offsets == list(range(6 * 20 + 1))


async def test_a_long_pipeline_to_a_topic_without_a_stream(tmp_path):
    """Their tickets are done at once: no recursion."""
    async with stand(tmp_path, streams=[StreamSettings("events", ("kept/#",))]) as it:
        answer = await it.raw(post(b"x") * 3_000 + post(b"x", "Connection: close"))
        assert answer.count(b'{"stream":null') == 3_001
        assert it.counters.events_in == 3_001


async def test_what_is_malformed_behind_a_post_is_answered_behind_it(tmp_path):
    async with stand(tmp_path, store_options=HELD) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        partition = it.router.streams.by_name["events"].partitions[0]
        with it.store._writer.hold():
            client.writer.write(post(b"x"))
            await eventually(lambda: partition.next_offset == 2, "the post was taken")
            client.writer.write(b"NONSENSE\r\n\r\n" + post(b"y"))
            await eventually(lambda: it.counters.malformed == 1, "it was seen")
        answer = await asyncio.wait_for(read_to_end(client.reader), 5)
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
        assert partition.next_offset == 2
        client.close()


async def test_bodies_in_pieces_go_the_usual_way(tmp_path):
    async with stand(tmp_path) as it:
        taken = counted(it)
        client = await Client.connect(it)
        await client.ask(post(b"abc"))
        for cut in (5, 30, len(post(b"abc")) - 1):
            client.writer.write(post(b"abc")[:cut])
            await asyncio.sleep(0.02)
            assert (await client.ask(post(b"abc")[cut:]))[9:12] == b"200"
        assert taken == [False, True, True, False]      # a head in pieces is no matter, a body is
        client.close()


async def test_a_disk_that_refuses_is_507(tmp_path):
    async with stand(tmp_path, store_options=HELD) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        partition = it.router.streams.by_name["events"].partitions[0]
        with it.store._writer.hold():
            asking = asyncio.create_task(client.ask(post(b"x")))
            await eventually(lambda: partition.next_offset == 2, "the post was taken")
            it.store._committing[partition].failure = Refusal(Reason.STORAGE_FULL, "the disk is full")
        answer = await asking
        assert answer[9:12] == b"507" and b"/problems/storage-full" in answer and b"\r\nRetry-After: " in answer
        assert it.counters.problems["storage-full"] == 1 and it.counters.events_in == 1
        client.close()


async def test_a_disk_that_does_not_answer_is_503_and_the_connection_goes_on(tmp_path):
    async with stand(tmp_path, store_options=HELD, settings=RestSettings(publish_timeout_s=0.2)) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        with it.store._writer.hold():
            answer = await client.ask(post(b"x"))
            assert answer[9:12] == b"503" and b"/problems/outcome-unknown" in answer
        assert place(await client.ask(post(b"x")))["offset"] == 2
        client.close()


async def test_a_fault_of_ours_is_500(tmp_path, caplog):
    async with stand(tmp_path) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        publish, it.router.publish = it.router.publish, None
        answer = await client.ask(post(b"x"))
        it.router.publish = publish
        assert answer[9:12] == b"500" and b"/problems/internal-error" in answer
        assert await client.reader.read() == b""
        assert "the handler of POST /v1/events/a failed" in caplog.text
        client.close()


async def test_a_client_that_leaves_while_its_event_goes_to_disk(tmp_path, caplog):
    async with stand(tmp_path, store_options=HELD) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        partition = it.router.streams.by_name["events"].partitions[0]
        with it.store._writer.hold():
            client.writer.write(post(b"x") * 2)
            await eventually(lambda: partition.next_offset == 2, "the post was taken")
            client.writer.transport.abort()
            await eventually(lambda: it.counters.connections == 0, "the connection is gone")
        assert await it.alive()
        assert partition.next_offset == 3
    assert not caplog.records


async def test_shutdown_waits_for_the_answer(tmp_path):
    async with stand(tmp_path, store_options=HELD) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        partition = it.router.streams.by_name["events"].partitions[0]
        with it.store._writer.hold():
            client.writer.write(post(b"x"))
            await eventually(lambda: partition.next_offset == 2, "the post was taken")
            ending = asyncio.create_task(it.rest.shutdown())
            await asyncio.sleep(0.05)
            assert not ending.done()
        answer = await asyncio.wait_for(read_to_end(client.reader), 5)
        assert place(answer)["offset"] == 1
        await asyncio.wait_for(ending, 2)
        client.close()


async def test_the_idle_timeout_does_not_cut_a_post_and_cuts_behind_it(tmp_path):
    async with stand(tmp_path, store_options=HELD, settings=RestSettings(idle_timeout_s=0.2)) as it:
        client = await Client.connect(it)
        await client.ask(post(b"x"))
        with it.store._writer.hold():
            asking = asyncio.create_task(client.ask(post(b"x")))
            await asyncio.sleep(0.5)
            assert not asking.done()
        assert place(await asking)["offset"] == 1
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
        client.close()


async def test_a_client_that_does_not_read_its_answers_is_held_back(tmp_path):
    async with stand(tmp_path) as it:
        client = await Client.connect(it, limit=1_024)
        await client.ask(post(b"x"))
        connection = client.handler(it)
        for end, option in ((connection.transport, socket.SO_SNDBUF), (client.writer.transport, socket.SO_RCVBUF)):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4_096)
        partition = it.router.streams.by_name["events"].partitions[0]
        count = 1_000
        client.writer.write(post(b"x") * count)
        await eventually(lambda: connection.writing_paused, "the socket is full")
        await asyncio.sleep(0.1)
        assert partition.next_offset < count, "all was taken though nothing was read"
        assert connection.transport.get_write_buffer_size() < 128 * 1024
        for _ in range(count):
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 5)
            await client.reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        assert partition.next_offset == count + 1
        client.close()


@pytest.mark.parametrize("stream", ["events", 'a"b\\c', "%d%s", "ü/\n"])
def test_the_prepared_answer_is_the_json_of_the_place(stream):
    for offset in (0, 9, 10, 2**62):
        head, _, body = Places(stream, 3).stored(offset).partition(b"\r\n\r\n")
        assert json.loads(body) == {"stream": stream, "partition": 3, "offset": offset, "id": f"{stream}:3:{offset}"}
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head and head.startswith(b"HTTP/1.1 200 OK\r\n")
