"""The index finds the same topics as matching every one, from any place, in steps of any size."""
import random

from hypothesis import given
from hypothesis import strategies as st

from routing.retained.topic_index import RUN_MAX, TopicIndex, key_of
from routing.topic import filter_matches
from tests.routing.test_topic import FILTER, TOPIC


def index_of(topics):
    index = TopicIndex()
    for topic in topics:
        index.add(key_of(topic))
    return index


def walk(index, pattern, keys_max=10**9, looks_max=10**9):
    found, place, steps = [], "", 0
    while place is not None:
        keys, place = index.find(pattern, place, keys_max, looks_max)
        assert len(keys) <= keys_max
        found += keys
        steps += 1
    return [key.replace("\0", "/") for key in found], steps


@given(st.sets(TOPIC, max_size=30), FILTER, st.integers(1, 4), st.integers(1, 4))
def test_lookup_agrees_with_matching_each(topics, pattern, keys_max, looks_max):
    index = index_of(topics)
    expected = sorted((topic for topic in topics if filter_matches(pattern, topic)), key=key_of)
    assert walk(index, pattern)[0] == expected
    assert walk(index, pattern, keys_max, looks_max)[0] == expected


def test_many_topics_come_and_go():
    rng = random.Random(1)
    index, model = TopicIndex(), set()
    for _ in range(12 * RUN_MAX):
        topic = f"{rng.randrange(30)}/{rng.randrange(40)}/{rng.randrange(40)}"
        if topic in model:
            model.remove(topic)
            index.remove(key_of(topic))
        else:
            model.add(topic)
            index.add(key_of(topic))
    assert index.count == len(model)
    for pattern in ("#", "+/7/+", "3/#", "+/+/11", "29/+/39", "+/7"):
        assert walk(index, pattern, 100)[0] == sorted(
            (topic for topic in model if filter_matches(pattern, topic)), key=key_of)
    for topic in model:
        index.remove(key_of(topic))
    assert not index.count and not index._runs and not index._firsts


def test_a_filter_passes_over_branches_that_it_cannot_match():
    """1,000 devices with 100 topics each: one topic of each is found in some steps per device, not per topic."""
    index = index_of(f"device-{device}/{name}" for device in range(1_000) for name in range(100))
    found, _ = walk(index, "+/42")
    assert len(found) == 1_000
    looked = 0
    place = ""
    while place is not None:
        _, place = index.find("+/42", place, 10**9, 1)
        looked += 1
    assert looked <= 4_000


def test_a_walk_goes_on_where_it_was_while_topics_change():
    index = index_of(["a", "b", "d"])
    keys, place = index.find("#", "", 2, 100)
    assert keys == ["a", "b"]
    index.remove("b")
    index.add("aa")
    index.add("c")
    assert index.find("#", place, 10, 100) == (["c", "d"], None)
