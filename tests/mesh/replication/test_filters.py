"""Selections and histories: which offsets of a topic are wanted, what was brought, what is missing."""
from __future__ import annotations

import random

import pytest

from mesh.replication.filters import END, History, Selection, strip_prefix, subtract, union
from mesh.replication.messages import Want
from routing.topic import filter_matches


def test_a_selection_is_the_union_of_its_wants_less_its_excludes():
    selection = Selection([Want("a/#", 10, 20), Want("a/b", 15)], [Want("a/+", 12, 17)])
    assert selection.spans("a/b") == ((10, 12), (17, END))
    assert selection.spans("a/b/c") == ((10, 20),)
    assert selection.spans("b") == ()
    assert selection.next_from(0) == 10 and selection.next_from(30) == 30
    assert Selection([Want("a", 5, 9)]).next_from(9) == END


def test_only_bounds_a_selection():
    selection = Selection([Want("#", 0)], (), (("a/#", "b"), ("+/x", "b")))
    assert [topic for topic in ("a/x", "a/y", "b", "c/x") if selection.spans(topic)] == ["a/x", "b"]


@pytest.mark.parametrize("seed", range(50))
def test_spans_are_what_sets_would_be(seed):
    rng = random.Random(seed)

    def spans():
        return [(start, start + rng.randint(0, 6)) for start in (rng.randint(0, 30) for _ in range(rng.randint(0, 6)))]

    def as_set(found):
        return {number for start, stop in found for number in range(start, stop)}

    plus, minus = spans(), spans()
    assert as_set(union(plus)) == as_set(plus)
    assert as_set(subtract(union(plus), union(minus))) == as_set(plus) - as_set(minus)
    result = subtract(union(plus), union(minus))
    assert all(first[1] < second[0] for first, second in zip(union(plus), union(plus)[1:]))
    assert list(result) == sorted(result) and all(start < stop for start, stop in result)


@pytest.mark.parametrize(("pattern", "prefix", "expected"), [
    ("#", "lyon/", "#"), ("lyon/#", "lyon/", "#"), ("lyon/a/+", "lyon/", "a/+"), ("+/a", "lyon/", "a"),
    ("lyon", "lyon/", None), ("graz/#", "lyon/", None), ("+/+/a/#", "eu/lyon/", "a/#"), ("eu/#", "eu/lyon/", "#"),
    ("eu", "eu/lyon/", None), ("a", "", "a"), ("+", "lyon/", None),
])
def test_a_filter_without_the_prefix_that_topics_get(pattern, prefix, expected):
    assert strip_prefix(pattern, prefix) == expected
    for topic in ("a", "a/b", "x/a", "b"):
        assert (expected is not None and filter_matches(expected, topic)) == filter_matches(pattern, prefix + topic)


def test_a_history_knows_what_is_missing():
    history = History()
    history.add("a/#", 100)
    history.close("a/#", 200)
    history.add("a/b", 250)
    assert history.missing("a/b", 0, 300) == ((0, 100), (200, 250))
    assert history.missing("#", 0, 300) == ((0, 300),)
    assert history.excludes(["a/b"], 0, 300) == [Want("a/#", 100, 200), Want("a/b", 250, 300)]
    assert history.counting(150) == [Want("a/#", 100, 200), Want("a/b", 250)]
    assert history.counting(200) == [Want("a/b", 250)]
    assert history.open() == {"a/b": 250}


def test_intervals_of_one_filter_that_touch_become_one():
    history = History([Want("a", 0, 10), Want("a", 10, 20), Want("a", 20), Want("b", 0, 5)])
    assert history.compact(0, 100) == 0
    assert sorted(history.intervals, key=lambda want: want.filter) == [Want("a", 0), Want("b", 0, 5)]
    history.compact(6, 100)
    assert history.intervals == [Want("a", 0)], "the origin has nothing below 6 any more"


def test_a_history_that_is_too_long_forgets_the_oldest_and_never_brings_it_again():
    history = History([Want(f"t/{number}", number, number + 10) for number in range(50)] + [Want("x", 5)])
    assert history.compact(0, 20) > 0
    assert len(history.intervals) == 20
    assert history.open() == {"x": 5}, "what counts is never forgotten"
    assert history.horizon == 40
    assert history.missing("new", 0, 60) == ((40, 60),)
