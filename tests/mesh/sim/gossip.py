"""What gossip costs: many overlays on virtual links, without logs. Bytes per node, idle and while wishes change.

    python -m tests.mesh.sim --gossip 200

The mesh is a ring with random chords, as sites would be linked: each node has about `degree` neighbours. Figures are
for one node (mean and worst), sent on all its links together.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mesh.link.frames import PROTOCOL_MAX
from mesh.topology.nodestate import NodeInfo, StreamInfo
from mesh.topology.overlay import Overlay
from mesh.topology.settings import MeshSettings
from tests.mesh.sim.network import SimLink
from tests.mesh.sim.world import WALL_MS, World

TICK_S = 0.1
Answer = TypeVar("Answer")


class GossipNode:
    """A node as SimLink sees it, with an overlay and nothing else."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.site, self.version = world, name, f"site-{name}", "sim"
        self.epoch, self.boot = f"epoch-{name}", f"boot-{name}"
        self.alive = True
        self.links: list[SimLink] = []
        self.changes = 0
        self.protocol = PROTOCOL_MAX
        self.overlay = Overlay(
            NodeInfo(name, self.site, self.epoch, self.boot, self.version), self.clock_s, self.clock_ms, world.rng,
            MeshSettings(), call_later=world.after)
        self.overlay.on_nodes_changed = self._changed
        self.overlay.set_streams((StreamInfo("events", 1, ("#",)),))
        world.every(TICK_S, lambda: self.overlay.tick(world.now_s))

    def clock_s(self) -> float:
        return self.world.now_s

    def clock_ms(self) -> int:
        return WALL_MS + round(self.world.now_s * 1000)

    def do(self, work: Callable[[], Answer]) -> Answer:
        return work()

    def _changed(self, names: set[str]) -> None:
        self.changes += 1


@dataclass
class GossipCost:
    """Bytes per second of one node: idle, and with every node changing a wish once in ten seconds."""

    nodes: int
    links: int
    converged_s: float
    start_bytes: float
    idle_bytes_s: float
    idle_worst_bytes_s: float
    busy_bytes_s: float
    busy_worst_bytes_s: float
    seen_s: float

    def __str__(self) -> str:
        return (f"{self.nodes} nodes, {self.links} links: whole after {self.converged_s:.1f} s for "
                f"{self.start_bytes / 1024:.0f} KiB per node; idle {self.idle_bytes_s / 1024:.2f} KiB/s per node "
                f"(worst {self.idle_worst_bytes_s / 1024:.2f}); every node changes a wish every 10 s: "
                f"{self.busy_bytes_s / 1024:.2f} KiB/s (worst {self.busy_worst_bytes_s / 1024:.2f}); "
                f"a new wish is known everywhere after {self.seen_s * 1000:.0f} ms")


def measure_gossip(count: int, seed: int = 1, degree: int = 4, idle_s: float = 30.0,
                   busy_s: float = 20.0) -> GossipCost:
    world = World(seed)
    nodes = [GossipNode(world, f"g{number:03d}") for number in range(count)]
    links = [_link(world, nodes, one, other) for one, other in sorted(_chords(world, count, degree))]
    converged = world.run_until(lambda: all(len(node.overlay.nodes) == count - 1 for node in nodes), 60.0)
    assert converged, f"after 60 s a node knows {min(len(node.overlay.nodes) for node in nodes)} of {count - 1} others"
    converged_s = world.now_s
    start_bytes = sum(_sent(nodes).values()) / count
    world.run_for(5.0)
    idle = _spent(world, nodes, idle_s)
    seen_s = _time_to_see(world, nodes)
    for number, node in enumerate(nodes):
        _wish_now_and_then(world, node, number, busy_s)
    busy = _spent(world, nodes, busy_s)
    return GossipCost(count, len(links), converged_s, start_bytes, sum(idle) / count, max(idle), sum(busy) / count,
                      max(busy), seen_s)


def _link(world: World, nodes: list[GossipNode], one: int, other: int) -> SimLink:
    link = SimLink(world, nodes[one], nodes[other])             # type: ignore[arg-type]
    nodes[one].links.append(link)
    nodes[other].links.append(link)
    return link


def _chords(world: World, count: int, degree: int) -> set[tuple[int, int]]:
    found = {tuple(sorted((number, (number + 1) % count))) for number in range(count)}
    while len(found) < count * degree // 2:
        one, other = world.rng.sample(range(count), 2)
        found.add((min(one, other), max(one, other)))
    return found                                                # type: ignore[return-value]


def _sent(nodes: list[GossipNode]) -> dict[str, int]:
    return {node.name: sum(link.sent_bytes[node.name] for link in node.links) for node in nodes}


def _spent(world: World, nodes: list[GossipNode], seconds: float) -> list[float]:
    before = _sent(nodes)
    world.run_for(seconds)
    after = _sent(nodes)
    return [(after[name] - before[name]) / seconds for name in before]


def _time_to_see(world: World, nodes: list[GossipNode]) -> float:
    start_s = world.now_s
    nodes[0].overlay.set_interest(("a/new/wish",))
    seen = world.run_until(
        lambda: all(nodes[0].name in node.overlay.wants("a/new/wish") for node in nodes[1:]), 10.0, step_s=0.005)
    assert seen, "a new wish was not known everywhere within 10 s"
    return world.now_s - start_s


def _wish_now_and_then(world: World, node: GossipNode, number: int, seconds: float) -> None:
    end_s = world.now_s + seconds

    def change() -> bool:
        node.overlay.set_interest((f"plant/{number}/#", f"plant/{number}/{world.rng.randrange(1000)}"))
        return world.now_s < end_s

    world.every(10.0, change)
