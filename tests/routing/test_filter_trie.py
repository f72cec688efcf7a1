"""The trie finds exactly the entries whose filter matches, and leaves nothing behind."""
from hypothesis import given
from hypothesis import strategies as st

from routing.filters.filter_trie import FilterTrie
from routing.topic import filter_matches, filters_intersect
from tests.routing.test_topic import FILTER, TOPIC


@given(st.lists(FILTER, max_size=8), st.lists(TOPIC, max_size=5))
def test_the_trie_agrees_with_filter_matches(patterns, topics):
    trie = FilterTrie()
    for number, pattern in enumerate(patterns):
        trie.add(pattern, (number, pattern))
    for topic in topics:
        expected = [(n, pattern) for n, pattern in enumerate(patterns) if filter_matches(pattern, topic)]
        assert sorted(trie.match(topic)) == expected
    for number, pattern in enumerate(patterns):
        assert trie.remove(pattern, (number, pattern))
        assert not trie.remove(pattern, (number, pattern))
    assert trie.count == 0
    assert not trie._root.children


@given(st.lists(FILTER, max_size=12), st.lists(FILTER, max_size=5))
def test_the_filters_that_meet_another_are_found(patterns, others):
    trie = FilterTrie()
    for pattern in patterns:
        trie.add(pattern, pattern)
    for other in others:
        assert set(trie.intersecting(other)) == {one for one in patterns if filters_intersect(one, other)}


def test_filters_that_meet_no_others_are_not_looked_at():
    trie = FilterTrie()
    for number in range(1_000):
        trie.add(f"plant/{number}/#", number)
    assert list(trie.intersecting("plant/5/+/7")) == [5]
    assert set(trie.intersecting("+/7/x")) == {7}
    assert len(trie.intersecting("plant/#")) == len(trie.intersecting("#")) == 1_000
    assert not trie.intersecting("shop/#")


def test_deep_wildcards_cost_no_more_than_the_nodes_there_are():
    """128 levels of + and literals side by side: at most two nodes per level and path that exists."""
    trie = FilterTrie()
    for depth in range(1, 128):
        trie.add("/".join(["+"] * depth), depth)
        trie.add("/".join(["a"] * depth), -depth)
    assert sorted(trie.match("/".join(["a"] * 127))) == [-127, 127]


@given(st.lists(st.tuples(FILTER, st.booleans()), max_size=30), st.lists(TOPIC, max_size=3))
def test_the_trie_is_right_in_between_and_as_small_as_if_it_had_been_made_anew(steps, topics):
    """Filters that come and go in any order."""
    trie, there = FilterTrie(), {}
    for pattern, stays in steps:
        trie.add(pattern, pattern)
        trie.add(pattern, pattern)                              # once more changes nothing
        there[pattern] = True
        if not stays:
            assert trie.remove(pattern, pattern)
            del there[pattern]
        for topic in topics:
            assert sorted(trie.match(topic)) == sorted(name for name in there if filter_matches(name, topic))
    anew = FilterTrie()
    for pattern in there:
        anew.add(pattern, pattern)
    assert trie.count == len(there) == sum(trie.wanted.values())
    assert shape(trie._root) == shape(anew._root)
    assert size(trie._root) <= 3 * len(there) + 1


def shape(node):
    return node.text, sorted(node.entries or ()), sorted(map(shape, (node.children or {}).values()))


def size(node):
    return 1 + sum(map(size, (node.children or {}).values()))


def test_a_filter_of_many_levels_is_one_node():
    """10,000 of 128 levels would be a million."""
    trie = FilterTrie()
    for number in range(1_000):
        trie.add("+/" * 126 + f"{number}/x", number)
    assert size(trie._root) == 1_002
    assert trie.match("/".join(["a"] * 126 + ["5", "x"])) == [5]
