"""Consumers that move while nodes are killed and links are cut: whatever is acked there or delivered here was all."""
from __future__ import annotations

import os
import random

import pytest

from tests.mesh.replication.consumers import attach, got, trio, write
from tests.support.routing import Reader

SEEDS = int(os.environ.get("MESHGATE_HANDOVER_SEEDS", "24"))
FAULTS = 6
LIMIT_S = 50.0


def wanted(nodes):
    return {event.payload for node in nodes for event in node.acked if event.topic.startswith("a/")}


def disturb(world, rng, graz, cloud, lyon):
    kind = rng.choice(["kill", "cut", "write", "nothing"])
    if kind == "kill":
        node = rng.choice((graz, cloud, lyon))
        rng.choice((node.kill, node.lights_out))()
        world.run(rng.uniform(0.0, 0.3))
        node.start()
    elif kind == "cut":                         # never between the two nodes of the move: then each has its own
        pair = rng.choice((("graz", "cloud"), ("lyon", "cloud")))
        world.cut(*pair)
        world.run(rng.uniform(0.0, 1.0))
        world.mend(*pair)
    elif kind == "write":
        for node in (graz, cloud, lyon):
            node.publish(f"a/{rng.random()}", "b")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_on_the_way(seed):
    rng = random.Random(seed)
    world, graz, cloud, lyon = trio(seed, loss=0.1, doubles=0.1, delay_s=(0.001, 0.03))
    nodes = (graz, cloud, lyon)
    start, is_cut = rng.choice(["earliest", "latest"]), rng.random() < 0.4
    if start == "earliest":
        write(world, *nodes)
    world.run(1)
    if is_cut:
        world.cut("graz", "cloud")
    first = attach(graz, start=start)
    world.run(rng.choice([0.1, 3.0]) if is_cut or start == "earliest" else 3.0)
    write(world, *nodes)
    world.run(rng.choice([0.0, 2.0]))
    seen = {delivery.event.payload for delivery in first.ack_all(first.consumer)}
    graz.turn()
    world.run(0.5)                              # stored
    if is_cut:
        world.mend("graz", "cloud")
    write(world, *nodes)
    home = lyon
    reader, life = attach(home), home.life
    for _ in range(FAULTS):
        world.run(rng.uniform(0.0, 0.7))
        disturb(world, rng, *nodes)
        if rng.random() < 0.2:                  # and on, or back
            seen |= set(got(reader))
            for old in (first, reader):
                old.consumer.detach(old)
            home = graz if home is lyon else lyon
            reader, life = attach(home), home.life
    deadline_s = world.now_s + LIMIT_S
    while world.now_s < deadline_s and not wanted(nodes) <= seen | set(got(reader)):
        world.run(0.5)
        if home.life != life or reader.closed:
            seen |= set(got(reader))            # delivered, and never acked
            reader, life = attach(home), home.life
    other = graz if home is lyon else lyon
    if "desk" in other.router.consumers:        # the other node was down when it was looked for: there is another one
        first.consumer.detach(first)
        seen |= set(got(reader))
        other.router.consumers["desk"].attach(rest := Reader(credit=10_000))
        other.turn()
        world.run(8)
        seen |= set(got(rest))
    missing = wanted(nodes) - seen - set(got(reader))
    assert not missing, f"lost: {sorted(missing)}"
    fresh = [delivery.event.payload for delivery in reader.deliveries if delivery.attempts == 1]
    assert len(fresh) == len(set(fresh)), "twice without a mark"
