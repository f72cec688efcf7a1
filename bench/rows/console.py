"""Console rows: MQTT latency with nobody and with 50 viewers of the live stream, what these cost, and what tables do.

The node only.
"""
from __future__ import annotations

import http.client
import json
import socket
import sys
import time

from bench.brokers.broker import Broker
from bench.load.clients import Publisher, Subscriber
from bench.load.holder import held, hold
from bench.load.load import paced

VIEWERS = 50
RATE = 1_000.0                      # messages per second of the latency runs
TOPIC = "bench/console/0"
CLIENT_TIMEOUT_S = 60.0
ROWS = 1_000                        # of the table
PAGES = 10                          # each with all of them, a second apart: each is taken anew


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
        with held("bench.rows.console", broker.console_port, VIEWERS, CLIENT_TIMEOUT_S):
            looked = run(seconds)
            share = _cpu_share(broker, seconds)
        of_viewers = share - idle
        return {"viewers": float(VIEWERS), "p99_ms": looked["p99_ms"], "alone_p99_ms": alone["p99_ms"],
                "added_p99_ms": looked["p99_ms"] - alone["p99_ms"], "cpu_percent": 100 * of_viewers,
                "viewer_cpu_us": 1e6 * of_viewers / VIEWERS, "rows_cpu_ms": _cpu_of_rows(broker, quick),
                "lost": looked["lost"]}
    finally:
        publisher.close()
        subscriber.close()


def _cpu_share(broker: Broker, seconds: float) -> float:
    """Of one core, while nothing is published."""
    before, begun = broker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (broker.cpu_s() - before) / (time.monotonic() - begun)


def _cpu_of_rows(broker: Broker, quick: bool) -> float:
    """Milliseconds of a core for a page of 1,000 rows, from what the node knows to JSON, above an idle node."""
    for number in range(ROWS):
        body = json.dumps({"filters": [f"bench/rows/{number}"]})
        _ask(broker.http_port, "PUT", f"/v1/consumers/row-{number:04}", body)       # type: ignore[attr-defined]
    time.sleep(1.0)
    pages = 3 if quick else PAGES
    before, begun = broker.cpu_s(), time.monotonic()
    time.sleep(pages)
    idle = (broker.cpu_s() - before) / (time.monotonic() - begun)
    before, begun = broker.cpu_s(), time.monotonic()
    for _ in range(pages):
        page = json.loads(_ask(broker.console_port, "GET", f"/api/v1/consumers?limit={ROWS}&filter=row-"))  # type: ignore[attr-defined]
        if len(page["consumers"]) != ROWS:
            raise RuntimeError(f"the table has {page['matched']} rows")
        time.sleep(1.1)
    used = broker.cpu_s() - before - idle * (time.monotonic() - begun)
    return 1_000 * used / pages


def _ask(port: int, method: str, path: str, body: str | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_TIMEOUT_S)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    if answer.status not in (200, 201):
        raise RuntimeError(f"{method} {path}: {answer.status} {raw[:200]!r}")
    return raw


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
