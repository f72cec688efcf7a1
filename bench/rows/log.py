"""Rows about the log: a stalled subscriber must cost no memory, a late consumer must catch up from disk."""
from __future__ import annotations

import time

from bench.brokers.broker import Broker
from bench.load.clients import BenchError, Publisher, Subscriber
from bench.load.load import Flood, Outcome

STALL_EVENTS = 1_000_000
CATCH_UP_EVENTS = 2_000_000
PEER_SECONDS = 20.0                     # a slower peer stalls for as many events as it takes in this time
DRAIN_TIMEOUT_S = 300.0


def stall(broker: Broker, quick: bool) -> dict[str, float]:
    """A durable QoS 1 subscriber stops reading while events are published; then it reads everything.

    The baseline is taken after a warm-up of a tenth, so that caches with a bound are full before the measured part.
    """
    wanted = STALL_EVENTS // (10 if quick else 1)
    topic = "bench/stall/0"
    subscriber = Subscriber(broker.port, "stall-reader", "bench/stall/+", topic_bytes=len(topic), qos=1, clean=False)
    publisher = Publisher(broker.port, "stall-writer", [topic], qos=1)
    flood = Flood(broker, [publisher], [], 0)
    try:
        flood.run(0.0 if broker.has_log else PEER_SECONDS / 4, events_max=wanted // 10)
        before = broker.rss_bytes()
        outcome = flood.run(0.0 if broker.has_log else PEER_SECONDS / (4 if quick else 1), events_max=wanted)
        after = broker.rss_bytes()
        stalled = publisher.sent
        figures = {"rate": outcome.figures()["rate"], "events": float(outcome.sent), "mib_before": before / 2**20,
                   "mib_grown": (after - before) / 2**20, "bytes_per_event": max(0, after - before) / outcome.sent}
        try:
            figures["drain_rate"], figures["lost"] = _drain(subscriber, stalled)
        except (ConnectionError, BenchError):                   # NATS closes a connection that it cannot write to
            had = subscriber.received
            subscriber = Subscriber(broker.port, "stall-reader", None, topic_bytes=len(topic), qos=1, clean=False)
            figures["drain_rate"], figures["lost"] = _drain(subscriber, stalled - had)
        return figures
    finally:
        flood.close()
        subscriber.close()
        _forget(broker, "stall-reader")


def _drain(subscriber: Subscriber, wanted: int) -> tuple[float, float]:
    """Read until `wanted` deliveries came or none comes for 3 s. Returns deliveries per second and how many lack."""
    subscriber.sock.setblocking(True)
    subscriber.sock.settimeout(3.0)
    start = last = time.monotonic()
    base = subscriber.received
    while subscriber.received < wanted and last - start < DRAIN_TIMEOUT_S:
        try:
            if subscriber.receive():
                last = time.monotonic()
        except TimeoutError:
            break
    return (subscriber.received - base) / max(last - start, 1e-9), float(wanted - subscriber.received)


def _forget(broker: Broker, client_id: str) -> None:
    """Remove the durable session, so that later rows do not pay for it."""
    Subscriber(broker.port, client_id, None, topic_bytes=1, qos=1, clean=True).close()


def catch_up(broker: Broker, quick: bool) -> dict[str, float]:
    """Two durable sessions are away while events are logged; the node is restarted; each comes back and reads.

    One filter wants every event, the other 1 in 100 at random places, so that no segment can be skipped whole.
    scanned/s = events in the log / time from CONNECT to the last delivery.
    """
    total = CATCH_UP_EVENTS // (10 if quick else 1)
    common, rare = "bench/catch/a", "bench/catch/b"
    for client_id, topic_filter in (("catch-all", "bench/catch/+"), ("catch-rare", rare)):
        Subscriber(broker.port, client_id, topic_filter, topic_bytes=len(rare), qos=1, clean=False).close()
    publisher = Publisher(broker.port, "catch-writer", [common], qos=1, rare_topic=rare)
    flood = Flood(broker, [publisher], [], 0)
    rings = -(-total // publisher.ring_events)
    filled: Outcome = flood.run(events_max=rings * publisher.ring_events)
    flood.close()
    figures = {"fill_rate": filled.figures()["rate"], "events": float(filled.sent)}
    expected = {"rare": rings * publisher.rare_per_ring, "all": filled.sent}
    for name, wanted in expected.items():
        client_id = f"catch-{name}"
        broker.stop()
        start = time.monotonic()
        broker.start()
        figures["start_s"] = time.monotonic() - start
        cpu, start = broker.cpu_s(), time.monotonic()
        reader = Subscriber(broker.port, client_id, None, topic_bytes=len(rare), qos=1, clean=False)
        _, lost = _drain(reader, wanted)
        seconds = time.monotonic() - start - (3.0 if lost else 0.0)
        figures[f"scan_{name}"] = filled.sent / seconds
        figures[f"cpu_us_{name}"] = (broker.cpu_s() - cpu) / filled.sent * 1e6
        figures[f"lost_{name}"] = lost
        reader.close()
        _forget(broker, client_id)
    return figures
