"""NDJSON row: large batches over a few connections, every event on disk before its answer. The node only."""
from __future__ import annotations

import select
import socket
import time

from bench.brokers.broker import Broker
from bench.load.clients import BenchError
from bench.load.packets import PLAIN_PAYLOAD

CONNECTIONS = 4
BATCH_EVENTS = 10_000


class _Connection:
    """One batch under way at a time; counts answered lines."""

    def __init__(self, port: int, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        line = b'{"topic":"bench/batch/%d","payload":"%b"}\n' % (number, PLAIN_PAYLOAD.replace(b"\0", b"x"))
        body = line * BATCH_EVENTS
        head = (f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/x-ndjson\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self._request = memoryview(head.encode() + body)
        self._rest = self._request[:0]
        self._tail = b""
        self.answered = 0
        self.open = False

    def begin(self) -> None:
        self._rest = self._request
        self._tail = b""
        self.open = True

    @property
    def sending(self) -> bool:
        return bool(self._rest)

    def send(self) -> None:
        try:
            self._rest = self._rest[self.sock.send(self._rest):]
        except BlockingIOError:
            pass

    def receive(self) -> None:
        """Answers; `open` falls when the last chunk has come."""
        data = self.sock.recv(1 << 20)
        if not data or b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data or b"/problems/" in data:
            raise BenchError(f"the batch was answered by {data[:300]!r}")
        self.answered += (self._tail + data).count(b'"offset":') - self._tail.count(b'"offset":')
        self._tail = (self._tail + data)[-8:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            self.open = False


def batches(broker: Broker, quick: bool) -> dict[str, float]:
    """4 connections, a batch of 10,000 events of 100 bytes under way on each."""
    connections = [_Connection(broker.http_port, number) for number in range(CONNECTIONS)]
    try:
        _run(connections, 0.5)
        for connection in connections:
            connection.answered = 0
        cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
        _run(connections, 2.0 if quick else 5.0)
        elapsed, count = time.monotonic() - start, sum(connection.answered for connection in connections)
        return {"rate": count / elapsed, "cpu_us": (broker.cpu_s() - cpu_start) / count * 1e6,
                "load_us": (time.process_time() - load_start) / count * 1e6, "lost": float(count % BATCH_EVENTS)}
    finally:
        for connection in connections:
            connection.sock.close()


def _run(connections: list[_Connection], seconds: float) -> None:
    """Batch after batch until the time is over, and to the end of those that were begun."""
    stop_at = time.monotonic() + seconds
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    poll = select.epoll()
    for fd, connection in by_fd.items():
        connection.begin()
        poll.register(fd, select.EPOLLIN | select.EPOLLOUT)
    running = len(connections)
    while running:
        events = poll.poll(10)
        if not events:
            raise BenchError("no answer to a batch for 10 s")
        for fd, event in events:
            connection = by_fd[fd]
            if event & select.EPOLLOUT and connection.sending:
                connection.send()
                if not connection.sending:
                    poll.modify(fd, select.EPOLLIN)
            if event & select.EPOLLIN:
                connection.receive()
                if not connection.open:
                    if time.monotonic() < stop_at:
                        connection.begin()
                        poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
                    else:
                        poll.unregister(fd)
                        running -= 1
    poll.close()
