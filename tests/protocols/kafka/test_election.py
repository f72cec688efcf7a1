"""Who leads a Kafka cluster: nodes in memory that say hello to each other, or cannot."""
from __future__ import annotations

from protocols.kafka.cluster.election import START_S, Election

NAMES = ("a", "b", "c")
LOST_S = 4.0
STEP_S = 0.5


class World:
    def __init__(self, *names, at_s=0.0):
        self.now_s = at_s
        self.nodes = {name: Election(name, NAMES, LOST_S, 0, at_s) for name in names}
        self.cut = set()                # pairs that do not hear each other
        self.began = []                 # who has begun to lead, with its term

    def run(self, seconds):
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += STEP_S
            for name, node in self.nodes.items():
                for other in self.nodes:
                    if other != name and frozenset((name, other)) not in self.cut:
                        self.nodes[other].hear(name, node.term, self.now_s, leads=node.leader == name)
            for name, node in self.nodes.items():
                if node.look(self.now_s):
                    self.began.append((name, node.term))

    def leaders(self):
        return {name: node.leader for name, node in self.nodes.items()}


def test_when_all_are_there_the_first_one_leads_at_once():
    world = World(*NAMES)
    world.run(2 * STEP_S)
    assert world.leaders() == {"a": "a", "b": "a", "c": "a"} and world.began == [("a", 1)]


def test_one_that_is_alone_waits_for_the_others_and_then_leads():
    world = World("c")
    world.run(START_S - 1)
    assert world.leaders() == {"c": ""}
    world.run(2)
    assert world.leaders() == {"c": "c"}


def test_when_the_leader_is_lost_the_next_one_leads_by_a_higher_term_and_stays_when_it_is_back():
    world = World(*NAMES)
    world.run(2)
    gone = world.nodes.pop("a")
    world.run(LOST_S - 1)
    assert world.leaders() == {"b": "a", "c": "a"}
    world.run(3)
    assert world.leaders() == {"b": "b", "c": "b"} and world.nodes["b"].term > gone.term
    world.nodes["a"] = gone                     # it was cut off, and believes that it leads
    world.run(2)
    assert world.leaders() == {"a": "b", "b": "b", "c": "b"}
    world.nodes["a"] = Election("a", NAMES, LOST_S, gone.term, world.now_s)         # it starts again
    world.run(20)
    assert world.leaders() == {"a": "b", "b": "b", "c": "b"}
    assert len(world.began) == 2


def test_after_a_cut_one_leader_is_left():
    world = World(*NAMES)
    world.run(2)
    world.cut = {frozenset("ab"), frozenset("ac")}
    world.run(10)
    assert world.leaders() == {"a": "a", "b": "b", "c": "b"}
    world.cut.clear()
    world.run(2)
    assert set(world.leaders().values()) == {"b"}


def test_two_that_lead_by_the_same_term_agree_on_the_first_of_them():
    world = World("b", "c")
    world.cut = {frozenset("bc")}
    world.run(START_S + 1)
    assert world.leaders() == {"b": "b", "c": "c"} and world.nodes["b"].term == world.nodes["c"].term
    world.cut.clear()
    world.run(2)
    assert world.leaders() == {"b": "b", "c": "b"}


def test_who_is_none_of_them_is_not_heard():
    node = Election("a", NAMES, LOST_S, 0, 0.0)
    assert not node.hear("mallory", 99, 1.0, leads=True) and node.leader == ""
