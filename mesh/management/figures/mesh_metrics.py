"""The mesh as Prometheus metrics: nodes, gossip, direct messages, lag of replication per origin and destination.

Called by metrics.py at scrape time. Series are bounded: NODES_MAX nodes, FLOWS_MAX flows in each direction.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from mesh.meshing import Meshing

NODES_MAX = 1_000
FLOWS_MAX = 2_000


def mesh_families(mesh: Meshing) -> Iterator[Metric]:
    found = mesh.snapshot()
    yield from _node_families(found)
    yield from _gossip_families(found)
    yield from _lag_families(mesh.replication.snapshot(filters=False))


def _node_families(found: dict[str, Any]) -> Iterator[Metric]:
    reachable = [node for node in found["nodes"] if node["hops"] is not None]
    yield _gauge("meshgate_mesh_nodes", "Nodes that can be reached, this one included", len(reachable))
    yield _gauge("meshgate_mesh_nodes_lost", "Nodes that are known and cannot be reached",
                 len(found["nodes"]) - len(reachable))
    yield _gauge("meshgate_mesh_problems", "Duplicate names, clocks, versions: see /api/v1/nodes",
                 len(found["problems"]))
    yield _gauge("meshgate_mesh_wanted_filters", "Filters that somebody here wants", found["wanted"])
    yield _gauge("meshgate_mesh_interest_filters", "Filters told to the others", len(found["interest"][found["node"]]))
    yield _gauge("meshgate_mesh_interest_widened", "1 while filters were joined to stay within the cap",
                 int(found["widened"]))
    yield _gauge("meshgate_mesh_state_bytes", "States of all nodes that are known", found["state_bytes"])
    hops = GaugeMetricFamily("meshgate_mesh_hops", "Links on the way to a node", labels=["node"])
    skew = GaugeMetricFamily("meshgate_mesh_clock_skew_seconds", "Clock of a node minus ours", labels=["node"])
    for node in reachable[1:NODES_MAX + 1]:
        hops.add_metric([node["name"]], node["hops"])
        if node["skew_ms"] is not None:
            skew.add_metric([node["name"]], node["skew_ms"] / 1000)
    yield from (hops, skew)


def _gossip_families(found: dict[str, Any]) -> Iterator[Metric]:
    size = CounterMetricFamily("meshgate_mesh_gossip_bytes", "Gossip by link, since it came up",
                               labels=["node", "link", "direction"])
    for peer in found["gossip"][:NODES_MAX]:
        for direction in ("sent", "received"):
            size.add_metric([peer["node"], peer["link"], direction], peer[f"{direction}_bytes"])
    counts = CounterMetricFamily("meshgate_mesh_events", "What the overlay did or refused", labels=["kind"])
    for kind, count in found["counts"].items():
        counts.add_metric([kind.replace(" ", "_")], count)
    direct = CounterMetricFamily("meshgate_direct_events", "Events of direct messages", labels=["outcome"])
    for kind, count in found["direct"].items():
        direct.add_metric([kind.replace(" ", "_")], count)
    yield from (size, counts, direct)


def _lag_families(found: dict[str, Any]) -> Iterator[Metric]:
    place = ["node", "stream", "partition", "flow"]
    gauges = {
        key: GaugeMetricFamily(f"meshgate_replication_{name}", text, labels=place) for key, name, text in (
            ("origins lag_offsets", "origin_lag_offsets", "Offsets of another node that have not been looked at yet"),
            ("origins lag_seconds", "origin_lag_seconds", "Age of the first event that has not arrived here"),
            ("destinations lag_events", "destination_lag_events", "Wanted events that another node has not confirmed"),
            ("destinations lag_seconds", "destination_lag_seconds", "Age of the first one of them"),
        )
    }
    counters = {
        key: CounterMetricFamily(f"meshgate_replication_{name}", text, labels=place) for key, name, text in (
            ("origins events", "received_events", "Events of another node stored here"),
            ("origins bytes", "received_bytes", "Their bytes on the link"),
            ("origins lost_to_retention", "origin_lost", "Offsets that the other node's retention took first"),
            ("destinations events", "sent_events", "Events sent to another node"),
            ("destinations bytes", "sent_bytes", "Their bytes on the link"),
            ("destinations spilled", "destination_spilled", "Events given up for a node that was away for too long"),
        )
    }
    for side in ("origins", "destinations"):
        for row in found[side][:FLOWS_MAX]:
            labels = [row["node"], row["stream"], str(row["partition"]), str(row["flow"])]
            for families in (gauges, counters):
                for key, family in families.items():
                    table, _, column = key.partition(" ")
                    if table == side and row.get(column) is not None:
                        family.add_metric(labels, row[column])    
    yield from (*gauges.values(), *counters.values())
    disk = found["disk"]
    yield _gauge("meshgate_replication_held_bytes", "Kept beyond retention for nodes that are away", disk["held_bytes"])
    full = GaugeMetricFamily("meshgate_replication_disk_full_in_seconds", "When the disk will be full, if it will be")
    if disk["full_in_s"] is not None:
        full.add_metric([], disk["full_in_s"])
    yield full


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
