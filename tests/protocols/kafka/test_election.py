"""Who leads a Kafka cluster: nodes in memory that say hello to each other, or cannot."""
from __future__ import annotations

import random

import pytest

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


def test_who_says_its_term_before_it_leads_is_followed_when_it_does():
    """It takes over first, and says hello meanwhile. What was heard of its term made it no better than the one before,
    so the third took over as well, and what had been committed in between was gone.
    """
    third = Election("c", NAMES, LOST_S, 0, 0.0)
    assert third.hear("a", 1, 1.0, leads=True)
    assert not third.hear("b", 2, 6.0, leads=False)
    assert third.hear("b", 2, 6.5, leads=True) and third.leader == "b"
    assert not third.hear("a", 1, 7.0, leads=True), "the one before comes back"
    assert not third.look(6.5 + LOST_S - 0.1)
    assert not third.hear("b", 2, 20.0, leads=True) and not third.look(20.0 + LOST_S - 0.1)


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


def test_who_led_and_starts_again_alone_gives_way_to_who_took_over_meanwhile():
    """Its link needs longer than it waits for the others. What it has of groups is of before."""
    world = World(*NAMES)
    world.run(2)
    gone = world.nodes.pop("a")
    world.run(LOST_S + 3)
    assert world.leaders() == {"b": "b", "c": "b"}
    world.cut = {frozenset("ab"), frozenset("ac")}
    world.nodes["a"] = Election("a", NAMES, LOST_S, gone.term, world.now_s, led=True)
    world.run(START_S + 2)
    assert world.leaders() == {"a": "a", "b": "b", "c": "b"}
    world.cut.clear()
    world.run(2)
    assert world.leaders() == {"a": "b", "b": "b", "c": "b"}


def test_who_knows_of_a_higher_term_does_not_follow_one_of_before():
    world = World("a")
    world.run(START_S + 1)
    assert world.nodes["a"].term == 1
    world.nodes["b"] = Election("b", NAMES, LOST_S, 7, world.now_s, led=True)       # it led when a was not there
    world.run(START_S + LOST_S + 2)
    assert world.leaders() == {"a": "b", "b": "b"} and world.nodes["b"].term == 7


@pytest.mark.parametrize("seed", range(40))
def test_random_lives_end_with_one_leader_whose_state_is_the_newest(seed):
    rng = random.Random(seed)
    world = World(*NAMES)
    kept = dict.fromkeys(NAMES, (0, ""))        # what each has stored: term and leader
    for _ in range(30):
        act = rng.choice(("kill", "start", "cut", "heal", "wait"))
        if act == "kill" and len(world.nodes) > 1:
            del world.nodes[rng.choice(list(world.nodes))]
        elif act == "start" and (away := [name for name in NAMES if name not in world.nodes]):
            name = rng.choice(away)
            term, leader = kept[name]
            world.nodes[name] = Election(name, NAMES, LOST_S, term, world.now_s, led=leader == name)
        elif act == "cut":
            world.cut.add(frozenset(rng.sample(NAMES, 2)))
        elif act == "heal":
            world.cut.clear()
        for _ in range(rng.randint(1, 40)):
            world.run(STEP_S)
            for name, node in world.nodes.items():
                if node.leader and kept[name] != (node.term, node.leader):
                    kept[name] = node.term, node.leader
    world.cut.clear()
    for name in NAMES:
        if name not in world.nodes:
            world.nodes[name] = Election(name, NAMES, LOST_S, kept[name][0], world.now_s, led=kept[name][1] == name)
    newest = max(term for term, _ in kept.values())
    world.run(START_S + 4 * LOST_S)
    (leader,) = set(world.leaders().values())
    assert world.nodes[leader].term >= newest and leader in NAMES


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
