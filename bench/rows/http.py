"""REST rows: posts per second over keep-alive connections, and fan-out to server-sent event streams.

`posts` also measures a bare aiohttp handler that writes nothing, between two halves of the run, so that their ratio
holds on a machine that others use; and the HTTP publish path of RabbitMQ, its management plugin. NATS has none.
"""
from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import ROOT
from bench.brokers.broker import Broker, ManagedRabbitMq, RabbitMq, free_port
from bench.load.clients import BenchError
from bench.load.fan_out import measure
from bench.load.load import percentile
from bench.load.packets import PLAIN_PAYLOAD

CONNECTIONS = 32
STREAMS = 100
UNDER_WAY = 20_000


def posts(broker: Broker, quick: bool) -> dict[str, float]:
    """32 connections, one request under way on each, 200 only after the event is on disk."""
    seconds = 2.0 if quick else 5.0
    if isinstance(broker, RabbitMq):
        with management(broker) as (second, extra):
            return _posts(second, second.http_port, "/api/exchanges/%2f/amq.topic/publish", RABBIT_BODY, extra, seconds)
    body = PLAIN_PAYLOAD
    with bare() as port:
        half = _posts(broker, broker.http_port, PATH, body, OCTETS, seconds / 2)
        bare_rate = _posts(broker, port, PATH, body, OCTETS, seconds / 2)["rate"]
        again = _posts(broker, broker.http_port, PATH, body, OCTETS, seconds / 2)
    figures = {name: (half[name] + again[name]) / 2 for name in half}
    return {**figures, "bare": bare_rate, "ratio_bare": figures["rate"] / bare_rate}


PATH = "/v1/events/bench/post"
OCTETS = "Content-Type: application/octet-stream\r\n"
RABBIT_BODY = json.dumps({"properties": {}, "routing_key": "bench.post", "payload_encoding": "string",
                          "payload": "x" * len(PLAIN_PAYLOAD)}).encode()


@contextmanager
def bare() -> Iterator[int]:
    """The port of a bare aiohttp handler in its own process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.bare_http", str(port)], cwd=ROOT)
    try:
        _wait_for(port)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def management(broker: RabbitMq) -> Iterator[tuple[Broker, str]]:
    """RabbitMQ with its HTTP API, and the fields of a request: a second broker that has the management plugin."""
    second = ManagedRabbitMq(broker.root.parent / "managed")
    second.start()
    try:
        _wait_for(second.http_port)
        yield second, "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\n"
    finally:
        second.stop()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)                                    # polling a condition, bounded by the deadline
    raise BenchError(f"nothing listens on {port}")


def _posts(broker: Broker, port: int, path: str, body: bytes, extra: str, seconds: float) -> dict[str, float]:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    socks = {sock.fileno(): sock for sock in
             (socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(CONNECTIONS))}
    try:
        for sock in socks.values():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _exchange(broker, socks, request, 0.5)
        return _exchange(broker, socks, request, seconds)
    finally:
        for sock in socks.values():
            sock.close()


def _exchange(broker: Broker, socks: dict[int, socket.socket], request: bytes, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    began: dict[int, int] = {}
    partial: dict[int, bytes] = dict.fromkeys(socks, b"")
    latencies: list[int] = []
    cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
    for fd, sock in socks.items():
        poll.register(fd, select.EPOLLIN)
        began[fd] = time.monotonic_ns()
        sock.sendall(request)
    while began:
        events = poll.poll(10)
        if not events:
            raise BenchError("no answer to a POST for 10 s")
        for fd, _ in events:
            data = partial[fd] + socks[fd].recv(65536)
            if not _complete(data):
                partial[fd] = data
                continue
            partial[fd] = b""
            now_ns = time.monotonic_ns()
            latencies.append(now_ns - began.pop(fd))
            if time.monotonic() - start < seconds:
                began[fd] = now_ns
                socks[fd].sendall(request)
    elapsed, count = time.monotonic() - start, len(latencies)
    poll.close()
    return {"rate": count / elapsed, "cpu_us": (broker.cpu_s() - cpu_start) / count * 1e6,
            "load_us": (time.process_time() - load_start) / count * 1e6, "lost": 0.0,
            "p50_ms": percentile(latencies, 50) / 1e6, "p99_ms": percentile(latencies, 99) / 1e6}


def _complete(data: bytes) -> bool:
    """True when data holds one whole answer with status 200."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    if not data.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"POST was answered by {data[:200]!r}")
    place = data[:head_end].lower().find(b"content-length:")
    if place < 0:
        raise BenchError("an answer to POST without Content-Length")
    return len(data) >= head_end + 4 + int(data[place + 15:head_end].split(b"\r\n", 1)[0])


class _Stream:
    """One GET /v1/events; counts `data:` lines."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.sendall(f"GET /v1/events?filter={topic_filter} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                          "Accept: text/event-stream\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.sock.recv(1)
            if not more:
                raise BenchError(f"the event stream was answered by {head!r}")
            head += more
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"the event stream was answered by {head!r}")
        self.sock.setblocking(False)
        self.received = 0
        self._tail = b"\n"

    def receive(self) -> None:
        data = self.sock.recv(262144)
        if not data:
            raise BenchError("the node closed an event stream")
        count = (self._tail + data).count(b"\ndata:")
        self._tail = (self._tail + data)[-5:]
        self.received += count


def fan_out(broker: Broker, quick: bool) -> dict[str, float]:
    """One MQTT QoS 1 publisher, 100 event streams, all events to all."""
    streams = [_Stream(broker.http_port, "bench/sse/%2B") for _ in range(STREAMS)]
    return measure(broker, streams, "bench/sse/0", UNDER_WAY, quick)
