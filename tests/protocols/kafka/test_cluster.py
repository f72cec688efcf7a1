"""Nodes that are one cluster, wired in memory: who serves, what a follower answers, and whose groups count."""
from __future__ import annotations

import pytest

from protocols.kafka.settings import KafkaSettings
from routing.settings import StreamSettings
from tests.protocols.kafka.harness import Broker

NAMES = ("a", "b")
LOST_S = 4.0


class Peers:
    """Of one node: what it says is heard at once, unless the line is cut."""

    def __init__(self, world, name):
        self.world, self.me, self.epoch = world, name, f"epoch-{name}"

    @property
    def in_sight(self):
        return () if self.world.cut else self.world.nodes

    def say(self, node, body):
        if not self.world.cut and node in self.world.nodes:
            self.world.nodes[node].server.heard(self.me, body)


class World:
    def __init__(self, folder):
        self.folder, self.nodes, self.cut = folder, {}, False

    def add(self, name, **settings):
        node = self.nodes[name] = Broker(self.folder / name, KafkaSettings(
            cluster=NAMES, advertise=f"{name}:9092", cluster_lost_s=LOST_S, **settings), streams=[
                StreamSettings("orders", ("orders/#",))])
        return node

    def meet(self):
        for name, node in self.nodes.items():
            node.server.meet(Peers(self, name))

    def tick(self, seconds):
        for _ in range(round(seconds / 0.5)):
            for node in self.nodes.values():
                node.tick(0.5)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for node in world.nodes.values():
        node.close()


def commit(node, offset, group="g"):
    row = {"partition_index": 0, "committed_offset": offset, "committed_metadata": "m"}
    answer = node.connect().ask("OffsetCommit", 8, group_id=group, generation_id_or_member_epoch=-1, member_id="",
                                topics=[{"name": "orders", "partitions": [row]}])
    return answer.topics[0].partitions[0].error_code


def committed(node, group="g"):
    answer = node.connect().ask("OffsetFetch", 7, group_id=group, require_stable=False, topics=[
        {"name": "orders", "partition_indexes": [0]}])
    return answer.topics[0].partitions[0].committed_offset


def test_a_follower_says_who_leads_and_ends_the_connection_of_who_asks_for_more(world):
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(2)
    for name in NAMES:
        client = world.nodes[name].connect()
        answer = client.ask("Metadata", 9, topics=None)
        assert answer.controller_id == 1 and [(one.node_id, one.host) for one in answer.brokers] == [(1, "a"), (2, "b")]
        assert answer.topics[0].partitions[0].leader_id == 1
        found = client.ask("FindCoordinator", 2, key="g", key_type=0)
        assert (found.node_id, found.host, found.error_code) == (1, "a", 0)
    client.send("OffsetFetch", 7, group_id="g", require_stable=False, topics=None)
    assert client.closed


def test_while_nobody_leads_clients_are_told_to_ask_again(world):
    node = world.add("a")
    world.meet()
    client = node.connect()
    assert client.ask("FindCoordinator", 2, key="g", key_type=0).error_code == 15
    partition = client.ask("Metadata", 9, topics=None).topics[0].partitions[0]
    assert (partition.error_code, partition.leader_id) == (5, -1)


def test_a_node_that_was_alone_keeps_its_groups_when_it_leads_a_cluster(world):
    node = world.add("a")
    node.connect().ask("Produce", 9, **node.connect().produce(b"x", b"y"))
    assert commit(node, 1) == 0
    world.meet()
    world.tick(12)
    assert committed(node) == 1


def test_one_that_takes_over_has_what_the_leader_has_told_and_not_what_it_had_before(world):
    for name in NAMES:
        world.add(name)
    for number, name in enumerate(NAMES, 1):            # before they were a cluster
        node = world.nodes[name]
        node.connect().ask("Produce", 9, **node.connect().produce(b"x", b"y"))
        assert commit(node, number) == 0 and commit(node, 1, f"only-{name}") == 0
    world.meet()
    world.tick(3)
    world.cut = True
    world.tick(LOST_S + 2)
    other = world.nodes["b"]
    assert other.server.broker.cluster.leads
    assert committed(other, "only-b") == -1, "nobody but the leader serves groups"
    assert committed(other) == 0, "what a read of its own log is not here: nothing of this one is read"
    world.cut = False
    world.tick(2)
    assert not world.nodes["a"].server.broker.cluster.leads, "the higher term goes on"
