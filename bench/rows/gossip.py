"""The row `gossip`: what a mesh of many nodes costs each of them. Overlays on virtual links, no logs, a fake clock.

The mesh is a ring with random chords, about DEGREE links per node, 5 ms each. CPU is that of the whole simulation, the
virtual network included, divided by nodes and simulated seconds: an upper bound for one overlay.
"""
from __future__ import annotations

import random
import time

from bench.brokers.broker import Broker
from mesh.topology.settings import MeshSettings
from tests.mesh.topology.net import Net

NODES = 200
DEGREE = 4
FILTERS = 50                    # of each node
CHANGE_EVERY_S = 10.0           # each node, one filter
DELAY_S = 0.005


def gossip(broker: Broker, quick: bool) -> dict[str, float]:
    """Figures per node. broker only says that the row is ours."""
    count = 50 if quick else NODES
    net = Net(1, MeshSettings())
    rng = random.Random(1)
    names = [f"n{number:03d}" for number in range(count)]
    for name in names:
        net.add(name).set_interest(tuple(f"site/{name}/device/{index}" for index in range(FILTERS)))
    pairs = {(number, (number + 1) % count) for number in range(count)}
    while len(pairs) < count * DEGREE // 2:
        pairs.add(tuple(sorted(rng.sample(range(count), 2))))       # type: ignore[arg-type]
    started_s = net.now_s
    for one, other in sorted(pairs):
        net.link(names[one], names[other], delay_s=DELAY_S)
    net.run_until(lambda: all(len(node.nodes) == count - 1 for node in net.nodes.values()), 60, 0.01)
    figures = {"nodes": float(count), "links": float(len(pairs)), "whole_s": net.now_s - started_s,
               "start_kib": net.bytes / count / 1024}
    net.run(6)
    figures["idle_kib_s"], figures["idle_cpu"] = _cost(net, count, 10.0)
    net.nodes[names[0]].set_interest(("a/new/wish",))
    others = [net.nodes[name] for name in names[1:]]
    figures["seen_ms"] = 1_000 * net.run_until(lambda: all(node.wants("a/new/wish") for node in others), 10)
    _change_now_and_then(net, names, rng)
    figures["busy_kib_s"], figures["busy_cpu"] = _cost(net, count, 10.0)
    net.run_until(net.agree, 30, 2.0)
    figures["state_kib"] = float(net.nodes[names[0]].snapshot()["state_bytes"]) / 1024
    return figures


def _cost(net: Net, count: int, seconds: float) -> tuple[float, float]:
    """KiB per second that a node sends on all its links together, and CPU in thousandths of a core."""
    sent, cpu_s = net.bytes, time.process_time()
    net.run(seconds)
    return (net.bytes - sent) / count / seconds / 1024, (time.process_time() - cpu_s) / count / seconds * 1_000


def _change_now_and_then(net: Net, names: list[str], rng: random.Random) -> None:
    end_s = net.now_s + 10.0

    def change(name: str, number: int) -> None:
        if net.now_s < end_s:
            filters = [f"site/{name}/device/{index}" for index in range(FILTERS)]
            net.nodes[name].set_interest((*filters[1:], f"site/{name}/new/{number}"))
            net.after(CHANGE_EVERY_S, lambda: change(name, number + 1))

    for name in names:
        net.after(rng.uniform(0, CHANGE_EVERY_S), lambda name=name: change(name, 0))    # type: ignore[misc]
