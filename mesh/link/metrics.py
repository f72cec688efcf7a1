"""Links as Prometheus metrics. Called by mesh/management/figures/metrics.py with every scrape."""
from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from mesh.link.manager import LinkManager
from mesh.link.protocol.health import LinkState

LINKS_MAX = 1_000           # with metrics of their own


def link_families(links: LinkManager) -> Iterator[Metric]:
    """One series per link, by its id and the node at the other end."""
    labels = ["link", "node"]
    state = GaugeMetricFamily("meshgate_link_state", "1 for the state that it has", labels=[*labels, "state"])
    gauges = {
        name: GaugeMetricFamily(f"meshgate_link_{name}", text, labels=labels) for name, text in (
            ("rtt_seconds", "Smoothed round trip"), ("skew_seconds", "The neighbour's clock minus ours"),
            ("backlog_bytes", "Waiting here"), ("backlog_frames", "Waiting here"),
            ("unconfirmed_bytes", "Sent and not confirmed"), ("backlog_seconds", "Until what waits is there"))
    }
    counters = {
        name: CounterMetricFamily(f"meshgate_link_{name}", text, labels=labels) for name, text in (
            ("sent_bytes", "To the neighbour"), ("received_bytes", "From the neighbour"),
            ("sent_frames", "To the neighbour"), ("received_frames", "From the neighbour"),
            ("dropped_frames", "Found their queue full, or too large"),
            ("dropped_gossip", "From the neighbour, above its rate"), ("connects", "Times that it came up"),
            ("dial_failures", "Dials without a connection"))
    }
    for link in links.snapshot()[:LINKS_MAX]:
        place = [link["id"], link["node"] or ""]
        for known in LinkState:
            state.add_metric([*place, known.value], int(link["state"] == known.value))
        backlog = link["backlog"]
        values = {
            "rtt_seconds": _seconds(link["rtt_ms"]), "skew_seconds": _seconds(link["skew_ms"]),
            "backlog_bytes": backlog["bytes"], "backlog_frames": backlog["frames"],
            "unconfirmed_bytes": backlog["unconfirmed_bytes"], "backlog_seconds": backlog["seconds"],
        }
        for name, value in values.items():
            if value is not None:
                gauges[name].add_metric(place, value)
        for name, family in counters.items():
            direction, _, unit = name.partition("_")
            family.add_metric(place, link[direction][unit] if direction in ("sent", "received") else link[name])
    yield from (state, *gauges.values(), *counters.values())


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
