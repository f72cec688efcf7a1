"""SSE rows: one event to 100 streams, and what a stream costs whose client reads nothing. The node only."""
from __future__ import annotations

import resource
import select
import socket
import sys
import time
from pathlib import Path

from bench.brokers.broker import Broker
from bench.load.clients import Publisher
from bench.load.holder import held, hold

SLOW_READERS = 10_000
FILL_EVENTS = 4_000                 # some 900 KiB of JSON: more than the socket buffers of a reader take
CLIENT_TIMEOUT_S = 240.0
SETTLE_S = 3.0


def slow(broker: Broker, quick: bool) -> dict[str, float]:
    """RSS and kernel memory per reader that asks for everything and then reads nothing."""
    count = min(SLOW_READERS // (5 if quick else 1), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    broker.stop()                                               # memory that other rows have left would hide the growth
    broker.start()
    writer = Publisher(broker.port, "slow-filler", ["bench/slow/0"], qos=1)
    while writer.acked < FILL_EVENTS:
        writer.blocked = False
        writer.push(FILL_EVENTS - writer.sent)
        select.select([writer.sock], (), (), 0.05)
        writer.receive()
    writer.close()
    before, kernel, cpu = broker.rss_bytes(), _kernel_bytes(), broker.cpu_s()
    with held("bench.rows.sse", broker.http_port, count, CLIENT_TIMEOUT_S):
        after = _settled(broker)
        return {"readers": float(count), "kib": (after - before) / count / 1024,
                "kernel_kib": (_kernel_bytes() - kernel) / count / 1024, "cpu_us": (broker.cpu_s() - cpu) / count * 1e6}


def _settled(broker: Broker) -> int:
    """RSS once the node has been idle for a while: every socket is full then."""
    used, since, highest = broker.cpu_s(), time.monotonic(), 0
    deadline = time.monotonic() + CLIENT_TIMEOUT_S
    while time.monotonic() - since < SETTLE_S and time.monotonic() < deadline:
        time.sleep(0.25)
        highest = max(highest, broker.rss_bytes())
        now = broker.cpu_s()
        if now - used > 0.1:
            used, since = now, time.monotonic()
    return highest


def _kernel_bytes() -> int:
    """Memory of all TCP sockets of the machine: both ends, and other programs."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index("mem") + 1]) * resource.getpagesize()
    return 0


def _hold(port: int, count: int) -> None:
    """Child process: open the streams, say so, and hold them unread until standard input ends."""
    opened = []
    request = (f"GET /v1/events?filter=bench/slow/%23&from=earliest HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
               "Accept: text/event-stream\r\n\r\n").encode()
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(request)
        opened.append(sock)
    for sock in opened:                                           # the head: it is served
        sock.settimeout(60)
        if not sock.recv(12).startswith(b"HTTP/1.1 200"):
            sys.exit("a reader was refused")
    hold(opened)


if __name__ == "__main__":
    _hold(int(sys.argv[1]), int(sys.argv[2]))
