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
        self.world.said.append(len(body))
        if not self.world.cut and node in self.world.nodes:
            self.world.nodes[node].server.heard(self.me, body)


class World:
    def __init__(self, folder, streams=()):
        self.folder, self.nodes, self.cut, self.streams = folder, {}, False, streams
        self.said = []

    def add(self, name, **settings):
        node = self.nodes[name] = Broker(self.folder / name, KafkaSettings(
            cluster=NAMES, advertise=f"{name}:9092", cluster_lost_s=LOST_S, **settings), streams=[
                StreamSettings("orders", ("orders/#",)), *self.streams])
        return node

    def close(self):
        for node in self.nodes.values():
            node.close()

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
    world.close()


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


def commit_many(node, count, group="g", metadata="m" * 4_000):
    client = node.connect()
    for start in range(0, count, 100):
        answer = client.ask("OffsetCommit", 8, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
            {"name": "wide", "partitions": [
                {"partition_index": index, "committed_offset": 0, "committed_metadata": metadata}
                for index in range(start, min(start + 100, count))]}])
        assert {row.error_code for row in answer.topics[0].partitions} == {0}


def fetched(node, count, group="g"):
    answer = node.connect().ask("OffsetFetch", 7, group_id=group, require_stable=False, topics=[
        {"name": "wide", "partition_indexes": list(range(count))}])
    return [row.committed_offset for row in answer.topics[0].partitions]


def test_a_group_with_more_offsets_than_one_message_holds_is_told_whole(tmp_path):
    """1,000 offsets with 4,000 bytes each."""
    world = World(tmp_path, streams=(StreamSettings("wide", ("wide/#",), partitions=1_000),))
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(3)
    commit_many(world.nodes["a"], 1_000)
    world.tick(5)
    assert max(world.said) <= 512 * 1024
    world.cut = True
    world.tick(LOST_S + 2)
    assert fetched(world.nodes["b"], 1_000) == [0] * 1_000
    world.close()


def test_who_is_killed_while_it_takes_over_takes_over_once_more(world):
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(3)
    assert commit(world.nodes["a"], 0) == 0
    world.tick(2)
    other = world.nodes["b"]
    cluster = other.server.broker.cluster
    cluster._following.take_over = lambda done: None            # as far as it comes before the kill
    world.cut = True
    world.tick(LOST_S + 2)
    assert not cluster.leads
    other.store.close()
    world.add("b")
    world.nodes["b"].server.meet(Peers(world, "b"))
    world.tick(30)
    assert world.nodes["b"].server.broker.cluster.leads and committed(world.nodes["b"]) == 0


def test_a_topic_is_told_of_at_once(world):
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(3)
    answer = world.nodes["a"].connect().ask("CreateTopics", 4, topics=[
        {"name": "new", "num_partitions": 2, "replication_factor": 1}])
    assert answer.topics[0].error_code == 0
    world.tick(1)
    topics = [node.server.broker.topics for node in world.nodes.values()]
    assert len({each.id_of(each.find("new")) for each in topics}) == 1


def test_a_group_that_is_deleted_does_not_come_back_with_its_next_leader(world):
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(3)
    assert commit(world.nodes["a"], 0, "old") == 0
    world.tick(2)
    world.cut = True
    world.tick(LOST_S + 2)
    world.cut = False
    world.tick(3)
    second = world.nodes["b"]
    assert second.connect().ask("DeleteGroups", 1, groups_names=["old"]).results[0].error_code == 0
    world.tick(2)
    for name in NAMES:
        assert "old" not in world.nodes[name].server.broker.cluster._following.copies


def test_a_topic_that_a_client_of_a_follower_uses_is_made_by_the_leader(world):
    """A producer that knows only that node asks it again and again, and never another one."""
    for name in NAMES:
        world.add(name)
    world.meet()
    world.tick(3)
    client = world.nodes["b"].connect()
    asked = {"topics": [{"name": "fresh"}], "allow_auto_topic_creation": True}
    assert client.ask("Metadata", 8, **asked).topics[0].error_code == 5
    world.tick(1)
    (topic,) = client.ask("Metadata", 8, **asked).topics
    assert topic.error_code == 0 and {partition.leader_id for partition in topic.partitions} == {1}
    topics = [node.server.broker.topics for node in world.nodes.values()]
    assert len({each.id_of(each.find("fresh")) for each in topics}) == 1
    asked["topics"][0]["name"] = "a/bad/name"
    assert client.ask("Metadata", 8, **asked).topics[0].error_code == 17


def test_what_tools_ask_every_broker_is_answered_by_followers_too(world):
    """kafka-consumer-groups --list asks all of them, and fails when one does not answer."""
    for name in NAMES:
        world.add(name)
    assert commit(world.nodes["b"], 1, "of-before") == 0
    world.meet()
    world.tick(3)
    assert commit(world.nodes["a"], 0) == 0
    leader, follower = (world.nodes[name].connect() for name in NAMES)
    assert [group.group_id for group in leader.ask("ListGroups", 4).groups] == ["g"]
    assert follower.ask("ListGroups", 4).groups == []
    assert follower.ask("ListTransactions", 0).transaction_states == []
    assert follower.ask("DescribeLogDirs", 2, topics=None).results[0].error_code == 0
    (found,) = follower.ask("DescribeConfigs", 2, resources=[
        {"resource_type": 4, "resource_name": "2", "configuration_keys": None}]).results
    assert found.error_code == 0 and not follower.closed
