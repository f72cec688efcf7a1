"""Bodies: content codings, their bounds, and the memory that all bodies share."""
from __future__ import annotations

import asyncio
import gzip

import pytest
import zstandard

from protocols.rest.settings import RestSettings
from routing.rights.policy import Action, Rule
from tests.protocols.rest.stand import basic, eventually, problem_of, stand, status_of
from tests.support.turns import longest_turn

PLAIN = b"the payload " * 500


def gz(data):
    """The same bytes whenever it is called: they name the test."""
    return gzip.compress(data, mtime=0)


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


async def post(it, body, coding, path="/v1/events/a"):
    async with it.http.post(path, data=body, headers={"Content-Encoding": coding}) as response:
        return response.status, await response.json(content_type=None), response.headers


async def payload_at(it, offset):
    return it.router.streams.partition("events", 0).event(offset).payload


@pytest.mark.parametrize(("coding", "body"), [
    ("gzip", gz(PLAIN)), ("x-gzip", gz(PLAIN)), ("GZIP", gz(PLAIN[:20]) * 3),
    ("zstd", zstd(PLAIN)), ("zstd", zstd(PLAIN[:40]) + zstd(PLAIN[40:])), ("gzip", gz(b"")), ("gzip", b""),
    ("identity", PLAIN),
])
async def test_a_compressed_body_is_stored_expanded(tmp_path, coding, body):
    async with stand(tmp_path) as it:
        status, told, _ = await post(it, body, coding)
        assert status == 200
        expected = {"GZIP": PLAIN[:20] * 3}.get(coding, b"" if len(body) < 30 else PLAIN)
        assert await payload_at(it, told["offset"]) == expected


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "compress"])
async def test_an_unknown_coding_is_415_and_names_the_known_ones(tmp_path, coding):
    async with stand(tmp_path) as it:
        status, told, headers = await post(it, b"x", coding)
        assert (status, told["type"]) == (415, "/problems/encoding-unsupported")
        assert headers["Accept-Encoding"] == "gzip, zstd"


@pytest.mark.parametrize(("coding", "body"), [
    ("gzip", b"not gzip at all"), ("gzip", gz(PLAIN)[:-5]), ("gzip", gz(PLAIN) + b"rubbish"),
    ("zstd", b"not zstd"), ("zstd", zstd(PLAIN)[:-3]),
])
async def test_broken_compressed_text_is_400(tmp_path, coding, body):
    async with stand(tmp_path) as it:
        status, told, _ = await post(it, body, coding)
        assert (status, told["type"]) == (400, "/problems/body-invalid")
        assert await it.alive()


@pytest.mark.parametrize(("coding", "bomb"), [
    ("gzip", gz(bytes(10_000_000)) * 30), ("zstd", zstd(bytes(10_000_000)) * 30),
], ids=["gzip", "zstd"])
async def test_a_bomb_ends_at_the_limit(tmp_path, coding, bomb):
    """What comes out is counted; 300 MB never do."""
    async with stand(tmp_path) as it:
        head = (f"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {coding}\r\n"
                f"Content-Length: {len(bomb)}\r\n\r\n").encode()
        answer = await it.raw(head + bomb)
        assert status_of(answer) == 413
        assert await it.alive()


async def test_a_zstd_frame_with_a_huge_window_is_refused(tmp_path):
    """RFC 9659: no more than 8 MiB need be held."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(b"x" * 1000) + compressor.flush()
    async with stand(tmp_path) as it:
        status, told, _ = await post(it, body, "zstd")
        assert (status, told["type"]) == (400, "/problems/body-invalid")


async def test_all_bodies_together_are_bounded(tmp_path):
    """Bodies that trickle in hold memory; the one that finds none is told so, and the others go on."""
    settings = RestSettings(bodies_bytes_max=1_000_000)
    async with stand(tmp_path, settings=settings) as it:
        head = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 800000\r\n\r\n"
        reader, writer = await it.connect()
        writer.write(head + b"x" * 790_000)
        memory = it.rest.memory
        await eventually(lambda: memory.used_bytes >= 790_000, "the first body is held")
        answer = problem_of(await it.raw(head + b"y" * 800_000))
        assert (answer["status"], answer["type"]) == (503, "/problems/overloaded")
        writer.write(b"x" * 10_000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert memory.used_bytes == 0
        writer.close()


async def test_a_client_that_goes_away_gives_its_memory_back(tmp_path):
    async with stand(tmp_path) as it:
        _, writer = await it.connect()
        writer.write(b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n" + b"x" * 70_000)
        await eventually(lambda: it.rest.memory.used_bytes >= 70_000, "the body is held")
        writer.transport.abort()
        await eventually(lambda: it.rest.memory.used_bytes == 0, "it is given back")
        await asyncio.sleep(0)


USERS = [(name, "pw", ()) for name in ("ana", "ben", "eve")]
RULES = [Rule(allow=(Action.CONNECT,), to=("*",)),
         Rule(allow=(Action.PUBLISH,), to=("user:ana", "user:ben"), topics=("a",))]
WIDE = zstandard.ZstdCompressionParameters(window_log=23)
BIG_WINDOW = zstandard.ZstdCompressor(compression_params=WIDE).compressobj()
STALLED = BIG_WINDOW.compress(b"x" * 300_000) + BIG_WINDOW.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def upload(user, coding="zstd", length=900_000):
    return (f"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic(user, 'pw')}\r\n"
            f"Content-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n").encode()


async def answer_on(reader):
    return await asyncio.wait_for(reader.readuntil(b"}"), 30)


async def test_who_may_not_publish_takes_no_memory(tmp_path):
    """34 stalled uploads of a user without rights had every body refused for half a minute."""
    async with stand(tmp_path, users=USERS, rules=RULES) as it:
        pairs = [await it.connect() for _ in range(40)]
        for reader, writer in pairs:
            writer.write(upload("eve") + STALLED)
            assert status_of(await answer_on(reader)) == 403
        assert it.rest.memory.used_bytes == 0
        headers = {"Authorization": basic("ana", "pw"), "Content-Encoding": "zstd"}
        async with it.http.post("/v1/events/a", data=zstd(PLAIN), headers=headers) as response:
            assert response.status == 200
        for _, writer in pairs:
            writer.close()


async def test_one_user_has_his_share_and_the_others_find_room(tmp_path):
    settings = RestSettings(bodies_bytes_max=40 << 20)
    async with stand(tmp_path, users=USERS, rules=RULES, settings=settings) as it:
        pairs = [await it.connect() for _ in range(12)]
        for _, writer in pairs:
            writer.write(upload("ana") + STALLED)
        refused = await eventually(lambda: it.counters.problems["quota-exceeded"] >= 10 and 1, "ana has used her share")
        assert refused and 16 << 20 < it.rest.memory.used_bytes <= 20 << 20
        headers = {"Authorization": basic("ben", "pw"), "Content-Encoding": "zstd"}
        async with it.http.post("/v1/events/a", data=STALLED + BIG_WINDOW_END, headers=headers) as response:
            assert response.status == 200
        for _, writer in pairs:
            writer.transport.abort()
        await eventually(lambda: it.rest.memory.used_bytes == 0, "it is given back")


BIG_WINDOW_END = BIG_WINDOW.flush()


async def test_a_body_that_holds_memory_and_does_not_come_on_is_given_up(tmp_path):
    settings = RestSettings(body_stall_s=0.3, body_rate_min_bytes=100_000)
    async with stand(tmp_path, settings=settings) as it:
        stalled, writer = await it.connect()
        head = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
        writer.write(head + b"x" * 200_000)
        assert status_of(await answer_on(stalled)) == 408
        assert it.rest.memory.used_bytes == 0
        slow, writer = await it.connect()
        writer.write(head)
        for _ in range(45):                                     # 20,000 bytes are 0.2 s more
            writer.write(b"x" * 20_000)
            await asyncio.sleep(0.01)
        assert status_of(await answer_on(slow)) == 200


@pytest.mark.parametrize(("coding", "body"), [
    ("gzip", gz(b"") * 30_000), ("zstd", zstd(b"") * 30_000), ("gzip", gz(b"x" * 2**27)), ("zstd", zstd(b"x" * 2**27)),
    ("gzip", gz(b"{" * 500_000)), ("identity", b"[" * 500_000),
])
async def test_no_body_holds_the_loop(tmp_path, coding, body):
    """K1: members, frames and pieces are steps, between which others have their turn."""
    async with stand(tmp_path) as it:
        for path in ("/v1/events/a", "/v1/consumers/c/pull", "/v1/events"):
            headers = {"Content-Encoding": coding, "Content-Type": "application/x-ndjson"}
            async with longest_turn() as turn, it.http.post(path, data=body, headers=headers) as response:
                await response.read()
            assert turn.cpu_s < 0.05, (path, response.status)


EVENT = b'{"specversion":"1.0","id":"%d","source":"s","type":"t","data":"x"}'
MANY = {
    "empty lines": ("ndjson", b"\n" * 900_000), "lines that are nothing": ("ndjson", b"{}\n" * 15_000),
    "plain lines": ("ndjson", b'{"topic":"a"}\n' * 12_000),
    "nested lines": ("ndjson", b"[" * 900 + b"\n" + b"[{}\n" * 10_000),
    "topics": ("ndjson", b"".join(b'{"topic":"a/%d","retain":true}\n' % n for n in range(4_000))),
    "a batch": ("cloud", b"[" + b",".join(EVENT % n for n in range(5_000)) + b"]"),
    "a batch of nothing": ("cloud", b"[" + b"{}," * 5_000 + b"{}]"),
    "tokens": ("tokens", b'{"tokens":["' + b'","'.join([b"AQAAAAAAAAAAAAAAAA"] * 9_000) + b'"]}'),
}
TYPES = {"ndjson": "application/x-ndjson", "cloud": "application/cloudevents-batch+json", "tokens": "application/json"}


@pytest.mark.parametrize("name", MANY)
async def test_no_number_of_small_things_in_a_body_holds_the_loop(tmp_path, name):
    """K1: 900,000 lines in 40 KB of gzip; and its siblings."""
    kind, body = MANY[name]
    async with stand(tmp_path) as it:
        await it.http.put("/v1/consumers/c", json={"filters": ["a/#"]})
        path = {"ndjson": "/v1/events", "cloud": "/v1/events?topic=a", "tokens": "/v1/consumers/c/ack"}[kind]
        headers = {"Content-Encoding": "gzip", "Content-Type": TYPES[kind]}
        packed = gz(body)
        async with longest_turn() as turn, it.http.post(path, data=packed, headers=headers) as response:
            async for _ in response.content.iter_any():
                pass
        assert turn.cpu_s < 0.05, response.status
