"""HTTP: REST, NDJSON, server-sent events, lists, bombs and garbage, on one connection and on many."""
from __future__ import annotations

import contextlib
import gzip
import socket
import time
from functools import partial

import pytest

from tests.fairness.floods import Flood
from tests.fairness.harness import grows, hold

pytestmark = pytest.mark.measured

SEVERAL = 1 << 20               # bytes of a chunk, about
HOST = b" HTTP/1.1\r\nHost: localhost\r\n"


def get(target):
    return b"GET " + target + HOST + b"\r\n"


def post(target, body, fields=b""):
    return b"POST " + target + HOST + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


def ndjson(body, coding=b"gzip"):
    packed = gzip.compress(body, mtime=0) if coding == b"gzip" else body
    return post(b"/v1/events", packed, b"Content-Type: application/x-ndjson\r\nContent-Encoding: %b\r\n" % coding)


def filled(request, size=SEVERAL):
    return request * max(size // len(request), 1)


EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"t"}'
CHUNKS = {
    "posts": lambda: filled(post(b"/v1/events/evil", b"x")),
    "posts of ever new topics": lambda: b"".join(post(b"/v1/events/evil/%d" % n, b"x") for n in range(10_000)),
    "large posts": lambda: post(b"/v1/events/evil", b"x" * 1_000_000),
    "nothing at this path": lambda: filled(get(b"/x")),
    "lists": lambda: filled(b"".join(map(get, (
        b"/v1/streams", b"/v1/consumers", b"/v1/retained/%23", b"/v1/streams/events/events?limit=1000"))),
        SEVERAL // 8),
    "documents": lambda: filled(get(b"/v1/openapi.json") + get(b"/v1/asyncapi.json"), SEVERAL // 8),
    "lines in 40 KB": lambda: ndjson(b"{}\n" * 900_000),
    "plain lines": lambda: ndjson(b'{"topic":"evil/1"}\n' * 50_000, b"identity"),
    "empty members": lambda: post(b"/v1/events/a", gzip.compress(b"", mtime=0) * 40_000, b"Content-Encoding: gzip\r\n"),
    "a batch": lambda: post(b"/v1/events?topic=evil", b"[" + b",".join([EVENT] * 9_000) + b"]",
                            b"Content-Type: application/cloudevents-batch+json\r\n"),
    "chunks of a byte": lambda: (
        b"POST /v1/events/a" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 900_000),
    "heads of many fields": lambda: filled(
        b"GET /x" + HOST + b"".join(b"X-%d: y\r\n" % n for n in range(120)) + b"\r\n"),
    "garbage": lambda: b"\x16\x03\x01\x00\xff" * 1_000,
    "pulls": lambda: filled(post(b"/v1/consumers/evil/pull", b'{"max":1000,"wait_s":0}'), SEVERAL // 8),
}


MANY = ("posts", "nothing at this path", "lists", "lines in 40 KB", "chunks of a byte", "garbage")


@pytest.mark.parametrize("name, connections", [*((name, 1) for name in CHUNKS), *((name, 50) for name in MANY)])
def test_a_client_that_sends_as_fast_as_it_can(node, name, connections):
    put = b'{"filters":["evil/#"]}'
    opening = b"PUT /v1/consumers/evil" + HOST + b"Content-Length: %d\r\n\r\n" % len(put) + put
    hold(node, Flood(node.address("http"), CHUNKS[name](), connections=connections,
                     opening=opening if name == "pulls" else b"", opening_reply_bytes=1 if name == "pulls" else 0))


def test_byte_by_byte(node):
    hold(node, Flood(node.address("http"), CHUNKS["posts"]()[:50_000], connections=20, drip_bytes=1))


def test_answers_that_are_not_read(node):
    hold(node, Flood(node.address("http"), CHUNKS["documents"](), connections=20, reads=False))


def opened_and_closed(address, request, seconds):
    """New connections, as many as one can."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=2) as sock:
            sock.sendall(request)
            sock.recv(64)


def test_streams_opened_and_closed(node):
    hold(node, partial(opened_and_closed, node.address("http"), get(b"/v1/events?filter=evil/%23&from=earliest")))


def held_open(address, requests, connections, seconds):
    """Each connection sends one of the requests, and then nothing, and reads nothing."""
    end = time.monotonic() + seconds
    held = []
    for number in range(connections):
        if time.monotonic() > end:
            break
        with contextlib.suppress(OSError):
            sock = socket.create_connection(address, timeout=2)
            held.append(sock)
            sock.settimeout(0.05)
            sock.sendall(requests[number % len(requests)])
    time.sleep(max(0.0, end - time.monotonic()))
    for sock in held:
        sock.close()


HALVES = {
    "heads": [b"GET /x" + HOST + b"X: " + b"y" * 8_000 + b"\r\nX: " + b"y" * 7_000],
    "bodies": [b"POST /v1/events/a" + HOST + b"Content-Length: 900000\r\n\r\n" + b"x" * 200_000],
    "streams": [get(b"/v1/events?filter=%23&from=earliest")],
    "bodies of streams": [b"GET /v1/events?filter=a" + HOST + b"Content-Length: 900000\r\n\r\n" + b"x" * 200_000],
}


@pytest.mark.parametrize("name", HALVES)
def test_what_is_left_half_done(node, name):
    grows(node, partial(held_open, node.address("http"), HALVES[name], 1_000), seconds=6.0)
