"""One MQTT publisher, many readers over HTTP, every event to all of them. Used by the rows of SSE and WebSocket."""
from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import Protocol

from bench.brokers.broker import Broker
from bench.load.clients import Publisher
from bench.load.load import QUIET_S


class Reader(Protocol):
    """A connection that has asked for the events. receive() takes what the socket has and counts it in received."""

    sock: socket.socket
    received: int

    def receive(self) -> None: ...


def measure(broker: Broker, readers: Sequence[Reader], topic: str, under_way: int, quick: bool) -> dict[str, float]:
    """Publish with QoS 1, at most under_way events ahead of the slowest reader. Closes the readers."""
    publisher = Publisher(broker.port, "fan-out", [topic], qos=1)
    by_fd = {reader.sock.fileno(): reader for reader in readers}
    poll = select.epoll()
    for fd in (*by_fd, publisher.sock.fileno()):
        poll.register(fd, select.EPOLLIN)
    seconds = 1.5 if quick else 4.0
    cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
    last = start
    try:
        while True:
            now = time.monotonic()
            slowest = min(reader.received for reader in readers)
            if now - start < seconds:
                publisher.blocked = False
                publisher.push(slowest + under_way - publisher.sent)
            elif slowest >= publisher.sent or now - last > QUIET_S:
                break
            else:
                publisher.blocked = False
                publisher.push(0)
            for fd, _ in poll.poll(0.02):
                reader = by_fd.get(fd)
                if reader is None:
                    publisher.receive()
                else:
                    reader.receive()
                last = time.monotonic()
        received = sum(reader.received for reader in readers)
        return {"rate": received / (last - start), "cpu_us": (broker.cpu_s() - cpu_start) / max(1, received) * 1e6,
                "load_us": (time.process_time() - load_start) / max(1, received) * 1e6,
                "lost": float(publisher.sent * len(readers) - received)}
    finally:
        poll.close()
        publisher.close()
        for reader in readers:
            reader.sock.close()
