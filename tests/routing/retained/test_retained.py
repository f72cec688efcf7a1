"""The retained tree agrees with matching every topic one by one."""
from hypothesis import given
from hypothesis import strategies as st

from routing.event import Event
from routing.retained.retained import RetainedTree
from routing.topic import filter_matches
from tests.routing.test_topic import FILTER, TOPIC


@given(st.lists(st.tuples(TOPIC, st.booleans()), max_size=12), FILTER)
def test_lookup_by_filter_agrees_with_a_dictionary(changes, pattern):
    tree, model = RetainedTree(), {}
    for number, (topic, remove) in enumerate(changes):
        payload = b"" if remove else b"%d" % number
        tree.set(Event(topic, payload, retain=True))
        model.pop(topic, None)
        if payload:
            model[topic] = payload
    expected = {topic: payload for topic, payload in model.items() if filter_matches(pattern, topic)}
    assert {event.topic: event.payload for event in tree.match(pattern)} == expected
    assert len(list(tree.match(pattern))) == len(expected)
    assert tree.count == len(model)
    for topic in list(model):
        tree.remove(topic)
    assert (tree.count, tree.size_bytes) == (0, 0)
    assert not list(tree.match("#"))
