"""Console rows: MQTT latency with nobody and with 50 viewers of the live stream, and what these cost. The node only."""
from __future__ import annotations

import socket
import sys
import time

from bench.brokers import Broker
from bench.clients import Publisher, Subscriber
from bench.holder import held, hold
from bench.load import paced

VIEWERS = 50
RATE = 1_000.0                      # messages per second of the latency runs
TOPIC = "bench/console/0"
CLIENT_TIMEOUT_S = 60.0


def viewers(broker: Broker, quick: bool) -> dict[str, float]:
    """p99 of QoS 1 in the same run without and with viewers; CPU of a viewer per second, of one page of a table."""
    seconds = 2.0 if quick else 8.0
    subscriber = Subscriber(broker.port, "s-console", "bench/console/+", topic_bytes=len(TOPIC), qos=1)
    publisher = Publisher(broker.port, "p-console", [TOPIC], qos=1)

    def run(length_s: float) -> dict[str, float]:
        return paced(broker, [publisher], [TOPIC], [subscriber], rate=RATE, seconds=length_s, qos=1).figures()

    try:
        run(0.5)
        alone = run(seconds)
        idle = _cpu_share(broker, seconds)
        with held("bench.rows_console", broker.console_port, VIEWERS, CLIENT_TIMEOUT_S):
            looked = run(seconds)
            share = _cpu_share(broker, seconds)
        return {"viewers": float(VIEWERS), "p99_ms": looked["p99_ms"], "alone_p99_ms": alone["p99_ms"],
                "cpu_percent": 100 * (share - idle), "lost": looked["lost"]}
    finally:
        publisher.close()
        subscriber.close()


def _cpu_share(broker: Broker, seconds: float) -> float:
    """Of one core, while nothing is published."""
    before, begun = broker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (broker.cpu_s() - before) / (time.monotonic() - begun)


def _hold(port: int, count: int) -> None:
    """Child process: open the streams as pages do, read what comes until standard input ends."""
    import threading
    opened = []
    request = (f"GET /api/v1/stream?topics=overview,topology,consumers HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
               "Accept: text/event-stream\r\n\r\n").encode()
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        sock.sendall(request)
        if not sock.recv(12).startswith(b"HTTP/1.1 200"):
            sys.exit("a viewer was refused")
        sock.settimeout(None)
        opened.append(sock)
        threading.Thread(target=_drain, args=(sock,), daemon=True).start()
    hold(opened)


def _drain(sock: socket.socket) -> None:
    try:
        while sock.recv(65_536):
            pass
    except OSError:
        pass


if __name__ == "__main__":
    _hold(int(sys.argv[1]), int(sys.argv[2]))
