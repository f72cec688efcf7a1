"""Aggregating interest never loses a topic, whatever comes and goes; it stays within its bounds."""
from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest

from mesh.topology.interest.covering import Covering, shorten, widen
from mesh.topology.interest.interest import CHANGE_STEP, LEVELS_OWN_MAX, REBUILD_EVERY_S, OwnInterest, Wants
from mesh.topology.linkstate.nodestate import FILTER_CHARACTERS_MAX, check_filters
from routing.topic import check_filter, filter_covers, filter_matches

pytestmark = pytest.mark.measured

WORDS = ["a", "b", "c", "", "ä", "long" * 5]


def random_topic(rng: random.Random) -> str:
    return "/".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 5))) or "a"


def random_filter(rng: random.Random) -> str:
    levels = [rng.choice([*WORDS, "+", "+"]) for _ in range(rng.randrange(1, 5))]
    if rng.random() < 0.25:
        levels[-1] = "#"
    pattern = "/".join(levels) or "a"
    return f"$x/{pattern}" if rng.random() < 0.05 else pattern


@pytest.mark.parametrize("seed", range(300))
def test_a_covering_has_what_it_was_given_and_nothing_that_another_covers(seed: int) -> None:
    rng = random.Random(seed)
    filters = [random_filter(rng) for _ in range(rng.randrange(1, 40))]
    covering = Covering()
    gone: set[str] = set()
    for pattern in filters:
        gone.update(covering.add(pattern))
    kept = list(covering.filters)
    for pattern in filters:
        assert any(filter_covers(wide, pattern) for wide in kept)
        assert covering.covers(pattern)
    for one in kept:
        assert not any(other != one and filter_covers(other, one) for other in kept)
    assert gone.isdisjoint(kept)
    assert covering.levels == sum(pattern.count("/") + 1 for pattern in kept)
    probe = random_filter(rng)
    assert covering.covers(probe) == any(filter_covers(wide, probe) for wide in kept)
    for pattern in kept:
        covering.discard(pattern)
    assert not covering._root.children and covering.levels == 0


@pytest.mark.parametrize("seed", range(200))
def test_widening_keeps_every_topic_and_the_cap(seed: int) -> None:
    rng = random.Random(seed)
    filters = [random_filter(rng) for _ in range(rng.randrange(1, 60))]
    filters = [pattern for pattern in filters if not pattern.startswith("$")] or ["a"]
    covering = Covering(filters)
    cap, levels = rng.randrange(1, 12), rng.randrange(1, 40)
    widen(covering, cap, levels)
    assert len(covering) <= cap
    assert covering.levels <= levels
    for wide in covering.filters:
        check_filter(wide)
    for pattern in filters:
        assert covering.covers(pattern), pattern
    for _ in range(50):
        topic = random_topic(rng)
        if any(filter_matches(pattern, topic) for pattern in filters):
            assert any(filter_matches(pattern, topic) for pattern in covering.filters)


def test_one_noisy_branch_does_not_widen_the_others() -> None:
    covering = Covering([*(f"reply/{number}/x" for number in range(1_000)), "plant/1/temp", "orders/#"])
    widen(covering, 10, 1_000)
    assert set(covering.filters) == {"reply/#", "plant/1/temp", "orders/#"}


@pytest.mark.parametrize("pattern", [
    "a/" + "b" * 2_000, "b" * 2_000, "a/" * 100 + "x" * 1_000, "a/b/" + "+/" * 5 + "c" * 1_020])
def test_a_long_filter_is_shortened_to_one_that_covers_it(pattern: str) -> None:
    short = shorten(pattern)
    assert len(short) <= FILTER_CHARACTERS_MAX
    check_filter(short)
    assert filter_covers(short, pattern)


@pytest.mark.parametrize("seed", range(60))
def test_own_interest_never_loses_a_topic_while_filters_come_and_go(seed: int) -> None:
    rng = random.Random(seed)
    interest = OwnInterest(filters_max=rng.choice((3, 8, 100)), linger_s=5.0)
    wanted: dict[str, int] = {}
    now_s = 0.0
    for _ in range(400):
        now_s += rng.choice((0.0, 0.1, 2.0))
        if wanted and rng.random() < 0.5:
            pattern = rng.choice(sorted(wanted))
            del wanted[pattern]
            interest.unwant(pattern, now_s)
        else:
            pattern = random_filter(rng)
            if not pattern.startswith("$"):
                wanted[pattern] = 1
            interest.want(pattern)
        interest.tick(now_s)
        told = Covering(interest.filters)
        for pattern in wanted:
            assert told.covers(pattern), pattern
        assert len(told) <= interest._filters_max
        check_filters(interest.filters)
    for pattern in list(wanted):
        interest.unwant(pattern, now_s)
    for _ in range(10):
        now_s += 3.0
        interest.tick(now_s)
    assert interest.filters == ()
    assert interest.wanted_count == 0


def test_a_filter_that_goes_lingers_and_one_that_returns_stays() -> None:
    interest = OwnInterest(filters_max=10, linger_s=30.0)
    assert interest.want("a") and interest.want("b")
    assert not interest.want("a")
    interest.unwant("a", 0.0), interest.unwant("b", 0.0)
    interest.want("b")
    assert not interest.tick(29.0)
    assert interest.tick(31.0)
    assert interest.filters == ("b",)


def test_a_narrow_filter_comes_back_when_the_wide_one_has_gone() -> None:
    interest = OwnInterest(filters_max=10, linger_s=1.0)
    interest.want("plant/1/temp"), interest.want("plant/#")
    assert interest.filters == ("plant/#",)
    interest.unwant("plant/#", 0.0)
    assert interest.tick(2.0)
    assert interest.filters == ("plant/1/temp",)


def test_a_widened_interest_narrows_again_when_there_is_less_of_it() -> None:
    interest = OwnInterest(filters_max=8, linger_s=1.0)
    for number in range(100):
        interest.want(f"a/{number}")
    assert interest.filters == ("a/#",) and interest.widened
    for number in range(98):
        interest.unwant(f"a/{number}", 0.0)
    assert interest.tick(2.0)
    assert interest.filters == ("a/98", "a/99") and not interest.widened


def test_filters_that_go_one_after_the_other_do_not_have_the_set_made_anew_without_end() -> None:
    interest = OwnInterest(filters_max=8, linger_s=1.0)
    for number in range(200):
        interest.want(f"a/{number}")
        interest.unwant(f"a/{number}", number * 0.02)           # one goes in every tick
    begun = 0
    for tick in range(1, 401):
        before = interest._todo
        interest.tick(tick * 0.02)
        begun += interest._todo is not before
    assert begun <= 2 + 200 * 0.02 / REBUILD_EVERY_S
    assert interest.filters == ()


def test_topics_of_the_node_itself_are_not_told() -> None:
    interest = OwnInterest(filters_max=8, linger_s=1.0)
    assert not interest.want("$SYS/#") and not interest.want("$reply/n/+")
    assert interest.filters == ()


def test_a_hundred_thousand_subscriptions_cost_no_pause() -> None:
    """Each one some µs; and when some go, the set is made anew in steps of some ms."""
    interest = OwnInterest(filters_max=512, linger_s=1.0)
    for number in range(100_000):
        interest.want(f"device/{number % 5_000}/channel/{number}")
    for number in range(50_000):
        interest.unwant(f"device/{number % 5_000}/channel/{number}", 0.0)
    longest_s, ticks, now_s = 0.0, 0, 2.0
    interest.tick(now_s)                                        # forgets 50,000 and begins
    while interest._next is not None:
        start_s = time.thread_time()
        interest.tick(now_s)
        longest_s = max(longest_s, time.thread_time() - start_s)
        ticks += 1
    assert ticks >= 20 and longest_s < 0.25                     # of processor time; about 10 ms
    assert len(interest.filters) <= 512
    assert sum(pattern.count("/") + 1 for pattern in interest.filters) <= LEVELS_OWN_MAX


@pytest.mark.parametrize("seed", range(50))
def test_wants_names_exactly_the_nodes_whose_filters_match(seed: int) -> None:
    rng = random.Random(seed)
    wants, truth = Wants(), {}
    for _ in range(60):
        node = f"n{rng.randrange(6)}"
        truth[node] = tuple(random_filter(rng) for _ in range(rng.randrange(4)))
        wants.set(node, truth[node])
        for _ in range(5):
            topic = random_topic(rng)
            expected = sorted(name for name, filters in truth.items()
                              if any(filter_matches(pattern, topic) for pattern in filters))
            assert list(wants.of(topic)) == expected == list(wants.of(topic))
    for node in truth:
        wants.set(node, ())
    assert wants.count == 0 and not wants._trie._root.children


def test_thousands_of_filters_of_one_node_are_put_in_place_in_steps() -> None:
    wants = Wants()
    seen = [wants.count]

    def work_off() -> None:
        while True:
            more = wants.step()
            seen.append(wants.count)
            if not more:
                return

    wants.set("evil", [f"a/{number}" for number in range(4_000)])
    seen.append(wants.count)
    wants.set("graz", ["b/#"])
    work_off()
    assert wants.of("a/3999") == ("evil",) and wants.of("b/1") == ("graz",)
    wants.set("evil", [f"c/{number}" for number in range(4_000)])
    seen.append(wants.count)
    wants.set("evil", ["d"])                                    # only the last word counts
    seen.append(wants.count)
    work_off()
    assert all(abs(after - before) <= CHANGE_STEP for before, after in pairwise(seen)), seen
    assert wants.count == 2 and not wants.is_behind
    assert (wants.of("a/1"), wants.of("c/1"), wants.of("d"), wants.of("b/1")) == ((), (), ("evil",), ("graz",))
