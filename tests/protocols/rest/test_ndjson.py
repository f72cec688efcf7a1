"""NDJSON batches: an answer for each line, in order, and bounds for whatever a line or a client does."""
from __future__ import annotations

import asyncio
import gzip
import json

import pytest
import zstandard

from protocols.rest.settings import RestSettings
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.rest.stand import basic, eventually, stand
from tests.support.wait import DEADLINE_S

NDJSON = {"Content-Type": "application/x-ndjson"}
NOWHERE = {"stream": None, "partition": None, "offset": None, "id": None}


async def send(it, body, status=200, **headers):
    if not isinstance(body, bytes):
        body = b"\n".join(json.dumps(line).encode() for line in body)
    async with it.http.post("/v1/events", data=body, headers={**NDJSON, **headers}) as response:
        text = await response.text()
        assert response.status == status, text
        if status != 200:
            return json.loads(text)
        assert response.content_type == "application/x-ndjson"
        return [json.loads(line) for line in text.splitlines()]


def stored(it, count):
    partition = it.router.streams.partition("events", 0)
    return [partition.event(offset) for offset in range(count)]


async def test_each_line_is_an_event_and_gets_its_place(tmp_path):
    async with stand(tmp_path) as it:
        told = await send(it, [{"topic": "a", "payload": "1"}, {"topic": "b", "payload": "ü"}, {"topic": "a"}])
        assert told == [{"stream": "events", "partition": 0, "offset": n, "id": f"events:0:{n}"} for n in range(3)]
        found = [(event.topic, event.payload) for event in stored(it, 3)]
        assert found == [("a", b"1"), ("b", "ü".encode()), ("a", b"")]


async def test_every_field_arrives(tmp_path):
    line = {"topic": "a", "payload_base64": "/w==", "key": "k",
            "headers": [["n", 1], ["b", {"base64": "AA=="}], ["n", None]],
            "content_type": "x/y", "reply_to": "r", "correlation_id": "c", "message_id": "m", "priority": 3,
            "ttl_ms": 60_000, "retain": True}
    async with stand(tmp_path) as it:
        await send(it, [line, {"topic": "j", "json": {"x": [1, 2]}}, {"topic": "k", "key_base64": "AP8="}])
        event, document, keyed = stored(it, 3)
        assert (event.payload, event.key, event.retain) == (b"\xff", b"k", True)
        assert event.headers == (("n", 1), ("b", b"\0"), ("n", None))
        properties = event.properties
        assert (properties.content_type, properties.reply_to, properties.correlation) == ("x/y", "r", "c")
        assert (properties.message_id, properties.priority) == ("m", 3)
        assert properties.expires_at_ms > it.clock_ms()
        assert (json.loads(document.payload), document.properties.content_type) == ({"x": [1, 2]}, "application/json")
        assert keyed.key == b"\0\xff"


async def test_a_bad_line_is_answered_in_its_place_and_the_others_count(tmp_path):
    lines = [b'{"topic":"a"}', b'{"topic":"a/+"}', b"{nonsense", b'{"topic":"b","colour":1}', b'{"payload":"x"}', b"",
             b'{"topic":"c","payload_base64":"?"}', b'{"topic":"d","payload":"x","json":1}',
             b'{"topic":"e","priority":10}', b'{"topic":"f","ttl_ms":-1}', b"[" * 5_000,
             b'{"topic":"g","headers":[["h",{"x":"y"}]]}', b"\xff\xff",
             b'{"topic":"z"}']
    async with stand(tmp_path) as it:
        told = await send(it, b"\n".join(lines))
        assert len(told) == len(lines) - 1                  # an empty line is none
        assert [row.get("offset") for row in (told[0], told[-1])] == [0, 1]
        for row in told[1:-1]:
            assert row["status"] == 400 and row["type"] in ("/problems/topic-invalid", "/problems/body-invalid"), row


async def test_the_same_idempotency_key_is_stored_once(tmp_path):
    async with stand(tmp_path) as it:
        lines = [{"topic": "a", "payload": "x", "idempotency_key": "1"}] * 2
        first, second = await send(it, lines)
        assert first == second
        assert await send(it, lines[:1]) == [first]


async def test_what_is_not_guaranteed_gets_no_place(tmp_path):
    async with stand(tmp_path, streams=[StreamSettings("events", ("a/#",))]) as it:
        told = await send(it, [{"topic": "a/1", "guaranteed": False}, {"topic": "b"}])
        assert told == [NOWHERE, NOWHERE]


async def test_a_denied_topic_is_403_in_its_place(tmp_path):
    rules = [Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("a/#",))]
    async with stand(tmp_path, rules=rules, users=[("ana", "p", ())]) as it:
        told = await send(it, [{"topic": "a/1"}, {"topic": "b/1"}, {"topic": "a/2"}],
                          Authorization=basic("ana", "p"))
        assert [row.get("offset", row.get("status")) for row in told] == [0, 403, 1]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)])
async def test_a_compressed_batch_expands_to_any_size(tmp_path, coding, pack):
    """Well over body_bytes_max: it streams."""
    lines = [{"topic": "t", "payload": "x" * 100}] * 20_000
    body = pack(b"\n".join(json.dumps(line).encode() for line in lines))
    async with stand(tmp_path) as it:
        told = await send(it, body, **{"Content-Encoding": coding})
        assert [row["offset"] for row in told] == list(range(20_000))
        assert it.rest.memory.used_bytes == 0


async def test_a_client_that_waits_for_each_answer_gets_it(tmp_path):
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            line = b'{"topic":"t"}\n'
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            if not number:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            size = int(await asyncio.wait_for(reader.readline(), DEADLINE_S), 16)
            assert json.loads(await reader.readexactly(size))["offset"] == number
            await reader.readline()
        writer.write(b"0\r\n\r\n")
        assert await reader.readline() == b"0\r\n"
        writer.close()


async def test_a_client_that_reads_only_at_the_end_is_served(tmp_path):
    """Most HTTP clients send everything first: answers wait for them here."""
    line = b'{"topic":"t"}\n'
    count = 40_000
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (len(line) * count))
        for _ in range(count // 1_000):
            writer.write(line * 1_000)
            await writer.drain()
        await eventually(lambda: it.router.streams.partition("events", 0).end_offset == count, "all are stored")
        data = await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        assert data.count(b'"offset":') == count
        writer.close()


async def test_a_client_that_never_reads_is_cut_off(tmp_path, caplog):
    settings = RestSettings(ndjson_answers_bytes_max=100_000, body_timeout_s=0.5)
    line = b'{"topic":"t"}\n'
    async with stand(tmp_path, settings=settings) as it:
        _, writer = await it.connect()
        writer.transport.pause_reading()
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                     b"Content-Length: 100000000\r\n\r\n" + line * 400_000)
        await eventually(lambda: it.counters.events_in > 1_000, "it is taken")
        await eventually(lambda: it.counters.connections == 0, "it is cut off")
        await eventually(lambda: it.rest.memory.used_bytes == 0, "its memory is given back")
        writer.transport.abort()
        assert await it.alive()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize(("settings", "body", "status", "kind"), [
    (RestSettings(ndjson_line_bytes_max=1_000), b'{"topic":"' + b"x" * 400_000, 413, "payload-too-large"),
    (RestSettings(ndjson_events_max=2), b'{"topic":"a"}\n' * 3, 413, "payload-too-large"),
])
async def test_bounds_before_anything_was_taken(tmp_path, settings, body, status, kind):
    async with stand(tmp_path, settings=settings) as it:
        assert (await send(it, body, status))["type"] == f"/problems/{kind}"


async def test_what_ends_a_batch_early_is_its_last_line(tmp_path):
    """Lines before it are stored and answered, and the connection ends."""
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\ne\r\n" + b'{"topic":"t"}\n' + b"\r\n")
        await eventually(lambda: it.counters.events_in == 1, "the first line is taken")
        writer.write(b"nonsense\r\n")
        data = await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        assert b'"offset":0' in data and b"/problems/malformed-request" in data
        writer.close()
        assert await it.alive()


async def test_a_stalled_body_is_408(tmp_path):
    async with stand(tmp_path, settings=RestSettings(body_timeout_s=0.2)) as it:
        answer = await it.raw(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                              b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")


async def test_an_empty_batch_has_no_answers(tmp_path):
    async with stand(tmp_path) as it:
        assert await send(it, b"") == []
        assert await send(it, b"\n \n") == []


async def test_another_media_type_is_415_and_a_query_400(tmp_path):
    async with stand(tmp_path) as it:
        async with it.http.post("/v1/events", data=b"x", headers={"Content-Type": "text/plain"}) as response:
            assert response.status == 415 and "application/x-ndjson" in response.headers["Accept-Post"]
        async with it.http.post("/v1/events?topic=a", data=b"", headers=NDJSON) as response:
            assert response.status == 400


async def test_a_fault_while_answering_ends_the_request(tmp_path, monkeypatch):
    """A bug of ours in the writer must not leave the reader waiting for room in the queue."""
    async def broken(self, group):
        raise RuntimeError("planted")

    monkeypatch.setattr("protocols.rest.publishing.ndjson._Answers._lines", broken)
    async with stand(tmp_path, settings=RestSettings(ndjson_group_bytes=100)) as it:
        body = b'{"topic":"t"}\n' * 5_000
        async with asyncio.timeout(DEADLINE_S), it.http.post("/v1/events", data=body, headers=NDJSON) as got:
            assert got.status == 500
        assert it.rest.memory.used_bytes == 0
