"""Random lives of three nodes: every log holds exactly what its filters' history says, once and in order."""
from __future__ import annotations

import errno

import pytest

from mesh.replication.filters import Selection
from mesh.replication.incoming.branch import Branch
from mesh.replication.settings import ReplicationSettings
from routing.consumers.consumer import ConsumerSpec
from routing.settings import StreamSettings
from tests.mesh.replication.harness import World, check
from tests.support.routing import ANA

TOPICS = ("a", "a/1", "a/2", "b/1", "b/2", "c/x/y", "orders/1", "orders/2")
PATTERNS = ("#", "a/#", "a/1", "+/1", "b/+", "c/#", "orders/#", "orders/1")
LIMITS = ReplicationSettings(linger_s=0.3, keepalive_s=1.0, flow_expiry_s=3.0, window_bytes=4_096, batch_bytes=1_024)


class Life:
    def __init__(self, seed):
        self.world = world = World(seed, loss=0.05, doubles=0.05, delay_s=(0.001, 0.03), limits=LIMITS)
        self.rng = world.rng
        streams = [
            StreamSettings("events", ("#",), partitions=2), StreamSettings("orders", ("orders/#",), partitions=3)]
        world.add("graz", streams=streams)
        world.add("lyon", streams=[StreamSettings("events", ("#",), partitions=3)])
        world.add("cloud", streams=streams[:1], replicate=(("orders/#", "earliest"), ("b/1", "latest")))
        self.readers = []

    @property
    def nodes(self):
        return list(self.world.nodes.values())

    def step(self):
        rng, world = self.rng, self.world
        node = rng.choice(self.nodes)
        action = rng.choices(
            ("publish", "subscribe", "unsubscribe", "consume", "delete", "cut", "mend", "kill", "dark", "full", "wipe"),
            (50, 8, 8, 3, 2, 3, 6, 2, 2, 2, 0.5))[0]
        if action == "publish" and node.alive:
            keys = [None, b"k1", b"k2", b"k3"]
            for _ in range(rng.randint(1, 20)):
                node.publish(*rng.choices(TOPICS, k=rng.randint(1, 4)), key=rng.choice(keys))
        elif action == "subscribe" and node.alive:
            self.readers.append((node, node.life, node.subscribe(rng.choice(PATTERNS))))
        elif action == "unsubscribe" and self.readers:
            owner, life, reader = self.readers.pop(rng.randrange(len(self.readers)))
            if owner.alive and owner.life == life:
                owner.unsubscribe(reader)
        elif action == "consume" and node.alive:
            name, pattern = rng.choice(("one", "two", "three")), rng.choice(PATTERNS)
            node.router.open_consumer(ConsumerSpec(name, (pattern,), start=rng.choice(("earliest", "latest"))), ANA)
            node.turn()
        elif action == "delete" and node.alive:
            node.router.delete_consumer(rng.choice(("one", "two", "three")))
            node.turn()
        elif action == "cut":
            world.cut(node.name, rng.choice([other.name for other in self.nodes if other is not node]))
        elif action == "mend" and world.cuts:
            world.mend(*rng.choice(sorted(map(sorted, world.cuts))))
        elif action in ("kill", "dark") and node.alive:
            (node.kill if action == "kill" else node.lights_out)()
            world.at(rng.uniform(0.05, 2), node.start)
        elif action == "wipe" and node.alive:
            node.wipe()
            world.at(rng.uniform(0.05, 2), node.start)
        elif action == "full" and node.alive:
            node.faulty.faults.fail("pwrite", at=rng.randint(1, 4), count=rng.randint(1, 6), code=errno.ENOSPC)
        world.run(rng.choice((0.001, 0.01, 0.05, 0.2)))

    def settle(self):
        world = self.world
        for pair in list(world.cuts):
            world.mend(*pair)
        world.loss = 0.0
        for node in self.nodes:
            node.faulty.faults.clear()
        world.run(30)
        world.run_until(lambda: all(self.is_quiet(node) for node in self.nodes), limit_s=60)

    @staticmethod
    def is_quiet(node):
        intake = node.replication.intake
        return all(
            branch.live.is_steady and branch.backfill is None and branch.live.floor >= branch.live.end
            for branch in intake.branches.values())

    def check(self):
        for destination in self.nodes:
            for origin in self.nodes:
                if origin is not destination:
                    check(self.world, destination, origin, ["#"], complete=False)
                    self.check_history(destination, origin)

    def check_history(self, destination, origin):
        """What the history claims is what there is."""
        histories = {}
        got = {(event.origin.stream, event.origin.index, event.origin_offset)
               for event in destination.replicas(origin.name) if event.origin.epoch == origin.store.epoch}
        for key, number in destination.router.replicas.flows():
            if key.node == origin.name and key.epoch == origin.store.epoch:
                assert number == 0, "a back-fill that never ended"
                branch = destination.replication.intake.branches.get(key)
                if branch is None:
                    history = Branch(destination.replication.intake.pulling, key).stored_history()
                else:
                    history = branch.live.history
                histories[key.stream, key.index] = Selection(history.intervals)
        expected = {
            (event.partition.stream, event.partition.index, event.offset) for event in origin.acked
            if (event.partition.stream, event.partition.index) in histories
            and histories[event.partition.stream, event.partition.index].wants_event(event.topic, event.offset)}
        assert not expected - got, f"lost on the way from {origin.name} to {destination.name}: {sorted(expected - got)}"
        known = {(event.partition.stream, event.partition.index, event.offset) for event in origin.acked}
        assert not (got & known) - expected, f"{origin.name} → {destination.name}: unclaimed {(got & known) - expected}"


def live(seed, steps=150):
    life = Life(seed)
    for _ in range(steps):
        life.step()
    life.settle()
    life.check()
    return life


@pytest.mark.parametrize("seed", range(12))
def test_a_random_life_leaves_neither_gap_nor_double(seed):
    live(seed)
