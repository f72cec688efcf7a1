"""Random lives of one queue on three nodes: cuts, kills, members that come, go, ack, give back. At the end everything
that was acked to a publisher has come to some member; without cuts and kills nothing came twice without a mark.
"""
from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from tests.mesh.queues.harness import QueueWorld
from tests.support.routing import ANA, Reader

SEEDS = range(400 if os.environ.get("MESHGATE_SOAK") == "1" else 4)
NAMES = ("graz", "lyon", "oslo")


class Life:
    def __init__(self, seed, *, kills):
        self.rng = random.Random(seed)
        self.world = QueueWorld(seed, loss=self.rng.choice((0, 0, 0.05)), doubles=self.rng.choice((0, 0.05)))
        self.kills = kills
        self.nodes = [self.world.add(name) for name in (*NAMES, "cloud")]
        self.readers = []               # (node, life, reader)
        self.got = Counter()            # payload → deliveries that were acked or seen as new
        self.fresh = Counter()          # payload → times that it came unmarked
        self.settled = set()
        self.world.run(1)
        for node in self.nodes[:3]:
            self.declare(node)
            self.world.run(self.rng.uniform(0, 2))
        self.world.run(2)

    def declare(self, node):
        queue = node.router.queues.declare("work", QueueOptions(), ANA)
        queue.bind(Binding("a/#"), ANA)
        node.turn()

    def alive(self):
        return [node for node in self.nodes if node.alive]

    def step(self):
        act = self.rng.choices(("publish", "read", "ack", "leave", "get", "cut", "mend", "kill", "start", "wait"),
                               (10, 3, 10, 2, 2, 0.7, 1, 0.3 * self.kills, 1, 3))[0]
        getattr(self, act)()
        self.world.run(self.rng.uniform(0, 0.3))
        self.collect()

    def publish(self):
        node = self.rng.choice(self.alive())
        for _ in range(self.rng.randrange(1, 6)):
            straight = node.name != "cloud" and self.rng.random() < 0.3
            node.publish("$queue/work" if straight else f"a/{self.rng.randrange(5)}")

    def parts(self):
        return [node for node in self.alive() if node.name != "cloud"]

    def read(self):
        nodes = self.parts()
        if nodes and len(self.readers) < 5:
            node = self.rng.choice(nodes)
            self.readers.append((node, node.life, node.read(credit=self.rng.choice((1, 5, 50)))))

    def collect(self):
        """What came since the last look."""
        self.readers = [entry for entry in self.readers if entry[0].alive and entry[0].life == entry[1]]
        for _, _, reader in self.readers:
            for delivery in reader.deliveries:
                if not getattr(reader, "seen", None):
                    reader.seen = set()
                key = id(delivery)
                if key not in reader.seen:
                    reader.seen.add(key)
                    reader.kept = [*getattr(reader, "kept", ()), delivery]      # so that no other has its id
                    self.got[delivery.event.payload] += 1
                    self.fresh[delivery.event.payload] += delivery.attempts == 1

    def ack(self):
        if self.readers:
            node, _, reader = self.rng.choice(self.readers)
            if self.rng.random() < 0.2:
                taken, reader.deliveries[:] = list(reader.deliveries), []
                reader.queue.nack(taken)
                reader.credit += len(taken)
                reader.queue.consumer.ready()
                node.turn()
            else:
                self.settled.update(node.ack(reader, self.rng.choice((None, 1))))

    def leave(self):
        if self.readers:
            node, _, reader = self.readers.pop(self.rng.randrange(len(self.readers)))
            reader.queue.detach(reader)
            node.turn()

    def get(self):
        nodes = self.parts()
        if nodes:
            node = self.rng.choice(nodes)
            queue = node.router.queues.get("work")

            def answered(delivery):
                if delivery is not None:
                    self.got[delivery.event.payload] += 1
                    self.fresh[delivery.event.payload] += delivery.attempts == 1
                    self.settled.add(delivery.event.payload)
                    queue.ack([delivery])

            queue.get(Reader(credit=0, identity=ANA), answered)
            node.turn()

    def cut(self):
        one, other = self.rng.sample([node.name for node in self.nodes], 2)
        self.world.cut(one, other)

    def mend(self):
        for pair in list(self.world.cuts):
            self.world.mend(*pair)

    def kill(self):
        node = self.rng.choice(self.alive())
        if len(self.alive()) > 2:
                node.kill()

    def start(self):
        for node in self.nodes:
            if not node.alive:
                node.start()

    def wait(self):
        self.world.run(self.rng.choice((0.5, 3.0, 8.0)))

    def finish(self):
        self.mend()
        self.start()
        self.world.run(15)
        self.collect()
        while self.readers:
            self.leave()
        node = self.rng.choice(self.parts())
        reader = node.read(credit=20)
        self.readers.append((node, node.life, reader))
        quiet = 0
        while quiet < 60:
            self.world.run(0.25)
            self.collect()
            taken = node.ack(reader)
            self.settled.update(taken)
            quiet = 0 if taken else quiet + 1
        return {event.payload for one in self.nodes for event in one.acked
                if event.topic.startswith("a/") or event.topic == "$queue/work"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_calm_life_gives_each_event_out_once(seed):
    """Nobody dies and no line is cut: everything once, but for what was given back."""
    life = Life(seed, kills=0)
    life.cut = life.wait
    for _ in range(80):
        life.step()
    published = life.finish()
    assert life.settled >= published, sorted(published - life.settled)
    doubled = {payload: count for payload, count in life.fresh.items() if count > 1}
    assert not doubled


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hard_life_loses_nothing(seed):
    life = Life(seed + 1_000, kills=1)
    for _ in range(80):
        life.step()
    published = life.finish()
    assert life.settled >= published, sorted(published - life.settled)
