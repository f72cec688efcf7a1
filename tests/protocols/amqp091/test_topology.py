"""Names, matching and routing, without wire or log."""
from __future__ import annotations

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import Binding, Headers, Topic, headers_match
from protocols.amqp091.topology.names import key_of, topic_filter, topic_of
from protocols.amqp091.topology.topology import Topology, filter_of
from routing.topic import check_filter, check_topic, filter_matches

CHARS = st.text(alphabet="ab./+#%$*2EF54", min_size=1, max_size=12)


@settings(max_examples=500)
@given(CHARS)
def test_a_key_of_amq_topic_is_a_topic_and_comes_back(key):
    topic = topic_of("amq.topic", key)
    check_topic(topic)
    assert key_of(topic) == key


@settings(max_examples=500)
@given(st.text(alphabet="ab./%2EF54 ", min_size=1, max_size=12))
def test_a_topic_is_a_key_and_comes_back(topic):
    """Topics that clients of other protocols publish to. One that holds our code for % names the key that was meant."""
    assume("%25" not in topic)
    assert topic_of("amq.topic", key_of(topic)) == topic


@pytest.mark.parametrize(("exchange", "key", "topic"), [
    ("amq.topic", "plant.1.temp", "plant/1/temp"), ("orders", "eu.new", "orders/eu/new"), ("orders", "", "orders"),
    ("", "jobs", "$queue/jobs"), ("a/b", "k", "a%2Fb/k"), ("amq.topic", "$SYS.x", "%24SYS/x"),
    ("amq.topic", "a+b.#", "a%2Bb/%23"), ("$x", "k", "%24x/k"), ("celery.pidbox", "", "celery.pidbox"),
])
def test_topics_of_exchanges_and_keys(exchange, key, topic):
    assert topic_of(exchange, key) == topic


def _naive(pattern, words):
    """The specification, as it is written: slow."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_naive(pattern[1:], words[index:]) for index in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _naive(pattern[1:], words[1:])


WORD = st.sampled_from(["a", "b", "*", "#", ""])


@settings(max_examples=300)
@given(st.lists(st.lists(WORD, min_size=1, max_size=5), min_size=1, max_size=5),
       st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5))
def test_a_topic_table_matches_as_the_specification_says(patterns, words):
    table = Topic()
    key = ".".join(words)
    bindings = [Binding("x", f"q{number}", False, ".".join(pattern), {}) for number, pattern in enumerate(patterns)]
    for binding in bindings:
        table.add(binding)
    key_words = key.split(".") if key else []
    expected = {one.destination for one in bindings if _naive(one.key.split(".") if one.key else [], key_words)}
    assert {one.destination for one in table.match(key, None)} == expected
    for binding in bindings:
        table.remove(binding)
    assert not table.match(key, None) and not table._root.children


@given(st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=4),
       st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4))
def test_an_exact_filter_matches_what_the_binding_key_matches(pattern, words):
    for exchange in ("x", "amq.topic"):
        found, exact = topic_filter(exchange, ".".join(pattern))
        check_filter(found)
        topic = topic_of(exchange, ".".join(words))
        if exact:
            assert filter_matches(found, topic) == _naive(pattern, words)
        elif _naive(pattern, words):
            assert filter_matches(found, topic)


@pytest.mark.measured
def test_a_key_of_28_words_costs_little_whatever_is_bound():
    table = Topic()
    for number in range(50):
        table.add(Binding("x", f"q{number}", False, ".".join(["#"] * 27 + [str(number)]), {}))
    table.add(Binding("x", "last", False, ".".join(["*", "#"] * 14), {}))
    start = time.thread_time()
    for _ in range(20):
        found = table.match(".".join(["0"] * 28), None)
    assert time.thread_time() - start < 0.5
    assert {binding.destination for binding in found} == {"q0", "last"}


@pytest.mark.parametrize(("arguments", "headers", "fits"), [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, True),
    ({"a": 1, "b": "x"}, {"a": 1}, False), ({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, True),
    ({"x-match": "any", "a": 1}, {"a": True}, False), ({"a": None}, {"a": 5}, True), ({}, {"a": 5}, True),
    ({"x-match": "any"}, {"a": 5}, False), ({"x-m": 1}, {}, True), ({"x-match": "all-with-x", "x-m": 1}, {}, False),
])
def test_headers_are_matched_as_rabbitmq_does(arguments, headers, fits):
    assert headers_match(arguments, headers) is fits
    table = Headers()
    table.add(Binding("x", "q", False, "", arguments))
    assert bool(table.match("", Message(headers))) is fits


class Message:
    def __init__(self, headers=None):
        self.headers = headers or {}

    def property_text(self, name):
        return ""


def _topology(*exchanges):
    topology = Topology()
    for name, kind, *arguments in exchanges:
        topology.add_exchange(Exchange(name, kind, True, False, False, arguments[0] if arguments else {}, "ana"))
    topology.queue_exists = lambda name: name.startswith("q")
    return topology


def _bind(topology, source, destination, key="", arguments=None):
    exchange = topology.exchanges[source]
    to_exchange = destination in topology.exchanges
    pattern, exact = filter_of(exchange, key)
    binding = Binding(source, destination, to_exchange, key, arguments or {},
                      pattern if exact and not to_exchange else None)
    topology.bind(binding)
    return binding


def _route(topology, exchange, key, headers=None):
    targets = topology.route(topology.exchanges[exchange], key, Message(headers))
    return set(targets.queues), set(targets.copies)


def test_a_queue_that_a_filter_reaches_gets_no_copy_besides():
    topology = _topology(("x", "topic"), ("y", "fanout"))
    _bind(topology, "x", "q1", "a.*")
    _bind(topology, "x", "y", "a.#")
    _bind(topology, "y", "q1")
    _bind(topology, "y", "q2")
    assert _route(topology, "x", "a.b") == ({"q1", "q2"}, {"q2"})
    assert _route(topology, "x", "a.b.c") == ({"q1", "q2"}, {"q1", "q2"})
    assert _route(topology, "x", "b") == (set(), set())


def test_a_hash_within_a_key_is_no_topic_filter():
    topology = _topology(("x", "topic"))
    binding = _bind(topology, "x", "q1", "#.end")
    assert binding.filter is None
    assert _route(topology, "x", "a.b.end") == ({"q1"}, {"q1"})


def test_exchanges_bound_in_a_circle_end():
    topology = _topology(("x", "fanout"), ("y", "fanout"))
    _bind(topology, "x", "y")
    _bind(topology, "y", "x")
    _bind(topology, "x", "q1")
    assert _route(topology, "x", "k")[0] == {"q1"}
    assert _route(topology, "y", "k")[0] == {"q1"}


def test_the_alternate_exchange_gets_what_nobody_else_does():
    topology = _topology(("x", "direct", {"alternate-exchange": "lost"}), ("lost", "fanout"))
    _bind(topology, "lost", "q9")
    _bind(topology, "x", "q1", "k")
    assert _route(topology, "x", "k")[0] == {"q1"}
    assert _route(topology, "x", "other") == ({"q9"}, {"q9"})


def test_a_consistent_hash_spreads_by_weight_and_stays():
    topology = _topology(("x", "x-consistent-hash"))
    _bind(topology, "x", "q1", "1")
    _bind(topology, "x", "q3", "3")
    found = [_route(topology, "x", f"k{number}")[0] for number in range(2_000)]
    assert all(len(one) == 1 for one in found)
    share = sum(one == {"q3"} for one in found) / 2_000
    assert 0.65 < share < 0.85
    assert found[:50] == [_route(topology, "x", f"k{number}")[0] for number in range(50)]


def test_a_removed_exchange_takes_its_bindings_with_it():
    topology = _topology(("x", "fanout"), ("y", "fanout"))
    _bind(topology, "x", "y")
    _bind(topology, "y", "q1")
    assert _route(topology, "x", "k")[0] == {"q1"}
    gone = topology.remove_exchange("y")
    assert len(gone) == 2 and not topology.of_queue
    assert not topology.exchanges["x"].bindings
    assert _route(topology, "x", "k")[0] == set()
