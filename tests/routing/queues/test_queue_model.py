"""Queues against a model: a list of what is ready and a table of what is out. Steps are drawn by hypothesis."""
from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routing.event import Event, Properties
from routing.queues.bindings import Binding
from routing.queues.depth import Depth
from routing.queues.options import QueueOptions
from routing.queues.predicates import HeadersMatch
from routing.queues.queue import Queue
from routing.topic import filter_matches
from tests.support.routing import ANA, Desk, Reader

NAMES = ("q0", "q1", "q2")
FILTERS = ("a/#", "a/1", "+/2", "b", "dead/#")
TOPICS = ("a/1", "a/2", "b", "c/2")
PREDICATES = (None, HeadersMatch("all", (("kind", 1),)))
TTL_MS = 1_000


class Expected:
    """One queue: numbers of events in the order of their coming. seen: how often each was delivered."""

    def __init__(self, options):
        self.options = options
        self.bindings = set()
        self.ready = []                 # (number, arrival) in order
        self.out = {}                   # number → (arrival, delivery)
        self.seen = {}
        self.order = {}                 # number → its place among all that came

    def wants(self, topic, kind):
        return any(filter_matches(pattern, topic) and (predicate is None or kind)
                   for pattern, predicate in self.bindings)


class Queues(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.desk = Desk(self.directory / "data")
        self.expected = {}
        self.number = 0
        self.straight = set()           # numbers of events that went to a queue by its name, so in another partition
        self.arrivals = 0
        self.member = Reader(0)

    def teardown(self):
        self.desk.close()
        shutil.rmtree(self.directory)

    def queue(self, name):
        found = self.desk.router.queues.get(name)
        assert isinstance(found, Queue)
        return found

    @rule(name=st.sampled_from(NAMES), ttl=st.sampled_from((None, TTL_MS)), length=st.sampled_from((None, None, 3)),
          highest=st.sampled_from((None, 5)), dead=st.booleans())
    def declare(self, name, ttl, length, highest, dead):
        options = QueueOptions(message_ttl_ms=ttl, max_length=length, dead_letter="dead/{queue}" if dead else None,
                               max_priority=highest if (ttl, length) == (None, None) else None)
        queue = self.desk.router.queues.declare(name, options, ANA, max_deliveries=4)
        self.desk.run()
        if name not in self.expected:
            self.expected[name] = Expected(options)
        assert queue.options == self.expected[name].options

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def bind(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        key = data.draw(st.sampled_from(FILTERS)), data.draw(st.sampled_from(PREDICATES))
        assert self.queue(name).bind(Binding(*key), ANA) is None
        self.expected[name].bindings.add(key)

    @precondition(lambda self: any(one.bindings for one in self.expected.values()))
    @rule(data=st.data())
    def unbind(self, data):
        name = data.draw(st.sampled_from(sorted(name for name, one in self.expected.items() if one.bindings)))
        key = data.draw(st.sampled_from(sorted(self.expected[name].bindings, key=repr)))
        assert self.queue(name).unbind(Binding(*key))
        self.expected[name].bindings.remove(key)

    @rule(topic=st.sampled_from(TOPICS), kind=st.booleans(), count=st.integers(1, 5))
    def publish(self, topic, kind, count):
        events = []
        for _ in range(count):
            events.append(Event(topic, b"%d" % self.number, 1, headers=(("kind", 1),) if kind else (),
                                properties=Properties(priority=3) if kind else None))
            self.arrive(topic, kind, self.number)
            self.number += 1
        self.desk.publish(*events)
        self.overflow()

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def publish_straight(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        self.desk.publish(Event(self.queue(name).topic, b"%d" % self.number, 1))
        self.straight.add(self.number)
        self.come(self.expected[name], self.number)
        self.number += 1
        self.overflow()

    def arrive(self, topic, kind, number):
        for one in self.expected.values():
            if one.wants(topic, kind):
                self.come(one, number)

    def come(self, one, number):
        self.arrivals += 1
        if number not in one.order:
            one.order[number] = self.arrivals
            one.ready.append((number, self.desk.now_ms))

    def overflow(self):
        """What is pushed out or expires is only checked not to be there any more: its copies are new events."""
        for name, one in self.expected.items():
            limit = one.options.max_length
            if limit is None or len(one.ready) <= limit:
                continue
            if len({number in self.straight for number, _ in one.ready}) == 1:
                del one.ready[:len(one.ready) - limit]
            else:
                self.resync(name)

    @precondition(lambda self: any(one.ready for one in self.expected.values()))
    @rule(data=st.data())
    def get(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        one, answers = self.expected[name], []
        self.queue(name).get(self.member, answers.append)
        self.desk.run()
        (delivery,) = answers
        if not one.ready:
            assert delivery is None
            return
        number = int(delivery.event.payload)
        assert number in dict(one.ready), "it was ready"
        arrival = dict(one.ready)[number]
        one.ready.remove((number, arrival))
        assert delivery.attempts == one.seen.get(number, 0) + 1
        one.out[number] = arrival, delivery

    @precondition(lambda self: any(one.out for one in self.expected.values()))
    @rule(data=st.data(), answer=st.sampled_from(("ack", "nack", "reject")))
    def answer(self, data, answer):
        name = data.draw(st.sampled_from(sorted(name for name, one in self.expected.items() if one.out)))
        one, queue = self.expected[name], self.queue(name)
        numbers = data.draw(st.lists(st.sampled_from(sorted(one.out)), unique=True, min_size=1))
        deliveries = [one.out[number][1] for number in numbers]
        getattr(queue, answer)(deliveries)
        for number in numbers:
            arrival, delivery = one.out.pop(number)
            if answer == "nack" and delivery.attempts < 4:
                one.seen[number] = delivery.attempts
                one.ready.append((number, arrival))
        one.ready.sort(key=lambda entry: one.order[entry[0]])
        self.desk.run()
        self.expire()
        if one.options.max_length is not None and len(one.ready) > one.options.max_length:
            self.resync(name)

    def resync(self, name):
        """Which of two partitions' heads goes first is the queue's choice: only how many stay is the model's."""
        one, limit = self.expected[name], self.expected[name].options.max_length
        left = {int(event.payload) for event in self.queue(name).browse(100).events}
        assert len(left) == limit
        one.ready = [entry for entry in one.ready if entry[0] in left]

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def purge(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        assert self.queue(name).purge() == len(self.expected[name].ready)
        self.expected[name].ready.clear()

    @rule(seconds=st.sampled_from((0.31, 0.83)))
    def wait(self, seconds):
        self.desk.tick(seconds)
        self.desk.tick(0.05)
        self.expire()

    def expire(self):
        for one in self.expected.values():
            if one.options.message_ttl_ms is not None:
                one.ready = [entry for entry in one.ready if self.desk.now_ms - entry[1] < TTL_MS]

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def delete(self, data):
        name = data.draw(st.sampled_from(sorted(self.expected)))
        assert self.desk.router.queues.delete(name) == len(self.expected.pop(name).ready)
        self.desk.run()

    @rule()
    def kill(self):
        """Everything is stored first, so nothing is repeated; what is out comes again, counted."""
        self.desk.tick(0.31)
        self.expire()
        now_s, now_ms = self.desk.now_s, self.desk.now_ms
        self.desk.store.close()
        self.desk = Desk(self.directory / "data", start=(now_s, now_ms))
        for one in self.expected.values():
            for number, (arrival, delivery) in one.out.items():
                one.seen[number] = delivery.attempts
                one.ready.append((number, arrival))
            one.out.clear()
            one.ready.sort(key=lambda entry: one.order[entry[0]])
        self.wait(0.31)
        for name, one in self.expected.items():
            if one.options.max_length is not None and len(one.ready) > one.options.max_length:
                self.resync(name)

    @invariant()
    def contents(self):
        for name, one in self.expected.items():
            queue = self.queue(name)
            depth = queue.depth()
            assert depth == Depth(len(one.ready), len(one.out)), name
            there = [int(event.payload) for event in queue.browse(1_000).events]
            assert sorted(there) == sorted(number for number, _ in one.ready), name


SOAK = bool(os.environ.get("MESHGATE_SOAK"))     # looks for what is new; without it the programs are the same each time
Queues.TestCase.settings = settings(
    max_examples=1_000 if SOAK else 25, derandomize=not SOAK, stateful_step_count=30, deadline=None,
    phases=(Phase.explicit, Phase.generate))
TestQueues = Queues.TestCase
