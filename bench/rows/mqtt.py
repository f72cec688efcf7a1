"""MQTT rows: fan-out, fan-in, many small publishers. Same packets for every broker, 100-byte payloads.

Each row does two runs: a flood (msg/s, CPU per delivered message) and a slow fixed rate (p50 and p99 from publish to
delivery), because latency at full load is only the length of the queues.
"""
from __future__ import annotations

from collections.abc import Callable

from bench.brokers.broker import Broker
from bench.load.clients import Publisher, Subscriber
from bench.load.load import Flood, paced

LATENCY_RATE = 1_000.0                  # messages per second of the latency run
QOS0_UNDER_WAY = 8_000                  # bound end to end, so that no broker drops QoS 0 for a slow reader
QOS1_UNDER_WAY = 20_000
WINDOW = 1_000                          # unacknowledged QoS 1 messages per publisher


Run = Callable[[Broker, bool], dict[str, float]]


def flood_row(tag: str, *, qos: int, publishers: int, subscribers: int, version: int = 4) -> Run:
    topics = [f"bench/{tag}/{number}" for number in range(publishers)]

    def run(broker: Broker, quick: bool) -> dict[str, float]:
        subs = [Subscriber(broker.port, f"s-{tag}-{number}", f"bench/{tag}/+", topic_bytes=len(topics[0]), qos=qos,
                           version=version) for number in range(subscribers)]
        pubs = [Publisher(broker.port, f"p-{tag}-{number}", [topic], qos=qos, version=version, window=WINDOW)
                for number, topic in enumerate(topics)]
        flood = Flood(broker, pubs, subs, (QOS1_UNDER_WAY if qos else QOS0_UNDER_WAY))
        try:
            flood.run(0.3 if quick else 1.0)                    # warm caches, connections and code
            figures = flood.run(1.5 if quick else 4.0).figures()
            figures["p50_full_ms"], figures["p99_full_ms"] = figures["p50_ms"], figures["p99_ms"]
            slow = paced(broker, pubs, topics, subs, rate=LATENCY_RATE, seconds=1.0 if quick else 3.0, qos=qos,
                         version=version)
            figures["p50_ms"], figures["p99_ms"] = slow.figures()["p50_ms"], slow.figures()["p99_ms"]
            figures["lost"] += slow.figures()["lost"]
        finally:
            flood.close()
        return figures

    return run


def small_publishers_row(tag: str, *, publishers: int, each: float, qos: int) -> Run:
    """Many connections with a few messages each: what a message costs when nothing can be batched by the sender."""
    topics = [f"bench/{tag}/{number:03d}" for number in range(publishers)]

    def run(broker: Broker, quick: bool) -> dict[str, float]:
        subscriber = Subscriber(broker.port, f"s-{tag}", f"bench/{tag}/+", topic_bytes=len(topics[0]), qos=qos)
        pubs = [Publisher(broker.port, f"p-{tag}-{number}", [topic], qos=qos) for number, topic in enumerate(topics)]
        try:
            rate = publishers * each
            paced(broker, pubs, topics, [subscriber], rate=rate, seconds=0.5, qos=qos)
            seconds = 3.0 if quick else 8.0
            return paced(broker, pubs, topics, [subscriber], rate=rate, seconds=seconds, qos=qos).figures()
        finally:
            for client in (*pubs, subscriber):
                client.close()

    return run
