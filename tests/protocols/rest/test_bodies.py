"""Bodies: content codings, their bounds, and the memory that all bodies share."""
from __future__ import annotations

import asyncio
import gzip

import pytest
import zstandard

from protocols.rest.settings import RestSettings
from tests.protocols.rest.stand import eventually, problem_of, stand, status_of

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
    settings = RestSettings(bodies_bytes_max=900_000)
    async with stand(tmp_path, settings=settings) as it:
        head = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 800000\r\n\r\n"
        reader, writer = await it.connect()
        writer.write(head + b"x" * 790_000)
        memory = it.rest.memory
        await eventually(lambda: memory.used_bytes == 790_000, "the first body is held")
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
        await eventually(lambda: it.rest.memory.used_bytes == 70_000, "the body is held")
        writer.transport.abort()
        await eventually(lambda: it.rest.memory.used_bytes == 0, "it is given back")
        await asyncio.sleep(0)
