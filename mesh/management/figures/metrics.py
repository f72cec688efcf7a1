"""/metrics in Prometheus' text format. Plain counters of the node are read when somebody asks: no cost per message.

A registry per node, no global one. Series per consumer are bounded (CONSUMERS_MAX), so that 100,000 sessions do not
make 100,000 series; the totals count all of them.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mesh.link.metrics import link_families
from mesh.management.figures.mesh_metrics import mesh_families
from mesh.management.paging.steps import in_steps

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from mesh.node import Node
    from mesh.system.loopwatch import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CONSUMERS_MAX = 1_000
GAUGES = frozenset(("connections", "sessions", "sse_readers"))      # of a protocol's numbers; the rest are totals

Counts = Mapping[tuple[str], int] | Mapping[tuple[str, str], int] | Mapping[tuple[str, str, str], int]


class Metrics:
    """One registry with everything that this node counts."""

    def __init__(self, node: Node, viewers: Callable[[], int]) -> None:
        """viewers: how many pages and terminals look at the node now."""
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(node, viewers))
        ProcessCollector(registry=self._registry)

    async def answer(self, request: web.Request) -> web.Response:
        """A family at a time: a node with hundreds of flows has thousands of rows."""
        families, _ = await in_steps(self._registry.collect())
        pieces, _ = await in_steps(generate_latest(_One(family)) for family in families)
        body = b"".join(pieces)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


class _One(Collector):
    """What generate_latest() takes, with a single family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


class NodeCollector(Collector):
    """Folds the node's counters into metric families at scrape time."""

    def __init__(self, node: Node, viewers: Callable[[], int]) -> None:
        self._node = node
        self._viewers = viewers

    def describe(self) -> Iterable[Metric]:
        return ()           # names are known at scrape time only; registering must not run collect()

    def collect(self) -> Iterator[Metric]:
        yield from self._node_families()
        yield from self._routing_families()
        yield from self._log_families()
        yield from self._consumer_families()
        yield from link_families(self._node.links)
        yield from mesh_families(self._node.mesh)
        yield from webhook_families(self._node.webhooks.snapshot())
        yield from bridge_families(self._node.bridges.snapshot())
        for protocol, numbers in self._node.protocol_counters().items():
            yield from protocol_families(protocol, numbers)

    def _node_families(self) -> Iterator[Metric]:
        node = self._node
        info = GaugeMetricFamily("meshgate_info", "Who this node is", labels=["name", "site", "version"])
        info.add_metric([node.name, node.config.node.site, node.version], 1)
        yield info
        yield _gauge("meshgate_ready", "1 when the node takes traffic", int(node.ready))
        yield _gauge("meshgate_console_viewers", "Pages and terminals that look at the node", self._viewers())
        yield _gauge("meshgate_healthy", "0 once a part of the log has failed", int(not node.problems()))
        yield _gauge("meshgate_clock_trusted", "0 while the wall clock has jumped", int(node.clock.jump is None))
        yield _gauge("meshgate_clock_ahead_seconds", "Wall clock less the node's own count",
                     node.clock.ahead_ms() / 1000)
        yield CounterMetricFamily("meshgate_clock_jumps", "Jumps of the wall clock that were taken as right",
                                  node.clock.jumps)
        yield _gauge("meshgate_uptime_seconds", "Since the start of the process", node.uptime_s())
        yield _gauge("meshgate_locked_out", "Users and addresses that are locked out", node.authenticator.locked_count)
        refused = node.files.refused if node.files is not None else 0
        yield CounterMetricFamily("meshgate_connections_refused", "Because open files ran short", refused)
        handshakes: Counter[tuple[str]] = Counter()
        for listener in node.listeners:
            if listener.secure:
                handshakes[(listener.protocol,)] += listener.handshakes.failed
        yield _counter("meshgate_tls_handshakes_failed", "By listener", ["protocol"], handshakes)
        yield _counter("meshgate_logins", "Logins by outcome", ["protocol", "outcome"], node.authenticator.outcomes)
        yield from _key_sets(node.authenticator.tokens.key_sets())
        yield _histogram("meshgate_loop_turn_seconds", "Turns of the event loop, by the clock", node.watch.turns_s)
        yield _histogram("meshgate_loop_turn_cpu_seconds", "Turns of the event loop, CPU time", node.watch.turns_cpu_s)
        reloads = CounterMetricFamily("meshgate_reloads", "Configurations taken and refused", labels=["result"])
        for result, count in node.reloads.items():
            reloads.add_metric([result], count)
        yield reloads

    def _routing_families(self) -> Iterator[Metric]:
        router = self._node.router
        yield CounterMetricFamily("meshgate_events_published", "Events that came in, of any protocol", router.published)
        refused = CounterMetricFamily("meshgate_events_refused", "Events that were refused", labels=["reason"])
        for reason, count in router.refused.items():
            refused.add_metric([reason.value], count)
        yield refused
        yield _counter("meshgate_events_dropped", "Events that live subscribers lost", ["protocol", "reason"],
                       router.drops)
        yield _counter("meshgate_denials", "Policy denials", ["protocol", "action"], router.policy.denied)
        yield _counter("meshgate_policy_misfits", "Denials of names that fit no rule with this mark", ["mark"],
                       {(mark,): count for mark, count in router.policy.misfits.items()})
        yield _counter("meshgate_translation_losses", "Fields that a converter dropped or weakened",
                       ["from", "to", "field"], router.ledger.counts)
        yield _gauge("meshgate_retained_events", "Topics with a retained event", router.retained.tree.count)
        yield _gauge("meshgate_retained_bytes", "Memory of retained events", router.retained.tree.size_bytes)

    def _log_families(self) -> Iterator[Metric]:
        router = self._node.router
        labels = ["stream", "partition"]
        families = {
            name: GaugeMetricFamily(f"meshgate_partition_{name}", text, labels=labels)
            for name, text in (
                ("start_offset", "First offset that is kept"), ("end_offset", "Behind the last durable event"),
                ("size_bytes", "On disk"), ("segments", "Files"), ("failed", "1 once writing has failed"),
                ("damage", "Places that cannot be read"),
                ("kept_events", "Taken by retention, and owed to a queue"), ("kept_bytes", "On disk, of those"),
            )
        }
        for partition in self._node.store.partitions:
            place = [partition.stream, str(partition.index)]
            families["start_offset"].add_metric(place, partition.start_offset)
            families["end_offset"].add_metric(place, partition.end_offset)
            families["size_bytes"].add_metric(place, partition.size_bytes)
            families["segments"].add_metric(place, partition.segment_count)
            families["failed"].add_metric(place, int(partition.failed is not None))
            families["damage"].add_metric(place, len(partition.damage))
            families["kept_events"].add_metric(place, partition.kept.events)
            families["kept_bytes"].add_metric(place, partition.kept.size_bytes)
        yield from families.values()
        yield _gauge("meshgate_commit_pending_bytes", "Waiting for the disk", router.store.pending_bytes)

    def _consumer_families(self) -> Iterator[Metric]:
        router = self._node.router
        consumers = list(router.registry.awake())
        yield _gauge("meshgate_consumers", "Consumers, live and durable", len(router.consumers))
        yield _gauge("meshgate_consumers_attached", "Consumers that somebody reads",
                     sum(1 for consumer in consumers if consumer.is_read))
        yield _gauge("meshgate_in_flight_events", "Delivered and not acked, of all consumers",
                     sum(consumer.in_flight for consumer in consumers))
        yield _gauge("meshgate_lags_counting", "Places in the log from which the lag of a consumer is being counted; "
                     "until it is, the lag shown is what was found so far", len(router.registry.counting))
        yield CounterMetricFamily("meshgate_consumers_skipped_by_retention",
                                  "Records that retention removed before a consumer read them",
                                  router.registry.skipped_by_retention)
        lag_events = GaugeMetricFamily("meshgate_consumer_lag_events", "Not acked", labels=["consumer"])
        lag_seconds = GaugeMetricFamily("meshgate_consumer_lag_seconds", "Age of the first", labels=["consumer"])
        counters = {
            name: CounterMetricFamily(f"meshgate_consumer_{name}", text, labels=["consumer"])
            for name, text in (
                ("delivered", "Events handed out"), ("acked", "Events done"),
                ("redelivered", "Events handed out again"), ("dead_lettered", "Events given up"),
            )
        }
        durable = (consumer for consumer in consumers if consumer.spec.durable)
        for consumer in islice(durable, CONSUMERS_MAX):
            lag = consumer.lag()
            lag_events.add_metric([consumer.name], lag.events)
            lag_seconds.add_metric([consumer.name], lag.seconds)
            for name, family in counters.items():
                family.add_metric([consumer.name], getattr(consumer, name))
        yield from (lag_events, lag_seconds, *counters.values())


BRIDGE_STATES = ("starting", "running", "waiting", "stopped", "paused")
WEBHOOK_STATES = ("closed", "open", "half-open", "not permitted", "not served")


def webhook_families(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    """Per webhook: what became of its requests, its breaker, its lag."""
    counters = {
        name: CounterMetricFamily(f"meshgate_webhook_{name}", text, labels=["consumer"])
        for name, text in (
            ("delivered", "Events that the receiver took"), ("failed", "Requests that it did not take"),
            ("retried", "Failed requests that are tried again"), ("dead_lettered", "Events given up"),
            ("expired", "Events whose time was over before they went out"),
        )
    }
    in_flight = GaugeMetricFamily("meshgate_webhook_in_flight", "Requests under way", labels=["consumer"])
    lag = GaugeMetricFamily("meshgate_webhook_lag_events", "Not taken yet", labels=["consumer"])
    state = GaugeMetricFamily("meshgate_webhook_state", "1 for the breaker's state", labels=["consumer", "state"])
    for row in rows[:CONSUMERS_MAX]:
        labels = [str(row["consumer"])]
        lag.add_metric(labels, row["lag_events"])
        in_flight.add_metric(labels, row.get("in_flight", 0))
        for name, family in counters.items():
            family.add_metric(labels, row.get(name, 0))
        for known in WEBHOOK_STATES:
            state.add_metric([*labels, known], int(row["state"] == known))
    yield from (*counters.values(), in_flight, lag, state)


def bridge_families(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    """Per route of a bridge: what became of its records, its state, its lag."""
    counters = {
        name: CounterMetricFamily(f"meshgate_bridge_{name}", text, labels=["route", "direction"])
        for name, text in (
            ("moved", "Records that are on the other side"), ("repeats", "Records that were there already"),
            ("looped", "Records that had been there before, and were left alone"),
            ("refused", "Records left out, or sent to the dead letters"),
            ("expired", "Events whose time was over before they went out"),
            ("lost", "Records that the cluster deleted before they were read"), ("faults", "Attempts that failed"),
        )
    }
    lag = GaugeMetricFamily("meshgate_bridge_lag_events", "Not moved yet", labels=["route", "direction"])
    state = GaugeMetricFamily("meshgate_bridge_state", "1 for its state", labels=["route", "direction", "state"])
    for row in rows:
        labels = [str(row["name"]), str(row["direction"])]
        if row["lag_events"] is not None:
            lag.add_metric(labels, row["lag_events"])
        for name, family in counters.items():
            family.add_metric(labels, row[name])
        for known in BRIDGE_STATES:
            state.add_metric([*labels, known], int(row["state"] == known))
    yield from (*counters.values(), lag, state)


def protocol_families(protocol: str, numbers: dict[str, int]) -> Iterator[Metric]:
    """A protocol's own numbers: "packets.connect" is the series packets_total{kind="connect"}."""
    labelled: dict[str, CounterMetricFamily] = {}
    for key, value in numbers.items():
        name, dot, kind = key.partition(".")
        full, text = f"meshgate_{protocol}_{name}", f"{protocol}: {name.replace('_', ' ')}"
        if dot:
            if name not in labelled:
                labelled[name] = CounterMetricFamily(full, text, labels=["kind"])
            labelled[name].add_metric([kind], value)
        else:
            yield _gauge(full, text, value) if name in GAUGES else CounterMetricFamily(full, text, value)
    yield from labelled.values()


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _key_sets(issuers: list[tuple[str, float | None, bool]]) -> Iterator[Metric]:
    """The keys of token issuers: old ones, or none, mean that logins will fail."""
    age = GaugeMetricFamily("meshgate_token_keys_age_seconds", "Since an issuer's keys were fetched", labels=["issuer"])
    failing = GaugeMetricFamily("meshgate_token_keys_failing", "1 when the last fetch failed", labels=["issuer"])
    for issuer, age_s, failed in issuers:
        failing.add_metric([issuer], int(failed))
        if age_s is not None:
            age.add_metric([issuer], age_s)
    yield age
    yield failing


def _counter(name: str, text: str, labels: list[str], counts: Counts) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(counts.items()):
        family.add_metric(list(key), count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.sum_s)
