"""The rows of the benchmark, their columns, and the targets of performance.md and issue 2. Data, no behaviour.

Called by __main__.py and report.py.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.brokers.broker import Broker
from bench.rows import amqp091, amqp10, batch, connections, console, gossip, http, kafka, log, mesh, sse, ws
from bench.rows.mqtt import flood_row, small_publishers_row

Figures = dict[str, float]
Results = dict[str, dict[str, Figures]]          # row -> broker -> figures (medians over the rounds)


@dataclass(frozen=True)
class Row:
    """One piece of work. main is the figure that the ratio compares; higher says which way is better."""

    name: str
    title: str
    run: Callable[[Broker, bool], Figures]
    columns: tuple[tuple[str, str], ...]
    main: str = "rate"
    higher: bool = True
    needs: str = ""                     # "log", "mesh": the node only; "v5", "link", "http", "amqp", "kafka": who can
    rounds: int = 3                     # alternating over the brokers; the median is shown


FLOW = (("rate", "msg/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"), ("cpu_us", "CPU µs"), ("load_us", "load µs"),
        ("lost", "lost"))
AMQP = (("rate", "msg/s"), ("cpu_us", "CPU µs"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"),
        ("slow_cpu_us", "slow CPU µs"))
KAFKA = (("rate", "produce/s"), ("cpu_us", "CPU µs"), ("fetch_rate", "consume/s"), ("fetch_cpu_us", "CPU µs"),
         ("mqtt_p99_ms", "MQTT p99 ms"))
KAFKA_FLOWS = (                         # name, bytes of a record, compression, partitions
    ("kafka-100", 100, "none", 1), ("kafka-1k", 1024, "none", 1), ("kafka-100-lz4", 100, "lz4", 1),
    ("kafka-lz4", 1024, "lz4", 1), ("kafka-12", 100, "none", 12), ("kafka-12-1k", 1024, "none", 12),
    ("kafka-12-100-lz4", 100, "lz4", 12), ("kafka-12-1k-lz4", 1024, "lz4", 12), ("kafka-50", 100, "none", 50),
    ("kafka-50-1k", 1024, "none", 50), ("kafka-50-100-lz4", 100, "lz4", 50), ("kafka-50-1k-lz4", 1024, "lz4", 50))
V5 = flood_row("e", qos=1, publishers=1, subscribers=1, version=5)

ROWS = (
    Row("qos0-1-1", "MQTT QoS 0, 1 → 1", flood_row("a", qos=0, publishers=1, subscribers=1), FLOW),
    Row("qos0-1-10", "MQTT QoS 0, 1 → 10 (deliveries)", flood_row("b", qos=0, publishers=1, subscribers=10), FLOW),
    Row("qos1-1-1", "MQTT QoS 1, 1 → 1", flood_row("c", qos=1, publishers=1, subscribers=1), FLOW),
    Row("qos1-8-1", "MQTT QoS 1, 8 → 1", flood_row("d", qos=1, publishers=8, subscribers=1), FLOW),
    Row("qos1-v5", "MQTT 5 QoS 1, 1 → 1", V5, FLOW, needs="v5"),
    Row("small", "50 publishers × 200 msg/s, QoS 1", small_publishers_row("f", publishers=50, each=200.0, qos=1), FLOW,
        main="cpu_us", higher=False),
    Row("connects", "connect rate, 32 under way", connections.connect_rate,
        (("rate", "connects/s"), *FLOW[1:5])),
    Row("idle", "idle connections", connections.idle,
        (("connections", "connections"), ("kib", "KiB each"), ("cpu_us", "CPU µs each")), main="kib", higher=False,
        rounds=1),
    Row("stall", "a durable subscriber stalls", log.stall,
        (("events", "events"), ("rate", "msg/s"), ("mib_before", "RSS MiB"), ("mib_grown", "grown MiB"),
         ("bytes_per_event", "bytes/event"), ("drain_rate", "drain/s"), ("lost", "lost")),
        main="bytes_per_event", higher=False, rounds=1),
    Row("catch-up", "durable consumers catch up from disk after a restart", log.catch_up,
        (("events", "events"), ("fill_rate", "fill/s"), ("start_s", "start s"), ("scan_rare", "scan/s 1 %"),
         ("cpu_us_rare", "CPU µs"), ("lost_rare", "lost"), ("scan_all", "scan/s all"), ("cpu_us_all", "CPU µs"),
         ("lost_all", "lost")),
        main="scan_rare", needs="log", rounds=1),
    Row("rest", "REST posts, 32 keep-alive connections (RabbitMQ: its management API, to an exchange that drops)",
        http.posts, (*FLOW, ("bare", "bare aiohttp/s"), ("ratio_bare", "of bare")), needs="http"),
    Row("ndjson", "NDJSON, 4 connections × batches of 10,000, synced", batch.batches,
        (("rate", "events/s"), ("cpu_us", "CPU µs"), ("load_us", "load µs"), ("lost", "lost")), needs="log"),
    Row("sse", "SSE fan-out, 1 → 100 (deliveries)", http.fan_out,
        (("rate", "events/s"), ("cpu_us", "CPU µs"), ("load_us", "load µs"), ("lost", "lost")), needs="log"),
    Row("sse-slow", "SSE readers that read nothing", sse.slow,
        (("readers", "readers"), ("kib", "KiB each"), ("kernel_kib", "kernel KiB"), ("cpu_us", "CPU µs each")),
        main="kib", higher=False, needs="log", rounds=1),
    Row("console", "50 viewers of the live stream beside 1,000 msg/s QoS 1", console.viewers,
        (("viewers", "viewers"), ("p99_ms", "p99 ms"), ("alone_p99_ms", "p99 ms, no viewer"),
         ("cpu_percent", "CPU % of a core"), ("viewer_cpu_us", "CPU µs/s a viewer"),
         ("rows_cpu_ms", "CPU ms for 1,000 rows"), ("lost", "lost")), main="cpu_percent", higher=False, needs="log",
        rounds=1),
    Row("ws", "WebSocket fan-out, 1 → 100 (deliveries)", ws.fan_out,
        (("rate", "events/s"), ("cpu_us", "CPU µs"), ("load_us", "load µs"), ("lost", "lost")), needs="log"),
    Row("amqp091-1-1", "AMQP 0-9-1 durable with confirms, 1 → 1 (PerfTest)",
        amqp091.row("bench-1", durable=True, pairs=1), AMQP, needs="amqp"),
    Row("amqp091-4-4", "AMQP 0-9-1 durable with confirms, 4 → 4 (PerfTest)",
        amqp091.row("bench-4", durable=True, pairs=4), AMQP, needs="amqp"),
    Row("amqp091-transient", "AMQP 0-9-1 transient without confirms, 1 → 1 (PerfTest)",
        amqp091.row("bench-t", durable=False, pairs=1), AMQP, needs="amqp"),
    Row("amqp10-1-1", "AMQP 1.0 durable, each accepted, 1 → 1", amqp10.row("bench-1", 1), AMQP, needs="amqp10"),
    Row("amqp10-4-4", "AMQP 1.0 durable, each accepted, 4 → 4", amqp10.row("bench-4", 4), AMQP, needs="amqp10"),
    *(Row(name, f"Kafka, {size:,} B, partitions: {partitions}, compression: {codec}, acks=all (Apache's perf tools)",
          kafka.flow(size, partitions, codec), KAFKA, needs="kafka")
      for name, size, codec, partitions in KAFKA_FLOWS),
    Row("kafka-paced", "Kafka, single records, 1,000 a second", kafka.paced,
        (("rate", "records/s"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms")), main="p99_ms", higher=False,
        needs="kafka"),
    Row("kafka-restart", "Kafka: ready after kill -9", kafka.restart, (("ready_s", "ready s"),), main="ready_s",
        higher=False, needs="kafka", rounds=1),
    Row("link", "across a link: QoS 1 in here, out there (NATS: stored here, sourced there)", mesh.across,
        (("rate", "msg/s"), ("alone", "one alone"), ("ratio_alone", "of alone"), ("p50_ms", "p50 ms"),
         ("p99_ms", "p99 ms"), ("added_p99_ms", "added p99"), ("cpu_us", "CPU µs"), ("load_us", "load µs"),
         ("lost", "lost")), needs="link"),
    Row("link-rtt", "across a link of 20 ms round trip, 1,000 msg/s", mesh.added_latency,
        (("rtt_ms", "RTT ms"), ("alone_p99_ms", "alone p99"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"),
         ("over_rtt_ms", "p99 over alone and RTT")), main="over_rtt_ms", higher=False, needs="mesh"),
    Row("interest", "a new wish over 5 hops", mesh.interest,
        (("hops", "hops"), ("seen_ms", "seen ms"), ("slowest_ms", "slowest ms")), main="seen_ms", higher=False,
        needs="mesh", rounds=1),
    Row("gossip", "200 simulated nodes, each with 50 filters: figures per node", gossip.gossip,
        (("nodes", "nodes"), ("links", "links"), ("whole_s", "whole after s"), ("start_kib", "start KiB"),
         ("idle_kib_s", "idle KiB/s"), ("idle_cpu", "idle CPU ‰"), ("busy_kib_s", "busy KiB/s"),
         ("busy_cpu", "busy CPU ‰"), ("seen_ms", "new wish seen ms"), ("state_kib", "states KiB")),
        main="busy_kib_s", higher=False, needs="mesh", rounds=1),
)


@dataclass(frozen=True)
class Target:
    """A promise: the figure of the node, or its ratio to a peer, at least (or at most) a limit."""

    row: str
    figure: str
    limit: float
    peer: str = ""                      # "": the figure itself
    at_most: bool = False
    unit: str = ""

    @property
    def text(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"{self.figure} {sign} {self.limit:,g}" + (f"× {self.peer}" if self.peer else f" {self.unit}".rstrip())

    def value(self, results: Results) -> float | None:
        """None when the node or the peer did not run that row."""
        brokers = results.get(self.row, {})
        own = brokers.get("meshgate", {}).get(self.figure)
        if own is None or not self.peer:
            return own
        other = brokers.get(self.peer, {}).get(self.figure)
        return own / other if other else None

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


TARGETS = (
    Target("qos0-1-1", "rate", 3, "mosquitto"),
    Target("qos0-1-1", "rate", 0.5, "nats"),
    Target("qos0-1-10", "rate", 3, "mosquitto"),
    Target("qos0-1-10", "rate", 0.5, "nats"),
    Target("qos1-1-1", "rate", 4, "mosquitto"),
    Target("qos1-1-1", "rate", 4, "nats"),
    Target("qos1-8-1", "rate", 4, "mosquitto"),
    Target("qos1-8-1", "rate", 4, "nats"),
    Target("small", "cpu_us", 1, "nats", at_most=True),
    Target("idle", "kib", 20, at_most=True, unit="KiB"),
    Target("catch-up", "scan_rare", 500_000, unit="events/s"),
    Target("stall", "mib_grown", 32, at_most=True, unit="MiB"),
    Target("rest", "rate", 1, "rabbitmq"),
    Target("rest", "ratio_bare", 0.7),
    Target("ndjson", "rate", 100_000, unit="events/s"),
    Target("sse-slow", "kib", 64, at_most=True, unit="KiB"),
    Target("console", "cpu_percent", 5, at_most=True, unit="% of a core"),
    Target("console", "added_p99_ms", 2, at_most=True, unit="ms"),
    Target("console", "rows_cpu_ms", 20, at_most=True, unit="ms"),
    Target("amqp091-1-1", "rate", 2, "rabbitmq"),
    Target("amqp091-1-1", "p99_ms", 1, "rabbitmq", at_most=True),
    Target("amqp091-4-4", "rate", 2, "rabbitmq"),
    Target("amqp091-transient", "rate", 2, "rabbitmq"),
    Target("amqp10-1-1", "rate", 1.5, "artemis"),
    Target("amqp10-1-1", "rate", 2, "rabbitmq-1.0"),
    Target("amqp10-1-1", "cpu_us", 1, "artemis", at_most=True),
    Target("amqp10-1-1", "p99_ms", 1, "artemis", at_most=True),
    Target("amqp10-4-4", "rate", 1.2, "artemis"),
    Target("amqp10-4-4", "rate", 2, "rabbitmq-1.0"),
    *(Target(row[0], "rate", 1, "kafka-synced") for row in KAFKA_FLOWS),
    *(Target(row[0], "rate", 0.5, "kafka") for row in KAFKA_FLOWS),
    *(Target(row[0], "fetch_rate", 0.5, "kafka") for row in KAFKA_FLOWS),
    Target("kafka-paced", "p99_ms", 31, at_most=True, unit="ms"),
    Target("kafka-restart", "ready_s", 2, at_most=True, unit="s"),
    Target("link", "ratio_alone", 0.5),
    Target("link", "rate", 4, "mosquitto"),
    Target("link", "rate", 1, "nats"),
    Target("link", "added_p99_ms", 5, at_most=True, unit="ms"),
    Target("link-rtt", "over_rtt_ms", 5, at_most=True, unit="ms"),
    Target("interest", "slowest_ms", 1_000, at_most=True, unit="ms"),
    Target("gossip", "idle_kib_s", 16, at_most=True, unit="KiB/s"),
    Target("gossip", "busy_kib_s", 32, at_most=True, unit="KiB/s"),
    Target("gossip", "busy_cpu", 50, at_most=True, unit="‰"),
    Target("gossip", "seen_ms", 1_000, at_most=True, unit="ms"),
    *(Target(row, "lost", 0, at_most=True)
      for row in ("qos0-1-1", "qos0-1-10", "qos1-1-1", "qos1-8-1", "qos1-v5", "small", "stall", "link")),
)
