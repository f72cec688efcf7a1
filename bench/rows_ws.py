"""WebSocket rows: one publisher, a hundred live subscriptions of /v1/ws, every event to all. The node only."""
from __future__ import annotations

import json
import select
import socket
import time

from bench.brokers import Broker
from bench.clients import BenchError, Publisher
from bench.load import QUIET_S

SUBSCRIBERS = 100
UNDER_WAY = 2_000           # events that the slowest subscriber has not got yet
_EVENT = b'{"op":"event"'


class _Subscriber:
    """A connection with one live subscription; counts the events that come."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.sendall(
            f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        said = json.dumps({"op": "subscribe", "subscription": "s", "filters": [topic_filter]}).encode()
        self.sock.sendall(bytes((0x81, 0x80 | len(said))) + b"\0\0\0\0" + said)
        head = b""
        while b'"op":"subscribed"' not in head:
            more = self.sock.recv(4096)
            if not more:
                raise BenchError(f"the WebSocket was answered by {head[:200]!r}")
            head += more
        self.sock.setblocking(False)
        self.received = 0
        self._tail = b""

    def receive(self) -> None:
        data = self.sock.recv(262144)
        if not data:
            raise BenchError("the node closed a WebSocket")
        self.received += (self._tail + data).count(_EVENT)
        self._tail = data[-(len(_EVENT) - 1):]


def fan_out(broker: Broker, quick: bool) -> dict[str, float]:
    """One MQTT QoS 1 publisher, 100 WebSockets, all events to all."""
    subscribers = [_Subscriber(broker.http_port, "bench/ws/+") for _ in range(SUBSCRIBERS)]
    publisher = Publisher(broker.port, "ws-writer", ["bench/ws/0"], qos=1)
    by_fd = {subscriber.sock.fileno(): subscriber for subscriber in subscribers}
    poll = select.epoll()
    for fd in (*by_fd, publisher.sock.fileno()):
        poll.register(fd, select.EPOLLIN)
    seconds = 1.5 if quick else 4.0
    cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
    last = start
    try:
        while True:
            now = time.monotonic()
            slowest = min(subscriber.received for subscriber in subscribers)
            if now - start < seconds:
                publisher.blocked = False
                publisher.push(slowest + UNDER_WAY - publisher.sent)
            elif slowest >= publisher.sent or now - last > QUIET_S:
                break
            else:
                publisher.blocked = False
                publisher.push(0)
            for fd, _ in poll.poll(0.02):
                subscriber = by_fd.get(fd)
                if subscriber is None:
                    publisher.receive()
                else:
                    subscriber.receive()
                last = time.monotonic()
        received = sum(subscriber.received for subscriber in subscribers)
        return {"rate": received / (last - start), "cpu_us": (broker.cpu_s() - cpu_start) / max(1, received) * 1e6,
                "load_us": (time.process_time() - load_start) / max(1, received) * 1e6,
                "lost": float(publisher.sent * SUBSCRIBERS - received)}
    finally:
        poll.close()
        publisher.close()
        for subscriber in subscribers:
            subscriber.sock.close()
