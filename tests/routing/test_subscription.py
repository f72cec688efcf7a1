"""The trie finds exactly the entries whose filter matches, and leaves nothing behind."""
from hypothesis import given
from hypothesis import strategies as st

from routing.subscription import FilterTrie
from routing.topic import filter_matches
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


def test_deep_wildcards_cost_no_more_than_the_nodes_there_are():
    """128 levels of + and literals side by side: at most two nodes per level and path that exists."""
    trie = FilterTrie()
    for depth in range(1, 128):
        trie.add("/".join(["+"] * depth), depth)
        trie.add("/".join(["a"] * depth), -depth)
    assert sorted(trie.match("/".join(["a"] * 127))) == [-127, 127]
