"""The mesh of a simulated node: the very object that mesh/node.py makes, on the simulation's clocks and network."""
from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mesh.meshing import Meshing
from mesh.replication.settings import From, ReplicateSettings, ReplicationConfig, ReplicationSettings
from mesh.topology.linkstate.nodestate import NodeInfo
from mesh.topology.settings import MeshSettings

if TYPE_CHECKING:
    from tests.mesh.sim.node import SimNode


def make_meshing(node: SimNode) -> Meshing:
    """Of one life of a node. Small windows make many batches of few events."""
    life = node.life

    def call_later(delay_s: float, work) -> None:
        node.world.after(delay_s, lambda: node.do(work) if node.alive and node.life == life else None)

    tables = tuple(ReplicateSettings(pattern, From(start)) for pattern, start in node.replicate)
    limits = ReplicationSettings(window_bytes=node.window_bytes, batch_bytes=node.window_bytes // 4)
    meshing = Meshing(
        NodeInfo(node.name, node.site, node.store.epoch, node.boot, node.version), node.router, MeshSettings(),
        ReplicationConfig(tables, limits), clock_s=node.clock_s, clock_ms=node.clock_ms,
        rng=random.Random(node.world.rng.getrandbits(64)), call_later=call_later)
    meshing.start()
    return meshing
