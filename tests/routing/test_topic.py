"""Topic grammar. Matching is held against a slow definition of the same rules, written from the specification."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import TopicError
from routing.topic import check_filter, check_topic, filter_covers, filter_matches, filters_intersect, specificity

LEVEL = st.sampled_from(["a", "b", "", "$x", "ab"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER_LEVELS = st.lists(st.sampled_from(["a", "b", "", "$x", "+"]), min_size=1, max_size=4)
FILTER = st.tuples(FILTER_LEVELS, st.booleans()).map(
    lambda parts: "/".join(parts[0] + ["#"] * parts[1])).filter(bool)


def slow_match(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return True
    if not topic:
        return pattern == ["#"]
    return pattern[0] in ("+", topic[0]) and slow_match(pattern[1:], topic[1:])


def reference(pattern: str, topic: str) -> bool:
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    return slow_match(pattern.split("/"), topic.split("/"))


@given(FILTER, TOPIC)
def test_matching_agrees_with_the_definition(pattern, topic):
    assert filter_matches(pattern, topic) == reference(pattern, topic)


@given(FILTER, FILTER, TOPIC)
def test_a_covering_filter_matches_whatever_the_covered_one_matches(wide, narrow, topic):
    if filter_covers(wide, narrow) and reference(narrow, topic):
        assert reference(wide, topic)


@given(FILTER, TOPIC)
def test_covering_a_topic_is_matching_it(pattern, topic):
    assert filter_covers(pattern, topic) == reference(pattern, topic)


@given(FILTER, FILTER, TOPIC)
def test_filters_that_share_a_topic_intersect(left, right, topic):
    if reference(left, topic) and reference(right, topic):
        assert filters_intersect(left, right)


@pytest.mark.parametrize(("left", "right", "expected"), [
    ("a/+", "+/b", True), ("a/#", "a", True), ("a/b", "a/c", False), ("a", "a/+", False), ("#", "$SYS/x", False),
    ("+/x", "$SYS/x", False), ("a/+/c", "a/b", False), ("a/b/#", "a/+", True),
])
def test_intersection(left, right, expected):
    assert filters_intersect(left, right) is expected
    assert filters_intersect(right, left) is expected


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b", "\ud800", "x" * 65_536, "/".join("a" * 129)])
def test_bad_topics_are_refused(topic):
    with pytest.raises(TopicError):
        check_topic(topic)


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", "x" * 65_535, "/".join("a" * 128), "grün/ß"])
def test_good_topics_pass(topic):
    check_topic(topic)


@pytest.mark.parametrize("pattern", ["#/a", "a#", "a+/b", "+a", "a/#/b", "", "a\0", "++"])
def test_bad_filters_are_refused(pattern):
    with pytest.raises(TopicError):
        check_filter(pattern)


def test_a_literal_level_is_more_specific_than_a_wildcard():
    ranked = sorted(["#", "+/b", "a/#", "a/+", "a/b"], key=specificity)
    assert ranked == ["#", "+/b", "a/#", "a/+", "a/b"]
