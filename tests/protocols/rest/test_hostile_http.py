"""Hostile heads and bodies as raw bytes against a listening server: hostile.md rows 76, 77, 79 and 81.

These tests also hold together what guard.py reads of aiohttp's private state.
"""
from __future__ import annotations

import asyncio

import pytest

from protocols.rest.settings import RestSettings
from tests.support.wait import DEADLINE_S

from .stand import eventually, problem_of, read_to_end, stand, status_of

POST = b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"2\r\nhi\r\n0\r\n\r\n"

FAULTY = {
    # row 76: framing on which two servers could disagree
    "CL and TE": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + CHUNKED,
    "two CL": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "the same CL twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "CL list": POST + b"Content-Length: 2, 2\r\n\r\nhi",
    "CL +2": POST + b"Content-Length: +2\r\n\r\nhi",
    "CL -2": POST + b"Content-Length: -2\r\n\r\nhi",
    "CL hex": POST + b"Content-Length: 0x2\r\n\r\nhi",
    "CL empty": POST + b"Content-Length: \r\n\r\nhi",
    "CL over 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nhi",
    "bare LF everywhere": b"POST /v1/events/a HTTP/1.1\nHost: localhost\nContent-Length: 2\n\nhi",
    "one bare LF": POST + b"X-A: 1\nContent-Length: 2\r\n\r\nhi",
    "bare LF at the end": POST + b"Content-Length: 2\r\n\nhi",
    "bare CR": POST + b"X-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\nhi",
    "obs-fold": POST + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nhi",
    "obs-fold with tab": POST + b"X-A: 1\r\n\t2\r\nContent-Length: 2\r\n\r\nhi",
    "space before the colon": POST + b"Content-Length : 2\r\n\r\nhi",
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "TE chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "TE twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "TE in HTTP/1.0": b"POST /v1/events/a HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "chunk size no number": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
    "chunk size negative": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nhi\r\n0\r\n\r\n",
    "chunk size over 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\nhi\r\n0\r\n\r\n",
    "chunks with bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\n",
    "CL as a trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n",
    # the rest of the grammar
    "NUL in a value": POST + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control character in a value": POST + b"X-A: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "no Host": b"POST /v1/events/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two Hosts": POST + b"Host: y\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /v1/events?filter=a\r\n\r\n",
    "HTTP/0.9 POST": b"POST /v1/events/a\r\n\r\n",
    "HTTP/3.0": b"POST /v1/events/a HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": b"\x00\x01\x02\xff\xfe\r\n\r\n",
    "TLS on the plain port": bytes.fromhex("16030100c8010000c40303") + b"a" * 200,
    "unknown method": b"FOO /v1/events/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw bytes in the target": b"POST /v1/events/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "broken absolute target": b"POST http://[::1/v1/events/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "MQTT on the HTTP port": b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02id" * 3,
}


@pytest.mark.parametrize("name", FAULTY)
async def test_faulty_requests_are_400_and_the_connection_ends(tmp_path, name):
    async with stand(tmp_path) as it:
        answer = await it.raw(FAULTY[name])
        assert status_of(answer) == 400
        assert problem_of(answer)["type"] == "/problems/malformed-request"
        assert answer.count(b"HTTP/1.1 ") == 1
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0, "the event got in"
        assert await it.alive()


async def test_a_body_that_nobody_reads_does_not_lie_here_as_long_as_the_answer_lasts(tmp_path):
    """A stream lasts for hours, and its body would do so, too. RFC 9110 §9.3.1 lets a server refuse it."""
    async with stand(tmp_path) as it:
        head = b"GET /v1/events?filter=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
        assert status_of(await it.raw(head + b"x" * 100_000)) == 400
        assert it.counters.sse_readers == 0


async def test_a_good_request_before_a_faulty_one_is_answered_first(tmp_path):
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(POST + b"Content-Length: 2\r\n\r\nhi")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(FAULTY["CL and TE"])
        assert status_of(await read_to_end(reader)) == 400
        writer.close()


async def test_a_chunk_that_breaks_later_ends_the_request_at_once(tmp_path):
    """aiohttp leaves the handler waiting for a body that never ends."""
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\n")
        answer = await asyncio.wait_for(read_to_end(reader), DEADLINE_S)
        assert status_of(answer) == 400
        assert answer.count(b"HTTP/1.1 ") == 1
        writer.close()


async def test_a_body_that_breaks_after_its_answer_leaves_no_log_line(tmp_path, caplog):
    """Found by the fuzzer: aiohttp reads the rest of a refused body away and logs a traceback when it breaks."""
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        writer.write(POST.replace(b"/a ", b"/a/+ ") + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400")
        writer.write(b"zz\r\n")
        await asyncio.wait_for(read_to_end(reader), DEADLINE_S)
        writer.close()
    assert not caplog.records


async def test_a_chunked_body_in_pieces_arrives_whole(tmp_path):
    async with stand(tmp_path) as it:
        reader, writer = await it.connect()
        chunks = (b"3\r", b"\nabc\r\n2;x=y\r\nde\r\n", b"0\r\n", b"\r\n")
        for piece in (POST, b"Transfer-Encoding: chunked\r\n", b"\r\n", *chunks):
            writer.write(piece)
            await asyncio.sleep(0.01)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert it.router.streams.by_name["events"].partitions[0].event(0).payload == b"abcde"
        writer.close()


async def test_ten_mebibytes_of_headers_are_431(tmp_path):
    """Row 77, in one field, in many fields, and in one that never ends a line."""
    async with stand(tmp_path) as it:
        many = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 100) for number in range(100_000))
        small = b"".join(b"X-%d: a\r\n" % number for number in range(200))
        for fields in (b"X-A: " + b"a" * (10 << 20) + b"\r\n", many, small, b"X" * (10 << 20)):
            answer = await it.raw(POST + fields + b"\r\n")
            assert status_of(answer) == 431
            assert problem_of(answer)["type"] == "/problems/head-too-large"
        assert await it.alive()


async def test_a_head_that_trickles_in_is_bounded_in_bytes(tmp_path):
    async with stand(tmp_path, settings=RestSettings(head_bytes_max=2_000)) as it:
        reader, writer = await it.connect()
        writer.write(POST)
        for number in range(60):
            writer.write(b"X-%d: %s\r\n" % (number, b"a" * 50))
            await asyncio.sleep(0.001)
        assert status_of(await read_to_end(reader)) == 431
        writer.close()


async def test_an_endless_line_before_the_head_is_bounded(tmp_path):
    """llhttp skips empty lines before a request line."""
    async with stand(tmp_path) as it:
        answer = await it.raw(b"\r\n" * (1 << 20))
        assert status_of(answer) == 431


async def test_a_long_target_is_414(tmp_path):
    async with stand(tmp_path) as it:
        answer = await it.raw(b"GET /v1/events/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(answer) == 414
        assert problem_of(answer)["type"] == "/problems/uri-too-long"


async def test_a_slow_head_is_408(tmp_path):
    """Row 77: header 1 byte/s. Bytes that come do not move the deadline."""
    async with stand(tmp_path, settings=RestSettings(head_timeout_s=0.3)) as it:
        reader, writer = await it.connect()

        async def trickle():
            for byte in POST * 100:                         # goes on for longer than the deadline
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        answer = await asyncio.wait_for(read_to_end(reader), DEADLINE_S)
        task.cancel()
        assert status_of(answer) == 408
        assert problem_of(answer)["type"] == "/problems/request-timeout"
        assert it.counters.head_timeouts == 1
        writer.close()


async def test_a_slow_second_head_is_408_too(tmp_path):
    async with stand(tmp_path, settings=RestSettings(head_timeout_s=0.2)) as it:
        reader, writer = await it.connect()
        writer.write(POST + b"Content-Length: 0\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.3)            # idle between requests is no fault
        writer.write(b"POST /v1/ev")
        assert status_of(await asyncio.wait_for(read_to_end(reader), DEADLINE_S)) == 408
        writer.close()


async def test_a_connection_that_says_nothing_is_closed_in_silence(tmp_path):
    async with stand(tmp_path, settings=RestSettings(head_timeout_s=0.2)) as it:
        reader, writer = await it.connect()
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()


async def test_an_idle_connection_is_closed(tmp_path):
    async with stand(tmp_path, settings=RestSettings(idle_timeout_s=0.2)) as it:
        reader, writer = await it.connect()
        writer.write(POST + b"Content-Length: 0\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()


async def test_a_slow_body_is_408(tmp_path):
    async with stand(tmp_path, settings=RestSettings(body_timeout_s=0.2, linger_s=0.2)) as it:
        answer = await it.raw(POST + b"Content-Length: 10\r\n\r\nhi")
        assert status_of(answer) == 408


@pytest.mark.parametrize("body", [
    b"Content-Length: 2000000\r\n\r\n" + b"a" * 2_000_000,
    b"Content-Length: 9223372036854775807\r\n\r\nhi",
    b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65_536 + b"\r\n") * 32 + b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n" + b"a" * 2_000_000,
], ids=["CL", "CL 2^63-1", "chunked", "one chunk of 2^63-1"])
async def test_a_body_over_the_limit_is_413(tmp_path, body):
    """Row 77."""
    async with stand(tmp_path, settings=RestSettings(linger_s=1.0)) as it:
        answer = await it.raw(POST + body)
        assert status_of(answer) == 413
        assert problem_of(answer)["type"] == "/problems/payload-too-large"
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0
        assert await it.alive()


async def test_a_body_of_exactly_the_limit_gets_in(tmp_path):
    async with stand(tmp_path) as it:
        async with it.http.post("/v1/events/a", data=b"x" * (1 << 20)) as response:
            assert response.status == 200
        async with it.http.post("/v1/events/a", data=b"x" * ((1 << 20) + 1)) as response:
            assert response.status == 413


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_nothing(tmp_path, caplog):
    async with stand(tmp_path) as it:
        for data in (POST, POST + b"Content-Length: 10\r\n\r\nhi", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
            _, writer = await it.connect()
            writer.write(data)
            await asyncio.sleep(0.02)
            writer.transport.abort()
        await eventually(lambda: it.counters.connections == 0, "connections are gone")
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0
        assert await it.alive()
    assert not caplog.records


async def test_crlf_in_values_never_reaches_a_response_head(tmp_path):
    """Row 79."""
    async with stand(tmp_path) as it:
        evil = "a%0D%0AX-Evil:%201%0D%0A%0D%0A<script>"
        for target in (f"/v1/events/{evil}/+", f"/v1/events?filter={evil}&from=x", f"/{evil}"):
            answer = await it.raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert status_of(answer) in (400, 404, 405)
            assert b"X-Evil" not in head and b"\r\n" not in body


@pytest.mark.parametrize("request_line", [
    b"CONNECT a:80 HTTP/1.1", b"CONNECT /v1/events/a HTTP/1.1", b"TRACE /v1/events/a HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"GET http://evil.example/v1/events/a HTTP/1.1", b"GET //v1//events HTTP/1.1", b"GET /../../etc/passwd HTTP/1.1",
    b"GET /v1/events/..%2f..%2fetc%2fpasswd HTTP/1.1", b"GET /static/../../x HTTP/1.1",
    b"GET file:///etc/passwd HTTP/1.1",
])
async def test_odd_targets_are_answered_4xx(tmp_path, request_line):
    """Row 81."""
    async with stand(tmp_path) as it:
        answer = await it.raw(request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert 400 <= status_of(answer) < 500
        assert b"application/problem+json" in answer


async def test_connections_above_the_bound_are_answered_503(tmp_path):
    async with stand(tmp_path, settings=RestSettings(connections_max=3)) as it:
        held = [await it.connect() for _ in range(3)]
        await eventually(lambda: it.counters.connections == 3, "three connections")
        assert status_of(await it.raw(b"")) == 503
        for _, writer in held:
            writer.close()
        await eventually(lambda: it.counters.connections == 0, "none left")
        assert await it.alive()
        assert it.counters.connections_refused == 1


async def test_faults_of_clients_leave_no_log_line(tmp_path, caplog):
    async with stand(tmp_path) as it:
        for data in FAULTY.values():
            await it.raw(data)
        assert it.counters.malformed >= len(FAULTY) - 5
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_pipeline_is_answered_in_order(tmp_path):
    async with stand(tmp_path) as it:
        last = POST.replace(b"Host", b"Connection: close\r\nHost") + b"Content-Length: 0\r\n\r\n"
        answer = await it.raw((POST + b"Content-Length: 0\r\n\r\n") * 99 + last)
        places = [int(part.split(b"}")[0].split(b",")[0]) for part in answer.split(b'"offset":')[1:]]
        assert places == list(range(100))
