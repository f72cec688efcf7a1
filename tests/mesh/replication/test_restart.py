"""Restarts of the destination at awkward moments."""
from __future__ import annotations

from mesh.replication.settings import ReplicationSettings
from tests.mesh.replication.harness import World, check


def test_what_a_filter_that_went_still_claims_is_fetched_after_a_crash():
    """Found by seed 3: taken, not yet durable, the filter gone, a crash; then nobody wanted the partition any more."""
    world = World(1, limits=ReplicationSettings(linger_s=0.2))
    graz, cloud = world.add("graz"), world.add("cloud")
    reader = cloud.subscribe("#")
    world.run(1)
    flow = next(iter(cloud.replication.intake.branches.values())).live
    held = []
    store_publish = cloud.replication.intake.replicas.publish
    cloud.replication.intake.replicas.publish = lambda *arguments: held.append(arguments)     # a slow disk
    graz.publish("a", "b")
    world.run(0.1)
    assert held and flow.expected == 2 and flow.floor == 0
    cloud.unsubscribe(reader)
    world.run_until(lambda: not flow.history.open())
    world.run(0.1)
    cloud.kill()
    cloud.replication.intake.replicas.publish = store_publish
    cloud.start()
    world.run(3)
    assert check(world, cloud, graz, ["#"]) == 2
