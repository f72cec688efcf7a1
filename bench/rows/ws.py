"""WebSocket rows: one publisher, a hundred live subscriptions of /v1/ws, every event to all. The node only."""
from __future__ import annotations

import json
import socket

from bench.brokers.broker import Broker
from bench.load.clients import BenchError
from bench.load.fan_out import measure

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
    return measure(broker, subscribers, "bench/ws/0", UNDER_WAY, quick)
