"""Connection rows: memory of idle connections and how fast new ones are taken."""
from __future__ import annotations

import resource
import select
import socket
import sys
import time

from bench.brokers.broker import Broker
from bench.load.clients import BenchError, close, dial
from bench.load.holder import held, hold
from bench.load.packets import connect

IDLE_CONNECTIONS = 10_000
CONNECT_CONCURRENCY = 32
CLIENT_TIMEOUT_S = 120.0


def idle(broker: Broker, quick: bool) -> dict[str, float]:
    """RSS per idle connection: keep-alive 0, clean session, no subscription."""
    count = min(IDLE_CONNECTIONS // (5 if quick else 1), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    broker.stop()                                               # memory that other rows have left would hide the growth
    broker.start()
    before, cpu = broker.rss_bytes(), broker.cpu_s()
    with held("bench.rows.connections", broker.port, count, CLIENT_TIMEOUT_S):
        used_s = broker.cpu_s() - cpu
        after = _settled_rss(broker)
        return {"kib": (after - before) / count / 1024, "connections": float(count), "cpu_us": used_s / count * 1e6}


def _settled_rss(broker: Broker) -> int:
    """The highest RSS of one second."""
    stop_at, highest = time.monotonic() + 1.0, 0
    while time.monotonic() < stop_at:
        highest = max(highest, broker.rss_bytes())
        time.sleep(0.1)
    return highest


def connect_rate(broker: Broker, quick: bool) -> dict[str, float]:
    """CONNECT to CONNACK with 32 connects under way, each connection closed by DISCONNECT at once."""
    total = 1_000 if quick else 4_000
    poll = select.epoll()
    opened: dict[int, tuple[socket.socket, int]] = {}
    latencies: list[int] = []
    begun = 0
    cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
    while len(latencies) < total:
        while begun < total and len(opened) < CONNECT_CONCURRENCY:
            sock = socket.socket()
            began_ns = time.monotonic_ns()
            sock.connect(("127.0.0.1", broker.port))
            sock.sendall(connect(f"rate-{begun}"))
            opened[sock.fileno()] = (sock, began_ns)
            poll.register(sock.fileno(), select.EPOLLIN)
            begun += 1
        events = poll.poll(10)
        if not events:
            raise BenchError("no CONNACK for 10 s")
        for fd, _ in events:
            sock, began_ns = opened.pop(fd)
            poll.unregister(fd)
            if sock.recv(64)[:1] != b"\x20":
                raise BenchError("CONNECT was not answered by CONNACK")
            latencies.append(time.monotonic_ns() - began_ns)
            close(sock)
    seconds = time.monotonic() - start
    poll.close()
    latencies.sort()
    return {"rate": total / seconds, "cpu_us": (broker.cpu_s() - cpu_start) / total * 1e6,
            "load_us": (time.process_time() - load_start) / total * 1e6,
            "p50_ms": latencies[total // 2] / 1e6, "p99_ms": latencies[total * 99 // 100] / 1e6}


def _hold(port: int, count: int) -> None:
    """Child process: open the connections, say so, and hold them until standard input ends."""
    hold([dial(port, connect(f"idle-{number}")) for number in range(count)])


if __name__ == "__main__":
    _hold(int(sys.argv[1]), int(sys.argv[2]))
