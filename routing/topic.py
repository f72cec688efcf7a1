"""Topics and topic filters: the MQTT grammar, which is the canonical one here.

Levels split by "/"; in a filter "+" stands for one level and "#" (last) for the rest and the parent itself.
A topic that begins with "$" is not matched by a filter that begins with a wildcard [MQTT-4.7.2-1].
Sources: MQTT 5 §4.7; limits of design: 65,535 bytes, 128 levels.
"""
from __future__ import annotations

from routing.errors import TopicError, TopicLimitError

TOPIC_BYTES_MAX = 65_535
TOPIC_LEVELS_MAX = 128
KEPT_CHARS_MAX = 512        # what was worked out for a longer topic is not kept: those are rare, and 60 KB each


def check_topic(topic: str) -> None:
    """Raise TopicError unless topic is a topic name that an event may carry."""
    _check_text(topic, "topic")
    if "+" in topic or "#" in topic:                                        # [MQTT-3.3.2-2]
        raise TopicError("a topic must not contain the wildcards + and #")
    _check_levels(topic, "topic")


def check_filter(pattern: str) -> None:
    """Raise TopicError unless pattern is a topic filter."""
    _check_text(pattern, "topic filter")
    if "+" in pattern or "#" in pattern:
        levels = pattern.split("/")
        for index, level in enumerate(levels):
            if "#" in level and (level != "#" or index != len(levels) - 1):     # [MQTT-4.7.1-1]
                raise TopicError("# must be the whole last level of a topic filter")
            if "+" in level and level != "+":                                   # [MQTT-4.7.1-2]
                raise TopicError("+ must be a whole level of a topic filter")
    _check_levels(pattern, "topic filter")


def _check_text(text: str, what: str) -> None:
    if not text:                                                            # [MQTT-4.7.3-1]
        raise TopicError(f"a {what} must not be empty")
    if "\0" in text:                                                        # [MQTT-4.7.3-2]
        raise TopicError(f"a {what} must not contain U+0000")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise TopicError(f"a {what} must be valid UTF-8") from None
    if size > TOPIC_BYTES_MAX:                                              # [MQTT-4.7.3-3]
        raise TopicError(f"a {what} has at most {TOPIC_BYTES_MAX} bytes, this one has {size}")


def _check_levels(text: str, what: str) -> None:
    if text.count("/") >= TOPIC_LEVELS_MAX:
        raise TopicLimitError(f"a {what} has at most {TOPIC_LEVELS_MAX} levels")


def is_wildcard(pattern: str) -> bool:
    return "+" in pattern or "#" in pattern


def filter_matches(pattern: str, topic: str) -> bool:
    """True when the filter matches the topic. Both must have passed their check."""
    if pattern == topic:
        return True
    if topic[:1] == "$" and pattern[:1] in ("+", "#"):                      # [MQTT-4.7.2-1]
        return False
    wanted = pattern.split("/")
    levels = topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(wanted) == len(levels)


def filter_covers(wide: str, narrow: str) -> bool:
    """True when every topic that narrow matches is matched by wide. narrow may be a topic too."""
    if narrow[:1] == "$" and wide[:1] in ("+", "#"):
        return False
    wides = wide.split("/")
    narrows = narrow.split("/")
    for index, level in enumerate(wides):
        if level == "#":
            return True
        if index >= len(narrows):
            return False
        other = narrows[index]
        if other == "#" or (level != "+" and level != other):
            return False
    return len(wides) == len(narrows)


def filters_intersect(left: str, right: str) -> bool:
    """True when some topic is matched by both filters."""
    if (left[:1] == "$" and right[:1] in ("+", "#")) or (right[:1] == "$" and left[:1] in ("+", "#")):
        return False
    lefts, rights = left.split("/"), right.split("/")
    for one, other in zip(lefts, rights):
        if one == "#" or other == "#":
            return True
        if one != other and one != "+" and other != "+":
            return False
    longer = lefts if len(lefts) > len(rights) else rights
    shorter = min(len(lefts), len(rights))
    return len(longer) == shorter or longer[shorter] == "#"                 # "a/#" also matches "a"


def specificity(pattern: str) -> tuple[int, ...]:
    """Sort key: of two filters that match one topic, the one with the larger key is more specific."""
    ranks = {"#": 0, "+": 1}
    return tuple(ranks.get(level, 2) for level in pattern.split("/"))
